"""Preflights, and what pages of other origins can read, over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sidecar.cli.explain import explain_head
from sidecar.config.settings import Settings
from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.listener import operations_app
from tests.in_process import TOKEN, Peer, Proxy, on_uvloop, running_proxy

SHOP = "https://shop.example"
ORIGIN = f"Origin: {SHOP}"
ASKING = f"{ORIGIN}\r\nAccess-Control-Request-Method: GET"
BEARER = f"Authorization: Bearer {TOKEN}"
CORS = {"origins": [SHOP], "expose_headers": ["X-Request-Id"], "max_age": "10m"}
ROUTES: list[dict[str, Any]] = [
    {"path": "/items/{id}", "methods": ["GET", "POST"], "cors": CORS},
    {"path": "/items/{id}", "methods": ["DELETE"]},
    {"path": "/items/{id}", "methods": ["PUT"], "cors": {"origins": ["https://other.example"]}},
    {"path": "/own/**", "methods": ["OPTIONS", "GET"], "cors": {**CORS, "preflight": "pass"}},
    {"path": "/open/**", "public": True, "cors": {"origins": ["*"]}},
    {"path": "/cookies", "cors": {"origins": [SHOP, "null"], "credentials": True}},
    {"path": "/few", "cors": {"origins": [SHOP], "headers": ["X-A"], "methods": ["GET"]}},
    {"path": "/plain"},
]
PLAIN = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


class Stage:
    """A proxy before a service that answers with the fields it is told to."""

    def __init__(self, proxy: Proxy, heads: list[bytes]) -> None:
        self.proxy = proxy
        self.heads = heads

    async def ask(self, method: str, target: str, *lines: str) -> tuple[int, dict[str, str], bytes]:
        """Return the status, the CORS fields with ``Vary``, and the body."""
        caller = await self.proxy.caller()
        await caller.send(
            "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode()
        )
        head, body = await caller.response(has_body=method != "HEAD")
        status, fields = read(head)
        return status, fields, body

    async def preflight(
        self, method: str, target: str, *lines: str, origin: str = SHOP
    ) -> tuple[int, dict[str, str]]:
        asked = (f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *lines)
        caller = await self.proxy.caller()
        head = "\r\n".join([f"OPTIONS {target} HTTP/1.1", "Host: a", *asked, "", ""])
        await caller.send(head.encode())
        return read(await caller.until(b"\r\n\r\n"))


def read(head: bytes) -> tuple[int, dict[str, str]]:
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    wanted = {
        name.lower(): value
        for name, _, value in lines
        if name.lower().startswith("access-control-") or name.lower() == "vary"
    }
    return int(head.split()[1]), wanted


@asynccontextmanager
async def staged(*answers: str) -> AsyncIterator[Stage]:
    """``answers``: fields of the service's answer."""
    heads: list[bytes] = []

    async def answer(peer: Peer) -> None:
        while head := await peer.until(b"\r\n\r\n"):
            heads.append(head)
            fields = "".join(f"{line}\r\n" for line in answers)
            await peer.send(f"{PLAIN}{fields}\r\nok".encode())

    async with running_proxy(answer, routes=ROUTES) as proxy:
        yield Stage(proxy, heads)


READABLE = {
    "access-control-allow-origin": SHOP,
    "access-control-expose-headers": "X-Request-Id",
    "vary": "Origin",
}


