"""One request on its way: forwarded to its upstream and relayed, or answered with a denial.

An ``Exchange`` lives as long as its request. It owns everything that belongs to this request alone:
its authorization, the upstream connection that it borrowed, the relay between the two sockets,
and the log entry. Whatever happens, the request gets exactly one answer, the connection is given
back, and the log entry says how it ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from sidecar.auth.credential_cache import CachedCredential
from sidecar.core.connection_auth import authenticates_connection
from sidecar.core.credentials import CredentialRules
from sidecar.core.error_location import error_location
from sidecar.core.errors import Fault, Overloaded, UpstreamBroken, UpstreamUnreachable
from sidecar.core.headers import CLOSE, KEEP_ALIVE, WEBSOCKET, read_expectations
from sidecar.core.model import Credential, Denial
from sidecar.core.policy import Principal
from sidecar.core.problems import PROBLEM_TYPES, denial_for, status_of
from sidecar.core.request_heads import Downstream
from sidecar.core.response_heads import build_response_head
from sidecar.core.routes import Route
from sidecar.core.targets import Target
from sidecar.core.times import to_rfc3339
from sidecar.observability.access_log import RequestLog
from sidecar.observability.fault_log import FaultLog
from sidecar.proxy.answers import http_date, render, render_preflight
from sidecar.proxy.header_cache import ParsedHeaders
from sidecar.proxy.health_probe import render_ready
from sidecar.proxy.rules import Rules, UpstreamHandle
from sidecar.proxy.streams import LiveStreams, Stream
from sidecar.wire.client import ClientConnection
from sidecar.wire.deadlines import NEVER
from sidecar.wire.relay import Relay
from sidecar.wire.requests import Request, RequestRefused
from sidecar.wire.responses import ResponseHead

_log = logging.getLogger("sidecar")

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110, 9.2.2
_CLOSING_STATUSES: Final = frozenset({400, 408, 413, 414, 431})
_UNAUTHORIZED: Final = 401
_NO_CONTENT: Final = 204
_CUT: Final = "cut"  # in the log alone: a stream that lost its authorization


class Authorization:
    """Whether one request may pass: what is asked, and what was found out as it was judged.

    ``client`` is the caller's address: the peer's, or the one that a trusted peer names.
    ``cached`` is the credential in the headers, and replaced if the query holds one.

    ``target`` and ``route`` are set together with ``is_routed``. ``query`` is what remains once
    credentials are taken out. ``credential`` is the one that the route accepted, and ``principal``
    is who proved to be calling: both are ``None`` if nobody did on a public route. ``ignored`` is
    why such a route took a credential for none. ``is_preflight``: a page asks whether it may call,
    and ``route`` is what it may call. ``is_granted`` becomes true last of all.
    """

    target: Target
    route: Route

    __slots__ = (
        "cached",
        "client",
        "credential",
        "headers",
        "ignored",
        "is_granted",
        "is_preflight",
        "is_routed",
        "method",
        "principal",
        "query",
        "raw_target",
        "route",
        "rules",
        "target",
    )

    def __init__(
        self,
        headers: ParsedHeaders,
        cached: CachedCredential,
        method: str,
        raw_target: str,
        peer: str,
        is_trusted: bool,
    ) -> None:
        """``is_trusted``: what ``peer`` says of earlier hops is believed."""
        if is_trusted:
            scan, proxies = headers.scan, headers.rules.trusted_proxies
            peer = proxies.caller_of(peer, scan.forwarded_for, scan.forwarded)
        self.rules: Rules = headers.rules
        self.headers = headers
        self.cached = cached
        self.method = method
        self.raw_target = raw_target
        self.client = peer
        self.is_routed = False
        self.is_preflight = False
        self.query: str | None = None
        self.credential: Credential | None = None
        self.principal: Principal | None = None
        self.ignored: Denial | None = None
        self.is_granted = False

    def __repr__(self) -> str:
        return f"<Authorization {self.method} is_granted={self.is_granted}>"

    def deny(self, denial: Denial) -> Denial | None:
        """Return a denial of the credential, or ``None`` if the route lets the request pass as one
        without any.
        """
        if not self.route.ignores_bad:
            return denial
        self.ignored = denial
        self.credential = self.principal = None
        self.is_granted = True
        return None

    @property
    def names(self) -> CredentialRules:
        """Where credentials are looked for: on the route, or on any if there is none."""
        rules = self.rules
        if not self.is_routed:
            return rules.all_credentials
        return self.route.credentials or rules.credentials

    @property
    def is_answered_here(self) -> bool:
        """Tell whether this is a preflight that the service is not asked about."""
        cors = self.route.cors if self.is_preflight else None
        return cors is not None and cors.answers

    def preflight_lines(self) -> bytes:
        """Return the lines that answer a preflight."""
        cors = self.route.cors
        return b"" if cors is None else cors.preflight_lines(self.headers.cors)

    def cors_lines(self) -> bytes:
        """Return the lines by which a page of another origin can read our own answer."""
        cors = self.route.cors if self.is_routed else None
        return b"" if cors is None else cors.lines(self.headers.cors.origin)

    @property
    def hides_credential(self) -> bool:
        """Tell whether a credential was taken out of the query (RFC 6750 section 2.3)."""
        return self.query != self.target.query

    def upstream_target(self, upstream: UpstreamHandle) -> str:
        """Return the request target that the upstream gets: in origin form, without credentials
        unless the upstream is to have them.
        """
        target = self.target
        query = target.query if upstream.forwards_credentials else self.query
        return target.path if query is None else f"{target.path}?{query}"

    def identity(self, now: Callable[[], float]) -> bytes:
        """Return the lines that tell the upstream who is calling; ``now`` returns Unix seconds."""
        principal, rules = self.principal, self.rules
        if principal is None:
            return b""
        lines = rules.identity.lines(principal)
        if rules.assertion is not None:
            lines += rules.assertion.line(principal, self.route.upstream, now())
        return lines

    def near_end(self, now: Callable[[], float]) -> float | None:
        """Return when the token ends, in Unix seconds, if callers are to be warned of it by now."""
        principal = self.principal
        if principal is None or principal.record is None or principal.record.expires_at is None:
            return None
        ends = principal.record.expires_at
        return ends if ends - now() <= self.rules.expiry_notice_seconds else None


class ExchangeContext:
    """What the exchanges of one process share. ``now`` returns Unix seconds."""

    __slots__ = ("faults", "now", "streams")

    def __init__(self, streams: LiveStreams, faults: FaultLog, now: Callable[[], float]) -> None:
        self.streams = streams
        self.faults = faults
        self.now = now


class Exchange:
    """One request of a client and its answer. ``rules`` are those that it is judged by.

    ``forward`` sets ``authorization``, ``upstream`` and ``relay``; a denied request has none.
    """

    authorization: Authorization
    upstream: UpstreamHandle
    relay: Relay

    __slots__ = (
        "_context",
        "_stream",
        "authorization",
        "client",
        "downstream",
        "log",
        "relay",
        "request",
        "rules",
        "upstream",
    )

    def __init__(
        self,
        context: ExchangeContext,
        rules: Rules,
        client: ClientConnection,
        downstream: Downstream,
        request: Request,
        log: RequestLog,
    ) -> None:
        self._context = context
        self.rules = rules
        self.client = client
        self.downstream = downstream
        self.request = request
        self.log = log
        self._stream: Stream | None = None

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} status={self.log.status}>"

    # Forward.

    async def forward(self, authorization: Authorization) -> bool:
        """Forward the request, relay the answer; ``True`` if the connection may serve another.

        Raises a ``Fault`` or ``RequestRefused`` when there is no answer to relay.
        """
        assert authorization.is_granted
        client, log = self.client, self.log
        self.authorization = authorization
        self.upstream = authorization.rules.upstreams[authorization.route.upstream]
        await self._send()
        relay, pool = self.relay, self.upstream.pool
        connection = relay.upstream
        try:
            response = connection.reader.head
            assert response is not None
            log.status = response.status
            log.upstream_seconds = client.now() - log.started
            if response.authenticates_connection:
                pool.bind(connection, client.bound)
            if connection.reader.is_upgraded:
                await self.tunnel(response)
                return False
            stays = self._begin_answer(response)
            if not connection.reader.is_complete and not await self._relay_rest():
                return False
            if stays and self.request.is_complete:
                return True
            client.close_lingering()
            return False
        finally:
            log.bytes_out = relay.relayed_bytes
            client.relay = None
            if self._stream is not None:
                self._stop_watching()
            pool.give_back(connection)

    async def _send(self) -> None:
        """Send the request and wait for the head of its answer; retry once on a stale connection.

        A retry is safe only for an idempotent request without a body, on a connection that had
        served before and of whose answer not one byte has come (RFC 9110 section 9.2.2).
        """
        client, request, log = self.client, self.request, self.log
        upstream, scan = self.upstream, self.authorization.headers.scan
        pool = upstream.pool
        head = self._request_head()
        expects_continue = (
            bool(scan.expect) and bool(read_expectations(scan.expect)) and not client.speaks_1_0
        )
        is_bound = upstream.forwards_credentials and authenticates_connection(scan.authorization)
        connection = pool.take_idle(log, client.bound)
        if connection is None:
            log.upstream = pool.destination.address
            connection = await pool.connect(log)
        log.upstream = connection.address
        may_retry = request.length == 0 and request.method in _IDEMPOTENT
        while True:
            may_retry = may_retry and connection.served > 0
            if is_bound:
                pool.bind(connection, client.bound)
            relay = Relay(client, connection, request, upstream.timeouts, expects_continue)
            self.relay = relay
            try:
                relay.start(head)
                if not (request.is_complete and await connection.answered_soon()):
                    self._watch()
                    await connection.answered()
            except BaseException as error:
                client.relay, client.deadline = None, NEVER
                self._stop_watching()
                pool.give_back(connection)
                if relay.refusal is not None:
                    raise relay.refusal from None
                if not (may_retry and isinstance(error, UpstreamUnreachable)):
                    raise
            else:
                return
            may_retry = False
            pool.retries += 1
            connection = await pool.connect(log)

    def _request_head(self) -> bytes:
        """Return the head that the upstream gets."""
        request, log, downstream = self.request, self.log, self.downstream
        authorization, upstream = self.authorization, self.upstream
        target, headers = authorization.target, authorization.headers
        scan, heads = headers.scan, upstream.heads
        request_id, traceparent = log.request_id.encode(), log.traceparent.encode()
        host = scan.host[0] if scan.host else upstream.authority
        is_anonymous = not scan.request_id and not scan.traceparent
        needs_own_lines = upstream.forwards_credentials and headers.slot is not None
        if target.authority is None and is_anonymous and not needs_own_lines:
            lines = headers.forwarded_lines(heads, downstream.is_trusted)
        else:
            if target.authority is not None:  # RFC 9112 section 3.2.2
                host = target.authority.encode()
            lines = heads.keep(
                request.headers,
                scan,
                is_trusted=downstream.is_trusted,
                host=host,
                request_id=request_id,
                traceparent=traceparent,
            )
        return heads.build(
            request.method.encode(),
            authorization.upstream_target(upstream).encode(),
            lines,
            scan,
            downstream=downstream,
            host=host,
            request_id=request_id,
            traceparent=traceparent,
            identity=authorization.identity(self._context.now),
            is_http_10=request.version[1] == 0,
            is_websocket=request.wants_upgrade,
        )

    # Relay.

    def _begin_answer(self, response: ResponseHead) -> bool:
        """Send the answer's head and what has come of its body.

        ``True`` if the connection may serve another request once the answer has ended.
        """
        client, request, relay = self.client, self.request, self.relay
        authorization = self.authorization
        lasts_until_close = response.has_body and response.length is None
        is_chunked = lasts_until_close and not client.speaks_1_0
        stays = (
            request.keeps_alive
            and not request.wants_upgrade
            and not relay.awaits_continue
            and not client.is_draining
            and not (lasts_until_close and client.speaks_1_0)
            and (request.is_complete or not relay.upstream.reader.is_complete)
        )
        ends = authorization.near_end(self._context.now)
        extra = b"" if ends is None else _expiry_line(ends)
        if not response.has_date:
            extra += b"Date: %b\r\n" % http_date()
        cors = authorization.route.cors
        if cors is not None and not authorization.is_preflight:
            extra += cors.lines_beside(authorization.headers.cors.origin, response.headers)
        head = response.build(
            CLOSE if not stays else KEEP_ALIVE if client.speaks_1_0 else b"",
            is_chunked=is_chunked,
            is_private=authorization.hides_credential,
            extra=extra,
        )
        relay.begin_answer(head, is_chunked)
        return stays

    async def _relay_rest(self) -> bool:
        """Wait for the end of an answer that has begun; ``False`` if it broke off."""
        try:
            self._watch()
            await self.relay.upstream.finished()
        except Fault as fault:
            refusal = self.relay.refusal
            if refusal is None:
                self.log.code = fault.code
                self.log.detail = denial_for(fault.code).detail
                self._context.faults.note(fault, self.log.request_id)
            else:
                self.log.code, self.log.detail = refusal.code, refusal.detail
            self._break_off()
            return False
        return True

    def _break_off(self) -> None:
        """End an answer that lacks its end, so that the caller can tell.

        In the middle of an upload, what has been relayed must arrive, as it may say why the service
        left: the caller tells by the framing, unless that is the end of the connection.
        """
        head, client = self.relay.upstream.reader.head, self.client
        is_framed = head is not None and (head.length is not None or not client.speaks_1_0)
        if is_framed and self.relay.refusal is None and not self.request.is_complete:
            client.close_lingering()
        else:
            client.abort()

    async def tunnel(self, response: ResponseHead) -> None:
        """Pass bytes both ways until the upstream has ended, or the client has left."""
        head = build_response_head(
            response.status, response.reason, response.headers, connection=WEBSOCKET
        )
        self.relay.begin_tunnel(head)
        try:
            self._watch()
            await self.relay.upstream.finished()
        except (UpstreamBroken, Overloaded) as fault:
            if isinstance(fault, Overloaded):
                self.log.code = fault.code
                self.log.detail = denial_for(fault.code).detail
            self.client.abort()
        else:
            self.client.close_lingering()

    # Long exchanges.

    def _watch(self) -> None:
        """From here on, end the exchange as soon as its caller loses the authorization."""
        authorization = self.authorization
        principal, credential = authorization.principal, authorization.credential
        if principal is None or credential is None or self._stream is not None:
            return
        method, path = self.request.method, authorization.target.path
        stream = Stream(principal, credential, authorization.rules, method, path, self._cut)
        self._stream = stream
        self._context.streams.enter(stream)

    def _stop_watching(self) -> None:
        if self._stream is not None:
            self._context.streams.leave(self._stream)
            self._stream = None

    def _cut(self, denial: Denial) -> None:
        """End the exchange early: with the denial, or by breaking off the answer that has begun."""
        if self.log.status:
            self.log.code, self.log.detail = _CUT, denial.detail
            self.client.abort()
        else:
            self.client.refuse(RequestRefused(denial.code, denial.detail))

    # Answer without the service.

    def deny(self, denial: Denial, lines: bytes = b"") -> bool:
        """Answer with a denial; ``True`` if the connection may serve another request.

        ``lines`` are header lines to add.
        """
        if self.log.status:
            self.client.abort()  # an answer has begun; a second one must not be read as its body
            return False
        status = PROBLEM_TYPES[denial.code].status
        stays = self._skips_body() and status not in _CLOSING_STATUSES
        is_head = self.request.method == "HEAD"
        answer(self.client, self.log, denial, self.rules, lines, closes=not stays, is_head=is_head)
        return self._end(stays)

    def answer_preflight(self, authorization: Authorization) -> bool:
        """Tell a page what it may do; ``True`` if the connection may serve another request."""
        log, stays = self.log, self._skips_body()
        log.status = _NO_CONTENT
        lines, connection = authorization.preflight_lines(), self._connection(stays)
        self.client.write(render_preflight(lines, log.request_id, connection))
        return self._end(stays)

    def say_ready(self) -> bool:
        """Answer a health probe with 200; ``True`` if the connection may serve another request."""
        stays = self._skips_body()
        is_head = self.request.method == "HEAD"
        self.client.write(render_ready(self._connection(stays), is_head_request=is_head))
        return self._end(stays)

    def _connection(self, stays: bool) -> bytes:
        """Return the ``Connection`` line of an answer."""
        if not stays:
            return CLOSE
        return KEEP_ALIVE if self.client.speaks_1_0 else b""

    def _end(self, stays: bool) -> bool:
        """Close the connection unless it ``stays``, which is returned."""
        if not stays:
            self.client.close_lingering()
        return stays

    def _skips_body(self) -> bool:
        """Skip the body of a request that isn't forwarded; ``True`` if the connection may stay."""
        client, request = self.client, self.request
        client.account = ""
        if not request.is_complete:
            client.reader.skip_small_body()
        return (
            request.keeps_alive
            and request.is_complete
            and not request.wants_upgrade
            and not client.is_draining
        )


