"""The hot path: one request, start to finish.

``serve`` is one caller's connection. ``_handle`` is the life of a request, read downwards: *judge*
it, and if it may pass, *forward* it and *relay* the answer; whatever else happens becomes exactly
one answer. A denial is a value and comes back from ``judge``; a fault is an exception and is
caught in one place.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from time import time
from typing import Final

from sidecar.auth.authenticator import Authenticator
from sidecar.core.connection_auth import authenticates_connection
from sidecar.core.credentials import accept
from sidecar.core.error_location import error_location
from sidecar.core.errors import Fault, Overloaded, UpstreamBroken, UpstreamUnreachable
from sidecar.core.headers import CLOSE, KEEP_ALIVE, WEBSOCKET, Scan, is_sane_request_id
from sidecar.core.masking import hide_credential, hide_tokens, is_repeated
from sidecar.core.model import Credential, Denial
from sidecar.core.policy import Principal
from sidecar.core.policy import judge as judge_policy
from sidecar.core.request_heads import Downstream
from sidecar.core.response_heads import build_response_head
from sidecar.core.routes import Route
from sidecar.core.targets import Target, path_of
from sidecar.core.times import to_rfc3339
from sidecar.observability.access_log import RequestLog
from sidecar.observability.fault_log import FaultLog
from sidecar.proxy.answers import ANSWERS, denial_for, render
from sidecar.proxy.reading import Claim, Claims, Reading
from sidecar.proxy.rules import Rules, UpstreamHandle
from sidecar.proxy.streams import LiveStreams, Stream
from sidecar.tokens.last_use import LastUses
from sidecar.wire.client import ClientConnection
from sidecar.wire.deadlines import NEVER
from sidecar.wire.relay import Relay
from sidecar.wire.requests import Request, RequestRefused
from sidecar.wire.responses import ResponseHead

_log = logging.getLogger("sidecar")

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_CLOSING_STATUSES: Final = frozenset({400, 408, 413, 414, 431})
_UNAUTHORIZED: Final = 401
_CUT: Final = "cut"  # in the log alone: a stream that could no longer pass
_FIRST_ID: Final = 1 << 60  # from here on all have sixteen hex digits
_CLIENT_GONE: Final = 499  # as nginx logs it; nobody receives it


class Authorized:
    """The verdict that a request may pass, and all that forwarding it needs.

    ``query`` is what remains of it once credentials are taken out; ``principal`` is ``None`` on a
    public route, ``credential`` what it was found out by. ``stream`` is how a long exchange is
    watched.
    """

    __slots__ = ("credential", "principal", "query", "reading", "route", "stream", "target")

    def __init__(
        self,
        route: Route,
        target: Target,
        reading: Reading,
        query: str | None,
        principal: Principal | None,
        credential: Credential | None = None,
    ) -> None:
        self.route = route
        self.target = target
        self.reading = reading
        self.query = query
        self.principal = principal
        self.credential = credential
        self.stream: Stream | None = None


class Gateway:
    """Judges and forwards. ``rules`` is replaced as a whole when the configuration changes."""

    def __init__(
        self,
        rules: Rules,
        callers: Authenticator,
        last_uses: LastUses,
        streams: LiveStreams,
        write_entry: Callable[[RequestLog, float], None],
        now: Callable[[], float] = time,
    ) -> None:
        self.rules = rules
        self._callers = callers
        self._last_uses = last_uses
        self.streams = streams
        self._write_entry = write_entry
        self._now = now
        self._id_prefix = os.urandom(8).hex()
        self._faults = FaultLog(_log)
        self._claims = Claims()
        self._ids = count(_FIRST_ID + int.from_bytes(os.urandom(3), "big"))

    async def serve(self, client: ClientConnection) -> None:
        """Serve a caller's connection: its requests one after another, in order."""
        downstream = self._downstream_of(client)
        began = client.now()
        while True:
            try:
                request = await client.next_request()
            except RequestRefused as refusal:
                entry = RequestLog(began, client.peer)
                entry.request_id = self.new_id()
                self._answer(client, entry, Denial(refusal.code, refusal.detail))
                self._finish(client, entry)
                client.close_lingering()
                return
            if request is None:
                client.close()
                return
            entry = RequestLog(client.now(), client.peer)
            try:
                stays = await self._handle(client, request, downstream, entry)
            finally:
                entry.bytes_in = request.received_bytes
                began = self._finish(client, entry)
            if not stays:
                return

    async def _handle(
        self, client: ClientConnection, request: Request, downstream: Downstream, entry: RequestLog
    ) -> bool:
        """Answer one request; ``True`` if the connection may serve another."""
        rules = self.rules
        try:
            reading, claim = self._read(rules, request)
            verdict = await self.judge(
                reading,
                claim,
                request.method,
                request.target,
                entry,
                is_trusted=downstream.is_trusted,
            )
            if request.head is not None:
                has_passed = isinstance(verdict, Authorized) and verdict.principal is not None
                client.reader.remember(request, has_passed=has_passed)
            if isinstance(verdict, Denial):
                return self._deny(client, request, entry, verdict)
            client.account = "" if verdict.principal is None else verdict.principal.account
            return await self._forward(client, request, downstream, entry, verdict)
        except RequestRefused as refusal:
            return self._deny(client, request, entry, Denial(refusal.code, refusal.detail))
        except Fault as fault:
            self._faults.note(fault, entry.request_id)
            client.reader.remember(request, has_passed=False)
            return self._deny(client, request, entry, denial_for(fault.code))
        except asyncio.CancelledError:
            entry.status = entry.status or _CLIENT_GONE
            raise
        except Exception as error:
            _log.error("request %s failed: %s", entry.request_id, error_location(error))
            return self._deny(client, request, entry, denial_for("internal_error"))

    # Judge.

    def _read(self, rules: Rules, request: Request) -> tuple[Reading, Claim]:
        """Return what a request's header section says, and whom it claims to come from."""
        fields = request.fields
        reading: Reading | None = fields.known
        if reading is None or reading.rules is not rules:
            reading = fields.known = Reading(rules, fields.headers, fields.cut)
        if fields.cut < 0:
            return reading, reading.claim
        if reading.is_shared and not rules.credentials.are_in_query_of(request.target):
            return reading, self._claims.read(reading, request.secret)
        reading = Reading(rules, request.headers)
        return reading, reading.claim

    async def judge(
        self,
        reading: Reading,
        claim: Claim,
        method: str,
        raw_target: str,
        entry: RequestLog,
        *,
        is_trusted: bool,
    ) -> Authorized | Denial:
        """Say whether a request may pass: target, route, credential, policy, in this order.

        ``claim`` is what the headers claim; a credential in the query adds to that of ``reading``.
        Fills in ``entry`` as it learns. Raises a ``Fault`` when that can't be known.
        """
        rules, scan = reading.rules, reading.scan
        entry.method = method
        self._tag(entry, reading, claim)
        if is_trusted and scan.forwarded_for:
            entry.client = rules.caller_of(entry.client, scan.forwarded_for)
        place = rules.routes.find(method, raw_target)
        if isinstance(place, Denial):
            self._note_refused(entry, reading, claim, raw_target)
            return reading.denial or place
        if reading.denial is not None:
            return reading.denial
        target, path, route, readings = place
        entry.path = hide_credential(target.path, claim.credential)
        entry.route = route.name
        entry.forms = route.forms
        query = target.query
        if query and rules.credentials.are_in(query):
            found, query = rules.credentials.extract(scan, query)
            claim = Claim(found)
            if scan.request_id or scan.traceparent:
                self._tag(entry, reading, claim)
            entry.path = hide_credential(target.path, claim.credential)
        if route.public:
            return Authorized(route, target, reading, query, None)
        credential = accept(claim.credential, route.forms)
        if isinstance(credential, Denial):
            return credential
        entry.form = credential.form
        callers, caller = self._callers, entry.client
        principal = callers.recall(rules, claim, credential, caller)
        if principal is None:
            principal = await callers.identify(rules, claim, credential, caller)
        if claim.key and claim.is_worth_keeping:
            self._claims.keep(claim)
        if isinstance(principal, Denial):
            return principal
        entry.account = principal.account
        record = principal.record
        if record is not None:
            entry.token_id = record.id
        account = rules.accounts.get(principal.account)
        denial = judge_policy(route, account, record, path, readings)
        if denial is not None:
            return denial
        if record is not None and record.digest:
            self._last_uses.note(record.digest, entry.client)
        return Authorized(route, target, reading, query, principal, credential)

    # Forward and relay.

    async def _forward(
        self,
        client: ClientConnection,
        request: Request,
        downstream: Downstream,
        entry: RequestLog,
        authorized: Authorized,
    ) -> bool:
        lane = authorized.reading.rules.upstreams[authorized.route.upstream]
        head = self._request_head(request, downstream, entry, authorized, lane)
        relay = await self._exchange(client, request, lane, head, entry, authorized)
        upstream = relay.upstream
        try:
            response = upstream.reader.head
            assert response is not None
            entry.status = response.status
            entry.upstream_seconds = client.now() - entry.started
            if response.authenticates_connection:
                lane.pool.bind(upstream, client.bound)
            if upstream.reader.is_upgraded:
                return await self._tunnel(client, relay, response, entry, authorized)
            stays = self._begin_answer(client, request, relay, response, authorized)
            is_whole = upstream.reader.is_complete
            if not is_whole and not await self._sends_rest(client, relay, entry, authorized):
                return False
            if stays and request.is_complete:
                return True
            client.close_lingering()
            return False
        finally:
            entry.bytes_out = relay.relayed_bytes
            client.relay = None
            if authorized.stream is not None:
                self.streams.leave(authorized.stream)
            lane.pool.give_back(upstream)

    async def _exchange(
        self,
        client: ClientConnection,
        request: Request,
        lane: UpstreamHandle,
        head: bytes,
        entry: RequestLog,
        authorized: Authorized,
    ) -> Relay:
        """Send the request and wait for the answer's head; once more if the connection had gone
        stale.

        A second try is safe only for an idempotent request (RFC 9110 section 9.2.2) without a
        body that drew no byte of an answer from a connection that had served before.
        """
        pool = lane.pool
        scan = authorized.reading.scan
        expects_continue = bool(scan.expect) and not client.speaks_1_0
        is_bound = lane.forwards_credentials and authenticates_connection(scan.authorization)
        upstream = pool.take_idle(entry, client.bound)
        if upstream is None:
            entry.upstream = pool.destination.address
            upstream = await pool.connect(entry)
        entry.upstream = upstream.address
        may_retry = request.length == 0 and request.method in _IDEMPOTENT
        while True:
            may_retry = may_retry and upstream.served > 0
            if is_bound:
                pool.bind(upstream, client.bound)
            relay = Relay(client, upstream, request, lane.timeouts, expects_continue)
            try:
                relay.start(head)
                if not (request.is_complete and await upstream.answered_soon()):
                    self._watch(client, request, entry, authorized)
                    await upstream.answered()
            except BaseException as error:
                client.relay, client.deadline = None, NEVER
                if authorized.stream is not None:
                    self.streams.leave(authorized.stream)
                    authorized.stream = None
                pool.give_back(upstream)
                if relay.refusal is not None:
                    raise relay.refusal from None
                if not (may_retry and isinstance(error, UpstreamUnreachable)):
                    raise
            else:
                return relay
            may_retry = False
            pool.retries += 1
            upstream = await pool.connect(entry)

    def _begin_answer(
        self,
        client: ClientConnection,
        request: Request,
        relay: Relay,
        response: ResponseHead,
        authorized: Authorized,
    ) -> bool:
        """Send the answer on from here; ``True`` if the connection may serve another afterwards."""
        lasts_until_close = response.has_body and response.length is None
        is_chunked = lasts_until_close and not client.speaks_1_0
        stays = (
            request.keeps_alive
            and not request.wants_upgrade
            and not relay.awaits_continue
            and not client.is_draining
            and not (lasts_until_close and client.speaks_1_0)
        )
        head = response.build(
            CLOSE if not stays else KEEP_ALIVE if client.speaks_1_0 else b"",
            is_chunked=is_chunked,
            is_private=authorized.query != authorized.target.query,
            extra=self._notice(authorized),
        )
        relay.begin_answer(head, is_chunked)
        return stays

    async def _sends_rest(
        self, client: ClientConnection, relay: Relay, entry: RequestLog, authorized: Authorized
    ) -> bool:
        """Wait for the end of an answer that has begun; ``False`` if it broke off."""
        try:
            self._watch(client, relay.request, entry, authorized)
            await relay.upstream.finished()
        except Fault as fault:
            refusal = relay.refusal
            if refusal is None:
                entry.code = fault.code
                self._faults.note(fault, entry.request_id)
            else:
                entry.code = refusal.code
            client.abort()
            return False
        return True

    async def _tunnel(
        self,
        client: ClientConnection,
        relay: Relay,
        response: ResponseHead,
        entry: RequestLog,
        authorized: Authorized,
    ) -> bool:
        """Pass bytes both ways until the upstream has ended, or the caller is gone."""
        head = build_response_head(
            response.status, response.reason, response.headers, connection=WEBSOCKET
        )
        relay.begin_tunnel(head)
        try:
            self._watch(client, relay.request, entry, authorized)
            await relay.upstream.finished()
        except (UpstreamBroken, Overloaded) as fault:
            if isinstance(fault, Overloaded):
                entry.code = fault.code
            client.abort()
        else:
            client.close_lingering()
        return False

    def _watch(
        self, client: ClientConnection, request: Request, entry: RequestLog, authorized: Authorized
    ) -> None:
        """From here on the exchange is a long one, and ends early if its caller may no longer
        pass: with the denial, or within its answer.
        """
        principal, credential = authorized.principal, authorized.credential
        if principal is None or credential is None or authorized.stream is not None:
            return

        def cut(denial: Denial) -> None:
            if entry.status:
                entry.code = _CUT
                client.abort()
            else:
                client.refuse(RequestRefused(denial.code, denial.detail))

        rules, path = authorized.reading.rules, authorized.target.path
        stream = Stream(principal, credential, rules, request.method, path, cut)
        authorized.stream = stream
        self.streams.enter(stream)

    def _notice(self, authorized: Authorized) -> bytes:
        """Return the line that tells a caller of a token that ends soon."""
        ends = authorized.reading.rules.near_end_of(authorized.principal, self._now())
        return b"" if ends is None else _expiry_line(ends)

    def _request_head(
        self,
        request: Request,
        downstream: Downstream,
        entry: RequestLog,
        authorized: Authorized,
        lane: UpstreamHandle,
    ) -> bytes:
        target, reading, principal = authorized.target, authorized.reading, authorized.principal
        scan, heads = reading.scan, lane.heads
        query = target.query if lane.forwards_credentials else authorized.query
        sent = target.path if query is None else f"{target.path}?{query}"
        request_id, traceparent = entry.request_id.encode(), entry.traceparent.encode()
        is_kept = not (lane.forwards_credentials and reading.is_shared)
        if target.authority is None and not scan.request_id and not scan.traceparent and is_kept:
            host = scan.host[0] if scan.host else lane.authority
            kept = reading.kept_lines(heads, downstream.is_trusted)
        else:
            host = _asked_host(target, scan, lane)
            kept = heads.keep(
                request.headers,
                scan,
                is_trusted=downstream.is_trusted,
                host=host,
                request_id=request_id,
                traceparent=traceparent,
            )
        return heads.build(
            request.method.encode(),
            sent.encode(),
            kept,
            scan,
            downstream=downstream,
            host=host,
            request_id=request_id,
            traceparent=traceparent,
            identity=b""
            if principal is None
            else reading.rules.identity_of(principal, authorized.route.upstream, self._now()),
            is_http_10=request.version[1] == 0,
            is_websocket=request.wants_upgrade,
        )

    # Answer.

    def _deny(
        self, client: ClientConnection, request: Request, entry: RequestLog, denial: Denial
    ) -> bool:
        """Answer with a denial; ``True`` if the connection may serve another request."""
        if entry.status:
            client.abort()  # an answer has begun; a second one must not be read as its body
            return False
        client.account = ""
        if not request.is_complete:
            client.reader.skip_small_body()
        stays = (
            ANSWERS[denial.code].status not in _CLOSING_STATUSES
            and request.keeps_alive
            and request.is_complete
            and not request.wants_upgrade
            and not client.is_draining
        )
        self._answer(client, entry, denial, request.method == "HEAD", closes=not stays)
        if not stays:
            client.close_lingering()
        return stays

    def _answer(
        self,
        client: ClientConnection,
        entry: RequestLog,
        denial: Denial,
        is_head_request: bool = False,
        *,
        closes: bool = True,
    ) -> None:
        rules = self.rules
        entry.code = denial.code
        entry.status = ANSWERS[denial.code].status
        is_challenge = entry.status == _UNAUTHORIZED
        answer = render(
            denial,
            entry.request_id,
            challenge=rules.challenges.fields(denial, entry.forms) if is_challenge else b"",
            closes=closes,
            keeps_alive_1_0=client.speaks_1_0 and not closes,
            is_head_request=is_head_request,
        )
        client.write(answer)

    def _finish(self, client: ClientConnection, entry: RequestLog) -> float:
        """Note the request, however it ended; return when."""
        now = client.now()
        self._write_entry(entry, now)
        return now

    # Identity of requests and connections.

    def _downstream_of(self, client: ClientConnection) -> Downstream:
        scheme = b"https" if client.is_tls else b"http"
        return Downstream(
            client.peer.encode("ascii", "replace"), scheme, self.rules.is_trusted(client.peer)
        )

    def _tag(self, entry: RequestLog, reading: Reading, claim: Claim) -> None:
        """Give a request its id and its trace: the caller's own, unless they hold a token.

        Both go into logs, answers and to the upstream.
        """
        rules, scan = reading.rules, reading.scan
        given = scan.traceparent
        if given and is_repeated(given[0].decode("latin-1"), claim.credential):
            given = ()
        entry.traceparent, entry.parent_id = rules.traces.find(given)
        entry.request_id = (
            self._id_for(scan.request_id, claim, rules.token_prefix)
            if scan.request_id
            else self.new_id()
        )

    def _note_refused(
        self, entry: RequestLog, reading: Reading, claim: Claim, raw_target: str
    ) -> None:
        """Note the path of a request that no route was found for, less its own credential."""
        credentials = reading.rules.credentials
        if credentials.are_in_query_of(raw_target):
            _, _, query = raw_target.partition("?")
            claim = Claim(credentials.extract(reading.scan, query)[0])
            self._tag(entry, reading, claim)
        entry.path = hide_credential(path_of(entry.method, raw_target), claim.credential)

    def _id_for(self, given: tuple[bytes, ...], claim: Claim, token_prefix: str) -> str:
        """Return the caller's own request id if it is one and sane and no token, else a new one."""
        if len(given) == 1 and is_sane_request_id(given[0]):
            text = given[0].decode("ascii")
            is_token = hide_tokens(text, token_prefix) != text
            if not is_token and not is_repeated(text, claim.credential):
                return text
        return self.new_id()

    def new_id(self) -> str:
        """Return a request id that no other request of this or any other process has."""
        return self._id_prefix + hex(next(self._ids))[2:]


@lru_cache(maxsize=4096)
def _expiry_line(expires_at: float) -> bytes:
    return b"X-Token-Expires: %b\r\n" % to_rfc3339(expires_at).encode()


def _asked_host(target: Target, scan: Scan, lane: UpstreamHandle) -> bytes:
    """Return the authority that the client asked for (RFC 9112 section 3.2.2)."""
    if target.authority is not None:
        return target.authority.encode()
    return scan.host[0] if scan.host else lane.authority