@on_uvloop
async def test_a_preflight_is_answered_without_a_credential_and_goes_no_further() -> None:
    async with staged() as stage:
        told = await stage.preflight(
            "POST", "/items/7?a=1", "Access-Control-Request-Headers: authorization, x-a"
        )
        assert told == (
            204,
            {
                "access-control-allow-origin": SHOP,
                "access-control-allow-methods": "GET, POST",
                "access-control-allow-headers": "authorization, x-a",
                "access-control-max-age": "600",
                "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            },
        )
        assert stage.heads == []
        entry = stage.proxy.entries[-1]
        assert (entry.method, entry.status, entry.code) == ("OPTIONS", 204, "")
        assert (entry.route, entry.account, entry.form) == ("/items/{id}", "", "")


@pytest.mark.parametrize(
    ("method", "target", "origin", "status"),
    [
        ("GET", "/items/7", SHOP, 204),
        ("GET", "/items/7", "https://evil.example", 405),
        ("GET", "/items/7", "https://shop.example:8443", 405),
        ("GET", "/items/7", "HTTPS://SHOP.EXAMPLE", 405),
        ("GET", "/items/7", "null", 405),
        ("DELETE", "/items/7", SHOP, 405),
        ("PUT", "/items/7", SHOP, 405),
        ("PUT", "/items/7", "https://other.example", 204),
        ("PATCH", "/items/7", SHOP, 405),
        ("GET", "/nowhere", SHOP, 404),
        ("GET", "/plain", SHOP, 401),
        ("GET", "/cookies", SHOP, 204),
        ("PROPFIND", "/cookies", SHOP, 204),
        ("GET", "/cookies", "null", 204),
        ("GET", "/open/a", "null", 204),
        ("GET", "/open/a", "https://anything.example", 204),
        ("OPTIONS", "/cookies", SHOP, 204),
        ("GET", "/items/../7", SHOP, 400),
    ],
)
@on_uvloop
async def test_the_route_of_the_requested_method_decides_on_a_preflight(
    method: str, target: str, origin: str, status: int
) -> None:
    async with staged() as stage:
        told, fields = await stage.preflight(method, target, origin=origin)
        assert told == status
        allowed = fields.get("access-control-allow-origin")
        assert allowed == (None if status != 204 else "*" if "open" in target else origin)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [ORIGIN],
        ["Access-Control-Request-Method: GET"],
        [ORIGIN, "Access-Control-Request-Method:"],
        [ORIGIN, "Access-Control-Request-Method: TRACE"],
        [ORIGIN, "Access-Control-Request-Method: G(ET"],
        [ORIGIN, ORIGIN, "Access-Control-Request-Method: GET"],
        [ORIGIN, *["Access-Control-Request-Method: GET"] * 2],
        [ORIGIN, "Access_Control_Request_Method: GET"],
    ],
)
@on_uvloop
async def test_an_options_request_that_is_no_preflight_needs_a_credential(lines: list[str]) -> None:
    async with staged() as stage:
        status, _, body = await stage.ask("OPTIONS", "/cookies", *lines)
        assert (status, json.loads(body)["code"]) == (401, "missing_credentials")
        assert (await stage.ask("OPTIONS", "/cookies", BEARER, *lines))[0] == 200


@on_uvloop
async def test_a_preflight_is_told_what_a_page_may_do_even_if_it_asks_for_more() -> None:
    async with staged() as stage:
        status, fields = await stage.preflight("PUT", "/few", "Access-Control-Request-Headers: x-b")
        assert status == 204
        assert fields["access-control-allow-methods"] == "GET"
        assert fields["access-control-allow-headers"] == "X-A"


@on_uvloop
async def test_a_preflight_may_be_passed_to_the_service_without_identity_or_credential() -> None:
    async with staged("Access-Control-Allow-Origin: its-own", "Vary: Its-Own") as stage:
        status, fields = await stage.preflight("GET", "/own/a", "X-Account: admin", BEARER)
        assert (status, fields) == (
            200,
            {"access-control-allow-origin": "its-own", "vary": "Its-Own"},
        )
        assert b"OPTIONS /own/a HTTP/1.1" in stage.heads[0]
        assert b"X-Account" not in stage.heads[0]
        assert TOKEN.encode() not in stage.heads[0]
        assert (await stage.preflight("GET", "/own/a", origin="https://evil.example"))[0] == 401
        assert (await stage.ask("OPTIONS", "/own/a", ORIGIN))[0] == 401


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "missing_credentials"),
        (["access_token: nobody-knows-this-one"], "invalid_token"),
        (["Authorization: Digest x"], "malformed_credentials"),
        ([BEARER, "access_token: nobody-knows-this-one"], "ambiguous_credentials"),
        ([BEARER, "Host: a, b"], "bad_request"),
    ],
)
@on_uvloop
async def test_a_page_can_read_why_it_was_refused(lines: list[str], code: str) -> None:
    async with staged() as stage:
        for _ in range(2):
            sent = [line for line in lines if line.startswith("Host")] or ["Host: a"]
            caller = await stage.proxy.caller()
            rest = [line for line in lines if not line.startswith("Host")]
            head = "\r\n".join(["GET /items/7 HTTP/1.1", *sent, ORIGIN, *rest, "", ""])
            await caller.send(head.encode())
            answer, body = await caller.response()
            assert json.loads(body)["code"] == code
            assert read(answer)[1] == READABLE


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        (["Origin: https://evil.example"], {"vary": "Origin"}),
        ([], {"vary": "Origin"}),
        ([ORIGIN, ORIGIN], {"vary": "Origin"}),
    ],
)
@on_uvloop
async def test_other_pages_can_read_neither_refusals_nor_answers(
    lines: list[str], fields: dict[str, str]
) -> None:
    async with staged() as stage:
        assert (await stage.ask("GET", "/items/7", *lines))[:2] == (401, fields)
        assert (await stage.ask("GET", "/items/7", BEARER, *lines))[:2] == (200, fields)


