"""The hot path: one request, from its head to its answer.

``serve`` runs one client's connection, ``_handle`` one request of it. Read downwards, a request is
*judged* here, then an ``Exchange`` forwards or denies it. A denial is a value that ``judge``
returns; a fault is an exception, and one place turns both into an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from itertools import count
from time import time
from typing import Final

from sidecar.auth.authenticator import Authenticator
from sidecar.auth.credential_cache import CachedCredential, CachedCredentials
from sidecar.core.credentials import accept
from sidecar.core.headers import is_sane_request_id
from sidecar.core.masking import hide_credential, hide_tokens, is_repeated
from sidecar.core.model import Credential, Denial
from sidecar.core.policy import Principal
from sidecar.core.policy import judge as judge_policy
from sidecar.core.request_heads import Downstream
from sidecar.core.routes import RouteMatch
from sidecar.core.targets import path_of
from sidecar.observability.access_log import RequestLog
from sidecar.observability.fault_log import FaultLog
from sidecar.proxy.exchange import Authorized, Exchange, ExchangeContext, answer, denial_of
from sidecar.proxy.header_cache import ParsedHeaders, read_headers
from sidecar.proxy.rules import Rules
from sidecar.proxy.streams import LiveStreams
from sidecar.tokens.last_use import LastUses
from sidecar.wire.client import ClientConnection
from sidecar.wire.requests import Request, RequestRefused

_log = logging.getLogger("sidecar")

_FIRST_ID: Final = 1 << 60  # from here on every number has sixteen hexadecimal digits
_CLIENT_GONE: Final = 499  # as nginx logs it; nobody receives it


class Question:
    """May this request pass? What is asked, and what is found out while it is judged.

    ``client`` is the caller's address, and ``is_trusted`` whether it is believed about earlier
    hops. ``cached`` is the credential in the headers, and then the one that was found in all.
    """

    __slots__ = (
        "accepted",
        "cached",
        "client",
        "headers",
        "is_trusted",
        "matched",
        "method",
        "principal",
        "query",
        "raw_target",
    )

    def __init__(
        self,
        headers: ParsedHeaders,
        cached: CachedCredential,
        method: str,
        raw_target: str,
        client: str,
        is_trusted: bool,
    ) -> None:
        self.headers = headers
        self.cached = cached
        self.method = method
        self.raw_target = raw_target
        self.client = client
        self.is_trusted = is_trusted
        self.matched: RouteMatch | None = None
        self.query: str | None = None
        self.accepted: Credential | None = None
        self.principal: Principal | None = None


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
        self._credentials = CachedCredentials()
        self._id_prefix = os.urandom(8).hex()
        self._ids = count(_FIRST_ID + int.from_bytes(os.urandom(3), "big"))

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
                answer(client, log, Denial(refusal.code, refusal.detail), self.rules)
                self._write_entry(log, client.now())
                client.close_lingering()
                return
            if request is None:
                client.close()
                return
            log = RequestLog(client.now(), client.peer)
            try:
                stays = await self._handle(client, downstream, request, log)
            finally:
                log.bytes_in = request.received_bytes
                began = client.now()
                self._write_entry(log, began)
            if not stays:
                return

    async def _handle(
        self, client: ClientConnection, downstream: Downstream, request: Request, log: RequestLog
    ) -> bool:
        """Answer one request; ``True`` if the connection may serve another."""
        rules = self.rules
        exchange = Exchange(self._context, rules, client, downstream, request, log)
        try:
            headers, cached = read_headers(rules, request, self._credentials)
            question = Question(
                headers, cached, request.method, request.target, client.peer, downstream.is_trusted
            )
            verdict = await self.judge(question, log)
            if request.head is not None:
                has_passed = isinstance(verdict, Authorized) and verdict.principal is not None
                client.reader.cache_head(request, has_passed=has_passed)
            if isinstance(verdict, Denial):
                return exchange.deny(verdict)
            client.account = log.account
            return await exchange.forward(verdict)
        except asyncio.CancelledError:
            log.status = log.status or _CLIENT_GONE
            raise
        except Exception as error:
            client.reader.cache_head(request, has_passed=False)
            return exchange.deny(denial_of(error, log.request_id, self._faults))

    # Judge: decide, then note.

    async def judge(self, question: Question, log: RequestLog) -> Authorized | Denial:
        """Decide whether a request may pass: target, route, credential, caller, policy, in order.

        Whatever comes of it is noted in ``log``. Raises a ``Fault`` when that can't be decided.
        """
        try:
            verdict = self._decide_route(question)
            if verdict is None:
                rules, credential = question.headers.rules, question.accepted
                assert credential is not None
                ask, client = self._authenticator, question.client
                caller = ask.cached_principal(rules, question.cached, credential, client)
                if caller is None:
                    caller = await ask.identify(rules, question.cached, credential, client)
                verdict = self._decide_caller(question, caller)
        finally:
            self._note(question, log)
        if isinstance(verdict, Authorized):
            self._note_use(question)
        return verdict

    def _decide_route(self, question: Question) -> Authorized | Denial | None:
        """Decide all that needs no caller; ``None``: who calls with ``accepted`` decides."""
        headers = question.headers
        rules, scan = headers.rules, headers.scan
        if question.is_trusted and scan.forwarded_for:
            question.client = rules.caller_of(question.client, scan.forwarded_for)
        place = rules.routes.find(question.method, question.raw_target)
        if isinstance(place, Denial):
            return headers.denial or place
        question.matched = place
        if headers.denial is not None:
            return headers.denial
        target, _, route, _ = place
        query = target.query
        if query and rules.credentials.are_in(query):
            found, query = rules.credentials.extract(scan, query)
            question.cached = CachedCredential(found)
        question.query = query
        if route.public:
            return Authorized(route, target, headers, query, None, None)
        accepted = accept(question.cached.credential, route.forms)
        if isinstance(accepted, Denial):
            return accepted
        question.accepted = accepted
        return None

    def _decide_caller(
        self, question: Question, principal: Principal | Denial
    ) -> Authorized | Denial:
        """Decide by who is calling."""
        if isinstance(principal, Denial):
            return principal
        question.principal = principal
        headers, matched = question.headers, question.matched
        assert matched is not None
        target, path, route, readings = matched
        account = headers.rules.accounts.get(principal.account)
        denial = judge_policy(route, account, principal.record, path, readings)
        if denial is not None:
            return denial
        return Authorized(route, target, headers, question.query, principal, question.accepted)

    def _note(self, question: Question, log: RequestLog) -> None:
        """Log what was found out, and cache the credential if it's likely to come again."""
        cached, matched = question.cached, question.matched
        log.method = question.method
        log.client = question.client
        if matched is None:
            cached = self._find_unrouted(question)
            path = path_of(question.method, question.raw_target)
            log.path = hide_credential(path, cached.credential)
        elif question.headers.denial is None:
            target, _, route, _ = matched
            log.path = hide_credential(target.path, cached.credential)
            log.route = route.name
            log.forms = route.forms
        if question.accepted is not None:
            log.form = question.accepted.form
        principal = question.principal
        if principal is not None:
            log.account = principal.account
            if principal.record is not None:
                log.token_id = principal.record.id
        self._name(log, question.headers, cached)
        if cached.key and cached.is_cacheable:
            self._credentials.put(cached)

    def _note_use(self, question: Question) -> None:
        """Note that a token was used, unless it's one that the store has no record of."""
        principal = question.principal
        if principal is not None and principal.record is not None and principal.record.digest:
            self._last_uses.note(principal.record.digest, question.client)

    def _find_unrouted(self, question: Question) -> CachedCredential:
        """Return the credential of a request that has no route: no log line may repeat it."""
        credentials = question.headers.rules.credentials
        if not credentials.are_in_query_of(question.raw_target):
            return question.cached
        _, _, query = question.raw_target.partition("?")
        return CachedCredential(credentials.extract(question.headers.scan, query)[0])

    # Names of requests and connections.

    def _name(self, log: RequestLog, headers: ParsedHeaders, cached: CachedCredential) -> None:
        """Give a request its id and its trace: the client's own, unless they repeat a credential.

        Both go into logs, into the answer and to the upstream.
        """
        rules, scan = headers.rules, headers.scan
        given = scan.traceparent
        if given and is_repeated(given[0].decode("latin-1"), cached.credential):
            given = ()
        log.traceparent, log.parent_id = rules.traces.find(given)
        log.request_id = (
            self._id_for(scan.request_id, cached, rules.token_prefix)
            if scan.request_id
            else self.new_id()
        )

    def _id_for(self, given: tuple[bytes, ...], cached: CachedCredential, token_prefix: str) -> str:
        """Return the client's own request id if it's the only one, sane, and no token; or a new
        one.
        """
        if len(given) == 1 and is_sane_request_id(given[0]):
            text = given[0].decode("ascii")
            is_token = hide_tokens(text, token_prefix) != text
            if not is_token and not is_repeated(text, cached.credential):
                return text
        return self.new_id()

    def new_id(self) -> str:
        """Return a request id that no other request of this or any other process has."""
        return self._id_prefix + hex(next(self._ids))[2:]

    def _downstream_of(self, client: ClientConnection) -> Downstream:
        scheme = b"https" if client.is_tls else b"http"
        return Downstream(
            client.peer.encode("ascii", "replace"), scheme, self.rules.is_trusted(client.peer)
        )