def answer(
    client: ClientConnection,
    log: RequestLog,
    denial: Denial,
    rules: Rules,
    lines: bytes = b"",
    *,
    closes: bool = True,
    is_head: bool = False,
) -> None:
    """Send the response to a denial, and log it. ``lines`` are header lines to add. ``is_head``:
    the request's method is HEAD.
    """
    log.code, log.detail = denial.code, denial.detail
    log.status = status_of(denial)
    is_challenge = log.status == _UNAUTHORIZED
    response = render(
        denial,
        log.request_id,
        challenge=rules.challenges.fields(denial, log.forms) if is_challenge else b"",
        closes=closes,
        keeps_alive_1_0=client.speaks_1_0 and not closes,
        is_head_request=is_head,
        lines=lines,
    )
    client.write(response)


def denial_of(error: Exception, request_id: str, faults: FaultLog) -> Denial:
    """Return what a caller is told of an error that a request met. What went wrong is logged.

    A refusal says so itself. A ``Fault`` is an outage, of which at most one line a second is
    logged. Anything else is a bug of ours; its message could quote a credential, so only its place
    is logged.
    """
    if isinstance(error, RequestRefused):
        return error.denial
    if isinstance(error, Fault):
        faults.note(error, request_id)
        return denial_for(error.code)
    _log.error("request %s failed: %s", request_id, error_location(error))
    return denial_for("internal_error")


@lru_cache(maxsize=4096)
def _expiry_line(expires_at: float) -> bytes:
    return b"X-Token-Expires: %b\r\n" % to_rfc3339(expires_at).encode()