@on_uvloop
async def test_a_page_can_read_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    async def be_away(*_: str) -> TokenRecord | None:
        raise StoreUnavailable("no answer within 250 ms")

    async with staged() as stage:
        monkeypatch.setattr(stage.proxy.gateway._authenticator, "_look_up_token", be_away)
        assert (await stage.ask("GET", "/items/7", BEARER, ORIGIN))[:2] == (503, READABLE)


@on_uvloop
async def test_a_page_can_read_that_the_service_is_away() -> None:
    async with staged() as stage:
        await stage.proxy.upstream.stop()
        assert (await stage.ask("POST", "/items/7", BEARER, ORIGIN))[:2] == (502, READABLE)


@pytest.mark.parametrize(
    ("answers", "fields"),
    [
        ([], READABLE),
        (["Vary: Accept, origin"], {**READABLE, "vary": "Accept, origin"}),
        (["Access-Control-Allow-Origin: *"], {"access-control-allow-origin": "*"}),
        (["access-control-allow-origin: null"], {"access-control-allow-origin": "null"}),
        (
            ["Access-Control-Expose-Headers: Its-Own"],
            {**READABLE, "access-control-expose-headers": "Its-Own"},
        ),
    ],
)
@on_uvloop
async def test_an_answer_gets_only_what_the_service_has_not_set(
    answers: list[str], fields: dict[str, str]
) -> None:
    async with staged(*answers) as stage:
        for _ in range(3):
            assert await stage.ask("GET", "/items/7", BEARER, ORIGIN) == (200, fields, b"ok")


@on_uvloop
async def test_cookies_are_allowed_only_where_the_configuration_says_so() -> None:
    async with staged() as stage:
        _, fields, _ = await stage.ask("GET", "/cookies", BEARER, "Origin: null")
        assert fields == {
            "access-control-allow-origin": "null",
            "access-control-allow-credentials": "true",
            "vary": "Origin",
        }
        _, fields = await stage.preflight("GET", "/cookies")
        assert fields["access-control-allow-credentials"] == "true"
        assert (await stage.ask("GET", "/open/a", ORIGIN))[1] == {
            "access-control-allow-origin": "*"
        }


@pytest.mark.parametrize("target", ["/plain", "/items/7/8", "/nowhere"])
@on_uvloop
async def test_without_cors_nothing_is_said(target: str) -> None:
    async with staged() as stage:
        for lines in ([ORIGIN], [ORIGIN, BEARER]):
            assert (await stage.ask("GET", target, *lines))[1] == {}


