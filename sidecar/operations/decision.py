"""``/auth``: a proxy in front asks whether a request may pass, and gets our own proxy's verdict.

``Gateway.judge`` decides. A 200 carries the identity for the service and, in ``X-Auth-Uri``, the
target without credentials. A refusal is a 401 or a 403, because nginx's ``auth_request`` accepts
nothing else; ``X-Auth-Status`` and ``X-Auth-Code`` say what our own proxy would have answered. A
front that can pass on any status asks for ``/auth?statuses=all``, or appends the target to
``/auth`` as Envoy does. A 503 means "I don't know" and is never a refusal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from time import time
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from sidecar.core.credential_faults import spell_out
from sidecar.core.forwarded import peer_address
from sidecar.core.headers import Headers
from sidecar.core.model import Denial
from sidecar.core.problems import MEDIA_TYPE, PROBLEM_TYPES, problem_document, status_of
from sidecar.core.times import to_rfc3339
from sidecar.observability.access_log import RequestLog
from sidecar.observability.fault_log import FaultLog
from sidecar.operations.original import (
    PATH,
    check_line,
    find_misleading,
    find_original,
    own_target,
)
from sidecar.proxy.exchange import Authorization, denial_of
from sidecar.proxy.gateway import Gateway
from sidecar.proxy.header_cache import ParsedHeaders
from sidecar.proxy.rules import Rules

_log = logging.getLogger("sidecar")

_ALL_STATUSES: Final = f"{PATH}?statuses=all"
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_FIRST_OF_FAULTS: Final = 500


class Decisions:
    """Answers ``/auth`` for one gateway, and gives ``write_entry`` one log entry per answer.

    ``now`` returns Unix seconds.
    """

    def __init__(
        self,
        gateway: Gateway,
        write_entry: Callable[[RequestLog, float], None],
        now: Callable[[], float] = time,
    ) -> None:
        self._gateway = gateway
        self._write_entry = write_entry
        self._now = now
        self._faults = FaultLog(_log)

    def add_to(self, app: web.Application) -> None:
        """Answer ``/auth`` and everything below it, whatever the method."""
        for path in (PATH, PATH + "/{target:.*}"):
            app.router.add_route("*", path, self.decide, expect_handler=_send_no_continue)

    async def decide(self, request: web.Request) -> web.Response:
        """Answer one question."""
        loop = asyncio.get_running_loop()
        entry = RequestLog(loop.time(), peer_address(request.remote))
        entry.request_id = self._gateway.new_id()
        rules = self._gateway.rules
        try:
            asked = self._find_question(request, rules, entry)
            denial = asked if isinstance(asked, Denial) else await self._judge(asked, entry)
            if denial is None:
                assert isinstance(asked, Authorization)
                entry.status = 200
                return web.Response(headers=self._pass(asked, entry))
            lines = b"" if isinstance(asked, Denial) else asked.cors_lines()
            return _refuse(denial, rules, entry, lines, takes_all=_takes_all(request.raw_path))
        finally:
            self._write_entry(entry, loop.time())

    def _find_question(
        self, request: web.Request, rules: Rules, entry: RequestLog
    ) -> Authorization | Denial:
        """Return what is asked about, or why it can't be judged."""
        headers: Headers = request.raw_headers
        original = find_original(request.method, request.raw_path, headers)
        if isinstance(original, Denial):
            return original
        denial = check_line(original, asyncio.get_running_loop())
        if denial is not None:
            return denial
        entry.method = original.method  # known to HTTP: any other could be anything, even a token
        denial = find_misleading(rules.headers, headers)
        if denial is not None:
            return denial
        parsed = ParsedHeaders(rules, headers)
        return Authorization(
            parsed,
            parsed.cached,
            original.method,
            original.target,
            peer=entry.client,
            is_trusted=rules.trusted_proxies.is_trusted(entry.client),
        )

    async def _judge(self, asked: Authorization, entry: RequestLog) -> Denial | None:
        """Decide whether the request in question may pass; here, a fault is a denial as well."""
        try:
            denial = await self._gateway.judge(asked, entry)
        except Exception as error:
            return denial_of(error, entry.request_id, self._faults)
        if denial is None:
            return None
        sent = asked.headers.headers
        return spell_out(denial, asked.names, sent, asked.raw_target, entry.forms)

    def _pass(self, authorization: Authorization, entry: RequestLog) -> CIMultiDict[str]:
        """Return the headers that the proxy in front puts into the request and the answer."""
        upstream = authorization.rules.upstreams[authorization.route.upstream]
        fields = CIMultiDict(_read_lines(authorization.identity(self._now)))
        for value in _lone_user_names(authorization):
            fields.add(*value)
        fields["X-Auth-Uri"] = authorization.upstream_target(upstream)
        fields["X-Request-Id"] = entry.request_id
        fields["Cache-Control"] = "no-store"
        if authorization.hides_credential:
            fields["X-Auth-Cache-Control"] = "private"  # RFC 6750 section 2.3
        ends = authorization.near_end(self._now)
        if ends is not None:
            fields["X-Token-Expires"] = to_rfc3339(ends)
        return fields


def _refuse(
    denial: Denial, rules: Rules, entry: RequestLog, lines: bytes, *, takes_all: bool
) -> web.Response:
    """Answer no. ``lines`` let a page of another origin read that, where they are passed on."""
    row, status = PROBLEM_TYPES[denial.code], status_of(denial)
    entry.code, entry.detail = denial.code, denial.detail
    entry.status = status
    # A 501 is a refusal all the same: its code has a status below 500.
    if not takes_all and status != _UNAUTHORIZED and row.status < _FIRST_OF_FAULTS:
        entry.status = _FORBIDDEN
    fields = {
        "X-Auth-Status": str(status),
        "X-Auth-Code": denial.code,
        "X-Request-Id": entry.request_id,
        "Cache-Control": "no-store",
    }
    fields.update(_read_lines(lines))
    if row.status == _UNAUTHORIZED:
        # In one field: nginx before 1.23 hands on only the first of several.
        lines = rules.challenges.fields(denial, entry.forms)
        fields["WWW-Authenticate"] = ", ".join(value for _, value in _read_lines(lines))
    retry_after = denial.retry_after_seconds or row.retry_after_seconds
    if retry_after is not None:
        fields["Retry-After"] = str(retry_after)
    if denial.allow:
        fields["Allow"] = ", ".join(denial.allow)
    return web.Response(
        body=problem_document(denial, entry.request_id),
        status=entry.status,
        headers=fields,
        content_type=MEDIA_TYPE,
    )


def _lone_user_names(authorization: Authorization) -> Iterator[tuple[str, str]]:
    """Yield the fields of a user name that no password came with: the service is to have them.

    A proxy in front may not be able to tell whether a password came that was empty.
    """
    pair, scan = authorization.rules.credentials.pair, authorization.headers.scan
    if pair is None or scan.passwords:
        return
    for value in scan.user_names:
        if value.isascii():
            yield pair.account, value.decode("ascii")


def _takes_all(raw_target: str) -> bool:
    target = own_target(raw_target)
    return target == _ALL_STATUSES or target.startswith(f"{PATH}/")


def _read_lines(lines: bytes) -> Iterator[tuple[str, str]]:
    for line in lines.decode("latin-1").splitlines():
        name, _, value = line.partition(": ")
        yield name, value


async def _send_no_continue(request: web.Request) -> None:
    """Leave ``Expect`` alone: the caller sent it to the service, not to us."""
