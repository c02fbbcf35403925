"""The hot path: one request, from its head to its answer.

``serve`` runs one client's connection, ``_handle`` one request of it. Read downwards, a request is
*judged* here, then an ``Exchange`` forwards or denies it. A denial is a value that ``judge``
returns; a fault is an exception, and one place turns both into an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from time import time
from typing import Final

from sidecar.auth.authenticator import Authenticator
from sidecar.auth.credential_cache import CachedCredential
from sidecar.core.credential_faults import spell_out
from sidecar.core.headers import Scan, is_sane_request_id
from sidecar.core.masking import hide_credential, hide_tokens, is_repeated
from sidecar.core.model import Denial
from sidecar.core.policy import accept, is_for
from sidecar.core.policy import judge as judge_policy
from sidecar.core.problems import denial_for
from sidecar.core.request_heads import Downstream
from sidecar.core.routes import RouteMatch
from sidecar.core.targets import path_of
from sidecar.observability.access_log import RequestLog
from sidecar.observability.fault_log import FaultLog
from sidecar.proxy.exchange import Authorization, Exchange, ExchangeContext, answer, denial_of
from sidecar.proxy.header_cache import read_headers
from sidecar.proxy.health_probe import ALLOWED, BAD_METHOD, is_probe
from sidecar.proxy.rules import Rules
from sidecar.proxy.streams import LiveStreams
from sidecar.tokens.last_use import LastUses
from sidecar.wire.client import ClientConnection
from sidecar.wire.requests import Request, RequestRefused

_log = logging.getLogger("sidecar")

_FIRST_ID: Final = 1 << 60  # from here on every number has sixteen hexadecimal digits
_TWO_DIGITS: Final = [f"{number:02x}" for number in range(256)]
_MOST_UNROUTED_CHARS: Final = 1024  # of the path that is logged: it may be anything
_CLIENT_GONE: Final = 499  # as nginx logs it; nobody receives it


async def _is_ready() -> str | None:
    return None


class Gateway:
    """Judges and forwards. ``rules`` is replaced as a whole when the configuration changes."""

    def __init__(
        self,
        rules: Rules,
        authenticator: Authenticator,
        last_uses: LastUses,
        streams: LiveStreams,
        write_entry: Callable[[RequestLog, float], None],
        now: Callable[[], float] = time,
    ) -> None:
        self.rules = rules
        self.streams = streams
        self._authenticator = authenticator
        self._last_uses = last_uses
        self._write_entry = write_entry
        self._faults = FaultLog(_log)
        self._context = ExchangeContext(streams, self._faults, now)
        self._id_prefix = os.urandom(8).hex()
        self.why_not_ready: Callable[[], Awaitable[str | None]] = _is_ready
        """Returns the code of what keeps the process from serving; ``None``: nothing does."""
        self._next_id = _FIRST_ID + int.from_bytes(os.urandom(3), "big")
        self._id_stem = _stem_of(self._id_prefix, self._next_id)

    async def serve(self, client: ClientConnection) -> None:
        """Serve a client's connection: its requests one after another, in order."""
        downstream = self._downstream_of(client)
        began = client.now()
        while True:
            try:
                request = await client.next_request()
            except RequestRefused as refusal:
                log = RequestLog(began, client.peer)
                log.request_id = self.new_id()
                answer(client, log, refusal.denial, self.rules)
                self._write_entry(log, client.now())
                client.close_lingering()
                return
            if request is None:
                client.close()
                return
            log = RequestLog(client.now(), client.peer)
            probe = self.rules.health_path
            if probe and is_probe(request.target, probe):
                if not await self._answer_probe(client, downstream, request, log):
                    return
                continue
            try:
                stays = await self._handle(client, downstream, request, log)
            finally:
                log.bytes_in = request.received_bytes
                began = client.now()
                self._write_entry(log, began)
            if not stays:
                return

    async def _answer_probe(
        self, client: ClientConnection, downstream: Downstream, request: Request, log: RequestLog
    ) -> bool:
        """Answer a health probe; ``True`` if the connection may serve another request."""
        exchange = Exchange(self._context, self.rules, client, downstream, request, log)
        log.request_id = self.new_id()
        if request.method not in ALLOWED:
            return exchange.deny(BAD_METHOD)
        code = await self.why_not_ready()
        return exchange.say_ready() if code is None else exchange.deny(denial_for(code))

    async def _handle(
        self, client: ClientConnection, downstream: Downstream, request: Request, log: RequestLog
    ) -> bool:
        """Answer one request; ``True`` if the connection may serve another."""
        rules = self.rules
        exchange = Exchange(self._context, rules, client, downstream, request, log)
        authorization: Authorization | None = None
        try:
            headers, cached = read_headers(rules, request)
            authorization = Authorization(
                headers, cached, request.method, request.target, client.peer, downstream.is_trusted
            )
            denial = await self.judge(authorization, log)
            if request.head is not None:
                has_passed = denial is None and authorization.principal is not None
                client.reader.cache_head(request, has_passed=has_passed)
            if denial is not None:
                sent, names = request.headers, authorization.names
                told = spell_out(denial, names, sent, request.target, log.forms)
                return exchange.deny(told, authorization.cors_lines())
            if authorization.is_answered_here:
                return exchange.answer_preflight(authorization)
            client.account = log.account
            return await exchange.forward(authorization)
        except asyncio.CancelledError:
            log.status = log.status or _CLIENT_GONE
            raise
        except Exception as error:
            client.reader.cache_head(request, has_passed=False)
            lines = b"" if authorization is None else authorization.cors_lines()
            return exchange.deny(denial_of(error, log.request_id, self._faults), lines)

    # Judge: decide, then note.

    async def judge(self, asked: Authorization, log: RequestLog) -> Denial | None:
        """Decide whether a request may pass: target, route, credential, caller, policy, in order.

        Return the denial, or ``None``: it may pass. What was found out is noted in ``log``, however
        this ends. Raises a ``Fault`` when it can't be decided.
        """
        rules, headers, cached = asked.rules, asked.headers, asked.cached
        try:
            place: RouteMatch | Denial | None = None
            if rules.routes.has_cors and asked.method == "OPTIONS":
                place = _find_preflight(asked)
                asked.is_preflight = place is not None
            if place is None:
                place = rules.routes.find(asked.method, asked.raw_target)
            if isinstance(place, Denial):
                return headers.denial or place
            asked.is_routed = True
            asked.target, path, asked.route, readings = place
            if headers.denial is not None:
                return headers.denial
            route, query = asked.route, asked.target.query
            if query:
                names = route.credentials or rules.credentials
                if names.are_in(query):
                    found, query = names.extract(headers.scan, query)
                    asked.cached = cached = CachedCredential(found)
            asked.query = query
            if (
                route.public and not (route.identifies and is_for(cached.credential, route.forms))
            ) or asked.is_preflight:
                asked.is_granted = True
                return None
            credential = accept(cached.credential, route.forms)
            if isinstance(credential, Denial):
                return asked.deny(credential)
            asked.credential = credential
            authenticator, client = self._authenticator, asked.client
            caller = authenticator.cached_principal(rules, cached, credential, client)
            if caller is None:
                caller = await authenticator.identify(rules, cached, credential, client)
            if isinstance(caller, Denial):
                return asked.deny(caller)
            asked.principal = caller
            account = rules.accounts.get(caller.account)
            denial = judge_policy(route, account, caller.record, path, readings)
            if denial is not None:
                return asked.deny(denial)
            asked.is_granted = True
            return None
        finally:
            self._note(asked, log)

    def _note(self, asked: Authorization, log: RequestLog) -> None:
        """Note what was found out: in the log, in the cache of credentials, as a token's use.

        A client's own request id and trace go into logs, into the answer and to the upstream,
        unless they repeat its credential.
        """
        rules, scan, cached = asked.rules, asked.headers.scan, asked.cached
        log.method = asked.method
        log.client = asked.client
        if not asked.is_routed:
            cached = self._find_unrouted(asked)
            path = hide_credential(path_of(asked.method, asked.raw_target), cached.credential)
            if len(path) > _MOST_UNROUTED_CHARS:  # masked first: half a token is none to the mask
                path = hide_tokens(path, rules.token_prefix)[:_MOST_UNROUTED_CHARS]
            log.path = path
        elif asked.headers.denial is None:
            log.path = hide_credential(asked.target.path, cached.credential)
            log.route = asked.route.name
            log.forms = asked.route.forms
        given = scan.traceparent
        if given and is_repeated(given[0].decode("latin-1"), cached.credential):
            given = ()
        if given or rules.traces.begins:
            log.traceparent, log.parent_id = rules.traces.find(given)
        log.request_id = self._id_for(scan, rules, cached) if scan.request_id else self.new_id()
        if asked.credential is not None:
            log.form = asked.credential.form
        principal = asked.principal
        if principal is not None:
            log.account = principal.account
            record = principal.record
            if record is not None:
                log.token_id = record.id
                if asked.is_granted and record.digest:  # a foreign JWT has none
                    self._last_uses.note(record.digest, asked.client)
        if cached.key and cached.is_cacheable:
            rules.seen.put(cached)

    def _find_unrouted(self, asked: Authorization) -> CachedCredential:
        """Return the credential of a request that has no route: no log line may repeat it."""
        credentials = asked.rules.all_credentials
        if not credentials.are_in_query_of(asked.raw_target):
            return asked.cached
        _, _, query = asked.raw_target.partition("?")
        return CachedCredential(credentials.extract(asked.headers.scan, query)[0])

    # Names of requests and connections.

    def _id_for(self, scan: Scan, rules: Rules, cached: CachedCredential) -> str:
        """Return the client's own request id if it's the only one, sane, and no token; or a new
        one.
        """
        given = scan.request_id
        if len(given) == 1 and is_sane_request_id(given[0]):
            text = given[0].decode("ascii")
            is_token = hide_tokens(text, rules.token_prefix) != text
            if not is_token and not is_repeated(text, cached.credential):
                return text
        return self.new_id()

    def new_id(self) -> str:
        """Return a request id that no other request of this or any other process has."""
        number = self._next_id
        self._next_id = number + 1
        if not number % 256:
            self._id_stem = _stem_of(self._id_prefix, number)
        return self._id_stem + _TWO_DIGITS[number % 256]

    def _downstream_of(self, client: ClientConnection) -> Downstream:
        proxies = self.rules.trusted_proxies
        return Downstream(
            client.peer,
            b"https" if client.is_tls else b"http",
            proxies if proxies.is_trusted(client.peer) else None,
        )


def _stem_of(prefix: str, number: int) -> str:
    """Return what a request's id begins with: all but the last two digits of its number."""
    return prefix + hex(number // 256)[2:]


def _find_preflight(asked: Authorization) -> RouteMatch | None:
    """Return the place that an ``OPTIONS`` request asks about as a page's preflight, if it is one.

    That is the place of the method that the page wants to use, if its route allows the page's
    origin (``core.cors``).
    """
    fields = asked.headers.cors
    if not fields.method:
        return None
    place = asked.rules.routes.look_up(fields.method, asked.raw_target)
    if isinstance(place, Denial):
        return None
    cors = place.route.cors
    return place if cors is not None and cors.allows(fields.origin) else None