@on_uvloop
async def test_one_connection_carries_preflights_and_what_they_announce() -> None:
    async with staged() as stage:
        caller = await stage.proxy.caller()
        asked = f"OPTIONS /items/7 HTTP/1.1\r\nHost: a\r\n{ASKING}\r\n"
        for body in ("", "Content-Length: 3\r\n"):
            await caller.send(f"{asked}{body}\r\n{'abc' if body else ''}".encode())
            assert (await caller.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
            await caller.send(
                f"POST /items/7 HTTP/1.1\r\nHost: a\r\n{ORIGIN}\r\n{BEARER}\r\n\r\n".encode()
            )
            head, answer = await caller.response()
            assert (head.split()[1], answer) == (b"200", b"ok")


@pytest.mark.parametrize(
    ("version", "line", "told"),
    [("1.1", "Connection: close", b"close"), ("1.0", "Connection: keep-alive", b"keep-alive")],
)
@on_uvloop
async def test_the_answer_to_a_preflight_says_what_becomes_of_the_connection(
    version: str, line: str, told: bytes
) -> None:
    async with staged() as stage:
        caller = await stage.proxy.caller()
        head = f"OPTIONS /items/7 HTTP/{version}\r\nHost: a\r\n{ORIGIN}\r\n{line}\r\n"
        await caller.send(f"{head}Access-Control-Request-Method: GET\r\n\r\n".encode())
        answer = await caller.until(b"\r\n\r\n")
        assert b"\r\nConnection: " + told + b"\r\n" in answer
        assert b"ontent-Length" not in answer


@on_uvloop
async def test_the_decision_endpoint_lets_a_preflight_by_and_its_refusals_be_read() -> None:
    async def ping() -> None:
        return None

    async with staged() as stage:
        entries: list[Any] = []
        decisions = Decisions(stage.proxy.gateway, lambda entry, now: entries.append(entry))
        app = operations_app(Health(ping, lambda: False), decisions=decisions)
        async with TestClient(TestServer(app)) as client:
            asked = {
                "X-Original-Method": "OPTIONS",
                "X-Original-URI": "/items/7",
                "Origin": SHOP,
                "Access-Control-Request-Method": "GET",
            }
            async with client.get("/auth", headers=asked) as answer:
                assert (answer.status, "X-Account" in answer.headers) == (200, False)
            asked = {"X-Original-Method": "GET", "X-Original-URI": "/items/7", "Origin": SHOP}
            async with client.get("/auth", headers=asked) as answer:
                assert answer.status == 401
                assert answer.headers["Access-Control-Allow-Origin"] == SHOP
                assert answer.headers["Vary"] == "Origin"
            del asked["Origin"]
            async with client.get("/auth", headers=asked) as answer:
                assert "Access-Control-Allow-Origin" not in answer.headers


@on_uvloop
async def test_a_preflight_is_explained() -> None:
    async with staged() as stage:
        port = stage.proxy.pool.destination.port
        settings = Settings.model_validate(
            {"upstreams": {"service": {"url": f"http://127.0.0.1:{port}"}}, "routes": ROUTES},
            context={"directory": Path()},
        )
        head = f"OPTIONS /items/7 HTTP/1.1\r\nHost: a\r\n{ASKING}\r\n\r\n"
        told = await explain_head(stage.proxy.gateway, settings, head.encode())
        assert (told.passes, told.status, told.upstream) == (True, 204, None)
        assert told.why.startswith(f"a page of {SHOP} asks whether it may send GET; the answer is ")
        told = await explain_head(
            stage.proxy.gateway, settings, head.replace("/items/7", "/own/a").encode()
        )
        assert (told.passes, told.status, told.upstream) == (True, None, "service")


@on_uvloop
async def test_a_stream_that_is_cut_before_its_answer_can_be_read_by_a_page() -> None:
    async def wait(peer: Peer) -> None:
        await peer.rest()

    async with running_proxy(wait, routes=ROUTES) as proxy:
        caller = await proxy.caller()
        await caller.send(
            f"GET /items/7 HTTP/1.1\r\nHost: a\r\n{ORIGIN}\r\n{BEARER}\r\n\r\n".encode()
        )
        await proxy.settle(lambda: len(proxy.gateway.streams) == 1)
        await asyncio.sleep(0)
        for streams in [*proxy.gateway.streams._streams.values()]:
            for stream in [*streams]:
                proxy.gateway.streams._cut(stream)
        head, body = await caller.response()
        assert json.loads(body)["code"] == "invalid_token"
        assert read(head)[1] == READABLE
