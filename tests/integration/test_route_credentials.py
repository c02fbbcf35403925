"""What a route says of its credentials: optional ones, and parameters of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.passwords import hash_password
from sidecar.core.tokens import digest
from tests.in_process import TOKEN, Peer, Proxy, on_uvloop, running_proxy

PASSWORD = "correct horse battery staple"
LIMITED, OFF = "a-token-for-other-paths", "a-token-of-a-disabled-account"
APP = "a-token-of-the-application"
BEARER = f"Authorization: Bearer {TOKEN}"
ROUTES: list[dict[str, Any]] = [
    {"path": "/refuse/**", "credentials": "optional"},
    {"path": "/ignore/**", "public": True, "credentials": "optional", "bad_credentials": "ignore"},
    {"path": "/tokens/**", "credentials": {"optional": True, "basic": False}},
    {"path": "/own/**", "credentials": {"query": ["key"]}},
    {"path": "/none/**", "credentials": {"query": []}},
    {"path": "/open/**", "public": True, "credentials": {"query": []}},
    {"path": "/**"},
]
ACCOUNTS = {"acme": {"password_hash": hash_password(PASSWORD)}, "off": {"disabled": True}}


def basic(pair: str) -> str:
    return f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}"


def record_of(token: str, account: str, **more: Any) -> TokenRecord:
    return TokenRecord(
        id=f"id{digest(token)[:9]}",
        account=account,
        name=token[:20],
        kind=TokenKind.IMPORTED,
        digest=digest(token),
        created_at=time.time(),
        expires_at=None,
        **more,
    )


class Stage:
    """A proxy, and a service that shows what reached it."""

    def __init__(self, proxy: Proxy, heads: list[bytes]) -> None:
        self.proxy = proxy
        self.heads = heads

    async def ask(self, target: str, *lines: str, method: str = "GET") -> tuple[int, str]:
        """Return the status, and the code of the refusal."""
        caller = await self.proxy.caller()
        head = [f"{method} {target} HTTP/1.1", "Host: service", *lines, "", ""]
        await caller.send("\r\n".join(head).encode())
        answer, body = await caller.response()
        status = int(answer.split()[1])
        return status, "" if status == 200 else json.loads(body)["code"]

    def arrived(self) -> tuple[str, list[str]]:
        """Return the target of the last request at the service, and its identity."""
        lines = self.heads[-1].decode().split("\r\n")
        named = [line for line in lines if line.lower().replace("_", "-").startswith("x-account")]
        assert TOKEN not in "".join(lines[1:])
        return lines[0].split()[1], [line.partition(": ")[2] for line in named]


@asynccontextmanager
async def staged(**more: Any) -> AsyncIterator[Stage]:
    heads: list[bytes] = []

    async def answer(peer: Peer) -> None:
        while head := await peer.until(b"\r\n\r\n"):
            heads.append(head)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with running_proxy(answer, routes=ROUTES, accounts=ACCOUNTS, **more) as proxy:
        await proxy.store.create(record_of(LIMITED, "acme", paths=("/elsewhere",)))
        await proxy.store.create(record_of(OFF, "off"))
        yield Stage(proxy, heads)


GOOD: Mapping[str, tuple[str, list[str]]] = {
    "bearer": ("/{}/a", [BEARER]),
    "header": ("/{}/a", [f"access_token: {TOKEN}"]),
    "query": (f"/{{}}/a?token={TOKEN}", []),
    "basic": ("/{}/a", [basic(f"acme:{PASSWORD}")]),
    "twice": (f"/{{}}/a?token={TOKEN}", [BEARER]),
}
BAD: Mapping[str, tuple[str, list[str], tuple[int, str]]] = {
    "unknown": ("/{}/a", ["access_token: nobody-knows-this-one"], (401, "invalid_token")),
    "in the query": ("/{}/a?token=nobody-knows-this-one", [], (401, "invalid_token")),
    "malformed": ("/{}/a", ["Authorization: Digest x"], (401, "malformed_credentials")),
    "empty": ("/{}/a", ["Authorization: Bearer"], (401, "malformed_credentials")),
    "too short": ("/{}/a", ["access_token: x"], (401, "malformed_credentials")),
    "ambiguous": ("/{}/a", [BEARER, f"access_token: {OFF}"], (400, "ambiguous_credentials")),
    "password": ("/{}/a", [basic("acme:wrong")], (401, "invalid_password")),
    "disabled": ("/{}/a", [f"access_token: {OFF}"], (403, "account_disabled")),
    "elsewhere": ("/{}/a", [f"access_token: {LIMITED}"], (403, "not_allowed")),
}


@pytest.mark.parametrize("route", ["refuse", "ignore"])
@pytest.mark.parametrize("form", GOOD)
@on_uvloop
async def test_a_good_optional_credential_gives_its_identity(route: str, form: str) -> None:
    target, lines = GOOD[form]
    async with staged() as stage:
        for _ in range(3):  # by the caches as well
            assert await stage.ask(target.format(route), *lines) == (200, "")
            assert stage.arrived() == (f"/{route}/a", ["acme"])
            assert stage.proxy.entries[-1].account == "acme"


@pytest.mark.parametrize("route", ["refuse", "ignore", "tokens"])
@pytest.mark.parametrize("spoofed", ["X-Account: admin", "x_account: admin", "Accept: */*"])
@on_uvloop
async def test_without_a_credential_everyone_passes_and_nobody_is_named(
    route: str, spoofed: str
) -> None:
    async with staged() as stage:
        for _ in range(3):
            assert await stage.ask(f"/{route}/a?b=1", spoofed) == (200, "")
            assert stage.arrived() == (f"/{route}/a?b=1", [])
        entry = stage.proxy.entries[-1]
        assert (entry.account, entry.form, entry.route) == ("", "", f"/{route}/**")


@pytest.mark.parametrize("kind", BAD)
@on_uvloop
async def test_a_bad_optional_credential_is_refused_by_default(kind: str) -> None:
    target, lines, refusal = BAD[kind]
    async with staged() as stage:
        for _ in range(2):
            assert await stage.ask(target.format("refuse"), *lines) == refusal
        assert not stage.heads


@pytest.mark.parametrize("kind", BAD)
@on_uvloop
async def test_a_bad_optional_credential_counts_as_none_where_it_is_ignored(kind: str) -> None:
    target, lines, _ = BAD[kind]
    async with staged() as stage:
        for _ in range(2):
            sent = (*lines, "X-Account: admin")
            assert await stage.ask(target.format("ignore"), *sent) == (200, "")
            assert stage.arrived() == ("/ignore/a", [])
            entry = stage.proxy.entries[-1]
            assert (entry.account, entry.token_id, entry.form) == ("", "", "")
            received = stage.heads[-1]
            assert b"uthorization" not in received
            assert b"access_token" not in received


@on_uvloop
async def test_a_form_that_an_optional_route_does_not_take_is_none() -> None:
    async with staged() as stage:
        assert await stage.ask("/tokens/a", basic("acme:wrong")) == (200, "")
        assert stage.arrived() == ("/tokens/a", [])
        assert await stage.ask("/tokens/a", BEARER) == (200, "")
        assert stage.arrived() == ("/tokens/a", ["acme"])


@pytest.mark.parametrize("route", ["refuse", "ignore"])
@on_uvloop
async def test_an_optional_credential_that_cannot_be_judged_is_503(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def be_away(*_: str) -> TokenRecord | None:
        raise StoreUnavailable("no answer within 250 ms")

    async with staged() as stage:
        monkeypatch.setattr(stage.proxy.gateway._authenticator, "_look_up_token", be_away)
        assert (await stage.ask(f"/{route}/a", BEARER))[0] == 503
        assert await stage.ask(f"/{route}/a") == (200, "")


@on_uvloop
async def test_one_connection_may_send_all_of_them_in_any_order() -> None:
    async with staged() as stage:
        caller = await stage.proxy.caller()
        sent = [BEARER, "A: b", "access_token: nobody-knows-this-one", BEARER, "A: b"]
        for line in sent * 2:
            head = f"GET /ignore/a HTTP/1.1\r\nHost: service\r\n{line}\r\n\r\n"
            await caller.send(head.encode())
            await caller.response()
            assert stage.arrived() == ("/ignore/a", ["acme"] if line == BEARER else [])


# Parameters of a route's own.


@pytest.mark.parametrize(
    ("target", "lines", "arrived", "account"),
    [
        ("/own/a?token=app&b=1", [BEARER], "/own/a?token=app&b=1", "acme"),
        (f"/own/a?token=app&key={TOKEN}&b=1", [], "/own/a?token=app&b=1", "acme"),
        (f"/own/a?token=app&%6bey={TOKEN}", [], "/own/a?token=app", "acme"),
        (f"/own/a?key={TOKEN}&token=app", [BEARER], "/own/a?token=app", "acme"),
        (f"/own/a?access_token={APP}", [BEARER], f"/own/a?access_token={APP}", "acme"),
        (f"/own/a?token={APP}&key={TOKEN}", [], f"/own/a?token={APP}", "acme"),
        ("/own/a?token=", [f"access_token: {TOKEN}"], "/own/a?token=", "acme"),
        ("/none/a?token=app&key=1", [BEARER], "/none/a?token=app&key=1", "acme"),
        ("/open/a?token=app&access_token=x", [], "/open/a?token=app&access_token=x", ""),
        (f"/else/a?key=app&token={TOKEN}", [], "/else/a?key=app", "acme"),
        (f"/refuse/a?key=app&token={TOKEN}", [], "/refuse/a?key=app", "acme"),
        ("/else/a?key=app", [BEARER], "/else/a?key=app", "acme"),
    ],
)  # fmt: skip
@on_uvloop
async def test_a_route_reads_its_own_parameters_and_leaves_the_service_its_own(
    target: str, lines: list[str], arrived: str, account: str
) -> None:
    async with staged() as stage:
        caller = await stage.proxy.caller()
        for _ in range(3):
            head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: service", *lines, "", ""])
            await caller.send(head.encode())
            answer, _ = await caller.response()
            assert answer.startswith(b"HTTP/1.1 200")
            received, identity = stage.arrived()
            assert (received, identity) == (arrived, [account] if account else [])


@pytest.mark.parametrize(
    ("target", "lines", "code"),
    [
        (f"/own/a?token={TOKEN}", [], "missing_credentials"),
        ("/own/a?key=nobody-knows-this-one", [BEARER], "ambiguous_credentials"),
        ("/own/a?key=x", [], "malformed_credentials"),
        (f"/none/a?key={TOKEN}&token={TOKEN}", [], "missing_credentials"),
        ("/else/a?token=app", [BEARER], "ambiguous_credentials"),
        (f"/else/a?key={TOKEN}", [], "missing_credentials"),
    ],
)
@on_uvloop
async def test_a_parameter_counts_on_the_routes_that_name_it_and_on_no_other(
    target: str, lines: list[str], code: str
) -> None:
    async with staged() as stage:
        for _ in range(2):
            assert (await stage.ask(target, *lines))[1] == code


@on_uvloop
async def test_requests_that_share_headers_are_told_apart_by_their_own_query() -> None:
    """The shared header section holds no secret, so a query must not be weighed against it."""
    async with staged() as stage:
        caller = await stage.proxy.caller()
        other = "another-token-of-acme"
        await stage.proxy.store.create(record_of(other, "acme"))
        asked = [
            ("/own/a", TOKEN, 200),
            ("/own/a", TOKEN, 200),
            (f"/own/a?key={TOKEN}", TOKEN, 200),
            (f"/own/a?key={other}", TOKEN, 400),
            (f"/own/a?token={other}", TOKEN, 200),
            (f"/own/a?key={other}", other, 200),
        ]
        for target, token, status in asked * 2:
            head = f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
            await caller.send(head.encode())
            answer, _ = await caller.response()
            assert int(answer.split()[1]) == status, target
            if status != 200:
                caller = await stage.proxy.caller()


@pytest.mark.parametrize("name", ["key", "token", "access_token"])
@on_uvloop
async def test_a_referer_carries_no_parameter_that_is_a_credential_on_any_route(name: str) -> None:
    async with staged() as stage:
        await stage.ask("/else/a", BEARER, f"Referer: http://a/own/a?{name}={TOKEN}&b=1")
        assert b"\r\nReferer: http://a/own/a?b=1\r\n" in stage.heads[-1]


@pytest.mark.parametrize("target", [f"/%2e/{TOKEN}?key={TOKEN}", f"/../{TOKEN}?token={TOKEN}"])
@on_uvloop
async def test_the_log_of_a_request_without_a_route_masks_what_any_route_calls_a_credential(
    target: str,
) -> None:
    async with staged() as stage:
        await stage.ask(target)
        assert TOKEN not in stage.proxy.entries[-1].path


@on_uvloop
async def test_a_stream_that_began_with_an_optional_identity_ends_with_it() -> None:
    begun = asyncio.Event()

    async def stream(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        begun.set()
        await peer.rest()

    async with running_proxy(stream, routes=ROUTES, accounts=ACCOUNTS) as proxy:
        caller = await proxy.caller()
        await caller.send(f"GET /ignore/a HTTP/1.1\r\nHost: a\r\n{BEARER}\r\n\r\n".encode())
        await begun.wait()
        await caller.until(b"hi")
        await proxy.settle(lambda: len(proxy.gateway.streams) == 1)
        known = await proxy.store.look_up(digest(TOKEN))
        assert known is not None
        await proxy.store.revoke(known)
        proxy.gateway.streams.on_tokens_changed(None)
        await caller.rest()
        await proxy.settle(lambda: len(proxy.entries) == 1)
        assert proxy.entries[-1].code == "cut"
