"""The decision endpoint over a socket: the proxy's verdicts, in answers that nginx can take."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from sidecar.config.settings import Settings
from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import Denial
from sidecar.core.problems import PROBLEM_TYPES, PROXY_CODES
from sidecar.observability.access_log import RequestLog
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.listener import operations_app, operations_runner
from sidecar.proxy.gateway import Gateway
from sidecar.runtime.build import build_rules
from tests.in_process import TOKEN, Proxy, running_proxy

Client = TestClient[web.Request, web.Application]
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS: dict[str, Any] = {
    "upstreams": {
        "service": {"url": "http://127.0.0.1:9"},
        "trusting": {"url": "http://127.0.0.1:9", "forward_credentials": True},
    },
    "routes": [
        {"path": "/public/**", "public": True, "upstream": "service"},
        {"path": "/others", "accounts": ["other"], "upstream": "service"},
        {"path": "/read", "methods": ["GET", "HEAD"], "upstream": "service"},
        {"path": "/trusting", "upstream": "trusting"},
        {"path": "/calls/**", "upstream": "service"},
    ],
    "accounts": {"acme": {}, "other": {}},
}


class Judging:
    """A gateway that judges as it is told, and is the given one in all else."""

    def __init__(self, gateway: Gateway, judge: Callable[..., Awaitable[Denial]]) -> None:
        self.judge = judge
        self._gateway = gateway

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)


class Stage:
    """A gateway with its decision endpoint."""

    def __init__(self, proxy: Proxy, client: Client, decisions: Decisions) -> None:
        self.proxy = proxy
        self.client = client
        self.decisions = decisions

    @property
    def entry(self) -> RequestLog:
        return self.proxy.entries[-1]

    def use(self, **more: Any) -> None:
        """Judge by other settings from now on."""
        settings = Settings.model_validate({**SETTINGS, **more}, context={"directory": Path()})
        self.proxy.gateway.rules = build_rules(settings, asyncio.get_running_loop())

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        path: str = "/auth",
    ) -> tuple[int, Mapping[str, str], bytes]:
        told = {"X-Original-Method": method, "X-Original-URI": target}
        async with self.client.get(path, headers={**told, **(headers or {})}) as response:
            return response.status, response.headers, await response.read()


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    async def ping() -> None:
        return None

    async with running_proxy() as proxy:
        decisions = Decisions(proxy.gateway, lambda entry, now: proxy.entries.append(entry))
        app = operations_app(Health(ping, lambda: False), decisions=decisions)
        async with TestClient(TestServer(app)) as client:
            stage = Stage(proxy, client, decisions)
            stage.use()
            yield stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


async def test_a_good_credential_gets_200_with_the_identity_and_no_body(stage: Stage) -> None:
    status, headers, body = await stage.ask("GET", "/calls/1?a=1&a=2", BEARER)
    assert (status, body) == (200, b"")
    assert headers["X-Account"] == "acme"
    assert headers["X-Auth-Uri"] == "/calls/1?a=1&a=2"
    assert (headers["Cache-Control"], "X-Auth-Cache-Control" in headers) == ("no-store", False)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (f"token={TOKEN}", ""),
        (f"b=%2F&token={TOKEN}&&c=+", "?b=%2F&&c=+"),
        (f"access_token={TOKEN}&token={TOKEN}&z", "?z"),
    ],
)
async def test_a_token_in_the_original_query_is_judged_and_taken_out(
    stage: Stage, query: str, left: str
) -> None:
    status, headers, _ = await stage.ask("GET", f"/calls/1?{query}")
    assert (status, headers["X-Auth-Uri"]) == (200, f"/calls/1{left}")
    assert headers["X-Auth-Cache-Control"] == "private"
    assert stage.entry.form == "query"


async def test_an_upstream_that_gets_credentials_gets_the_query_as_it_came(stage: Stage) -> None:
    _, headers, _ = await stage.ask("GET", f"/trusting?token={TOKEN}")
    assert headers["X-Auth-Uri"] == f"/trusting?token={TOKEN}"


async def test_a_public_route_passes_without_an_identity(stage: Stage) -> None:
    status, headers, _ = await stage.ask("GET", "/public/x")
    assert (status, "X-Account" in headers) == (200, False)


async def test_other_identity_headers_are_told_as_configured(stage: Stage) -> None:
    stage.use(identity={"headers": {"X-User": "account", "X-Token-Id": "token_id"}})
    _, headers, _ = await stage.ask("GET", "/calls/1", BEARER)
    assert (headers["X-User"], headers["X-Token-Id"]) == ("acme", "token000001")


REFUSALS = {
    "missing_credentials": ("GET", "/calls/1", {}, 401),
    "malformed_credentials": ("GET", "/calls/1", {"Authorization": "Digest x"}, 401),
    "invalid_token": ("GET", "/calls/1", {"access_token": "x" * 20}, 401),
    "ambiguous_credentials": ("GET", "/calls/1", {**BEARER, "access_token": "x" * 20}, 400),
    "unsafe_path": ("GET", "/calls/../others", BEARER, 400),
    "bad_request": ("GET", "/calls/1#x", BEARER, 400),
    "bad_request, a method": ("FOO", "/calls/1", BEARER, 501),
    "bad_request, CONNECT": ("CONNECT", "/calls/1", BEARER, 501),
    "bad_request, TRACE": ("TRACE", "/public/1", {}, 501),
    "bad_request, an expectation": ("GET", "/calls/1", {**BEARER, "Expect": "x"}, 417),
    "bad_request, public": ("PUT", "/public/1", {"Expect": "100-continue, x"}, 417),
    "not_allowed": ("GET", "/others", BEARER, 403),
    "no_route": ("GET", "/nowhere", BEARER, 404),
    "method_not_allowed": ("POST", "/read", BEARER, 405),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_401_or_403_and_says_what_the_proxy_would_have_answered(
    stage: Stage, name: str
) -> None:
    code = name.partition(",")[0]
    method, target, lines, exact = REFUSALS[name]
    status, headers, body = await stage.ask(method, target, lines)
    assert status == (401 if exact == 401 else 403)
    assert (headers["X-Auth-Code"], headers["X-Auth-Status"]) == (code, str(exact))
    problem = json.loads(body)
    assert (problem["code"], problem["status"]) == (code, exact)
    assert not {"X-Account", "X-Auth-Uri"} & set(headers)
    assert TOKEN.encode() not in body


@pytest.mark.parametrize("name", REFUSALS)
async def test_who_takes_every_status_gets_the_proxys_own(stage: Stage, name: str) -> None:
    method, target, lines, exact = REFUSALS[name]
    status, headers, _ = await stage.ask(method, target, lines, path="/auth?statuses=all")
    assert (status, headers.get("Allow")) == (exact, "GET, HEAD" if exact == 405 else None)


@pytest.mark.parametrize(
    "asked", ["{}/auth/others", "{}/%61uth/others", "{}/auth/others?statuses=all", "/%61uth/others"]
)
async def test_no_form_of_a_question_hides_what_it_is_about(stage: Stage, asked: str) -> None:
    lines = (
        f"Host: a\r\nX-Original-Method: GET\r\nX-Original-URI: /public/x\r\naccess_token: {TOKEN}"
    )
    runner = operations_runner(_again(stage))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    target = asked.format("http://sidecar.example")
    writer.write(f"GET {target} HTTP/1.1\r\n{lines}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await runner.cleanup()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 "))
    assert b'"code": "bad_request"' in answer


async def test_a_401_names_every_scheme_in_one_field(stage: Stage) -> None:
    async with stage.client.get(
        "/auth", headers={"X-Original-Method": "GET", "X-Original-URI": "/calls/1"}
    ) as response:
        challenges = response.headers.getall("WWW-Authenticate")
    assert challenges == ['Bearer realm="listener", Basic realm="listener", charset="UTF-8"']


@pytest.mark.parametrize("code", PROXY_CODES)
async def test_no_code_gets_an_answer_that_nginx_can_not_take(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    async def judge(*_: object, **__: object) -> Denial:
        return Denial(code, "No.", retry_after_seconds=30)

    monkeypatch.setattr(stage.decisions, "_gateway", Judging(stage.proxy.gateway, judge))
    status, headers, _ = await stage.ask("GET", "/calls/1")
    assert status in (401, 403) or status >= 500
    assert (status >= 500) == (PROBLEM_TYPES[code].status >= 500)
    assert headers["X-Auth-Status"] == str(PROBLEM_TYPES[code].status)
    assert headers["Retry-After"] == "30"


async def test_a_store_that_is_away_is_503_and_never_a_refusal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(digest: str, asker: str = "") -> None:
        raise StoreUnavailable("no answer within 250 ms")

    monkeypatch.setattr(stage.proxy.store, "look_up", look_up)
    status, headers, _ = await stage.ask("GET", "/calls/1", BEARER)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert stage.entry.code == "store_unavailable"


async def test_a_fault_of_ours_lets_nothing_pass_and_quotes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def judge(*_: object, **__: object) -> Denial:
        raise RuntimeError(TOKEN)

    monkeypatch.setattr(stage.decisions, "_gateway", Judging(stage.proxy.gateway, judge))
    with caplog.at_level(logging.ERROR):
        status, _, body = await stage.ask("GET", "/calls/1", BEARER)
    assert (status, json.loads(body)["code"]) == (500, "internal_error")
    assert "RuntimeError" in caplog.text
    assert TOKEN not in caplog.text


async def test_a_question_without_the_original_request_is_refused_and_noted(stage: Stage) -> None:
    async with stage.client.get("/auth", headers=BEARER) as response:
        assert response.status == 403
        assert response.headers["X-Auth-Code"] == "bad_request"
    assert (stage.entry.status, stage.entry.code) == (403, "bad_request")


async def test_forged_words_about_the_original_request_are_refused(stage: Stage) -> None:
    forged = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/public/x"}
    status, headers, _ = await stage.ask("GET", "/calls/1", forged)
    assert (status, headers["X-Auth-Status"]) == (403, "400")


@pytest.mark.parametrize("name", ["X-Account", "X_Account", "X.Account", "access-token"])
async def test_a_field_that_the_proxy_would_take_out_is_refused(stage: Stage, name: str) -> None:
    for target in ("/calls/1", "/public/x"):
        status, headers, _ = await stage.ask("GET", target, {**BEARER, name: "admin"})
        assert (status, headers["X-Auth-Code"]) == (403, "bad_request")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_envoys_question_is_the_request_itself_behind_the_path(
    stage: Stage, method: str
) -> None:
    target = f"/auth/calls/1?token={TOKEN}&x=1&x=2"
    async with stage.client.request(method, target) as response:
        assert response.status == 200
        assert response.headers["X-Auth-Uri"] == "/calls/1?x=1&x=2"
    async with stage.client.request(method, "/auth/nowhere") as response:
        assert response.status == 404
    assert (stage.entry.method, stage.entry.path) == (method, "/nowhere")


async def test_a_method_that_http_does_not_have_is_not_noted_as_it_could_be_anything(
    stage: Stage,
) -> None:
    status, _, _ = await stage.ask("OF-THE-OLD-SYSTEM-1234567890", "/calls/1", BEARER)
    assert (status, stage.entry.code, stage.entry.method) == (403, "bad_request", "")


OPEN = [{"path": "/admin/**"}, {"path": "/**", "public": True}]


@pytest.mark.parametrize("target", ["//admin/x", "/admin;x/y", "/;/admin", "/admin%3Bx"])
async def test_a_path_that_a_service_could_take_for_one_of_another_rule_is_refused(
    stage: Stage, target: str
) -> None:
    stage.use(upstreams={"service": SETTINGS["upstreams"]["service"]}, routes=OPEN)
    status, headers, _ = await stage.ask("GET", target, BEARER)
    assert (status, headers["X-Auth-Code"]) == (403, "unsafe_path")
    async with stage.client.get(URL(f"/auth{target}", encoded=True)) as response:
        assert (response.status, response.headers["X-Auth-Code"]) == (400, "unsafe_path")


@pytest.mark.parametrize("target", ["/a//b", "/a;v=1", "//a", "/x/admin", "/Admin"])
async def test_a_path_of_one_rule_in_every_reading_passes_as_it_was_sent(
    stage: Stage, target: str
) -> None:
    stage.use(upstreams={"service": SETTINGS["upstreams"]["service"]}, routes=OPEN)
    status, headers, _ = await stage.ask("GET", target)
    assert (status, headers["X-Auth-Uri"]) == (200, target)


@pytest.mark.parametrize(("trusted", "client"), [([], "127.0.0.1"), (["127.0.0.0/8"], "192.0.2.7")])
async def test_the_callers_address_is_believed_from_a_trusted_proxy_alone(
    stage: Stage, trusted: list[str], client: str
) -> None:
    stage.use(trusted_proxies=trusted)
    await stage.ask("GET", "/calls/1", {**BEARER, "X-Forwarded-For": "198.51.100.1, 192.0.2.7"})
    assert stage.entry.client == client


async def test_a_decision_is_noted_like_a_request_without_an_upstream(stage: Stage) -> None:
    await stage.ask("POST", f"/calls/1?token={TOKEN}", {"X-Request-Id": "abc-1"})
    entry = stage.entry
    assert (entry.method, entry.path, entry.route) == ("POST", "/calls/1", "/calls/**")
    assert (entry.status, entry.code, entry.account) == (200, "", "acme")
    assert (entry.request_id, entry.token_id, entry.upstream) == ("abc-1", "token000001", "")


async def test_an_answer_names_the_request_id_that_the_log_has(stage: Stage) -> None:
    for lines in ({}, BEARER):
        _, headers, _ = await stage.ask("GET", "/calls/1", lines)
        assert headers["X-Request-Id"] == stage.entry.request_id


async def test_new_rules_hold_from_the_next_question_on(stage: Stage) -> None:
    assert (await stage.ask("GET", "/calls/1", BEARER))[0] == 200
    stage.use(accounts={"acme": {"disabled": True}, "other": {}})
    status, headers, _ = await stage.ask("GET", "/calls/1", BEARER)
    assert (status, headers["X-Auth-Code"]) == (403, "account_disabled")


async def test_a_head_as_large_as_the_proxy_takes_is_read_whole(stage: Stage) -> None:
    runner = operations_runner(_again(stage))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    filler = "x" * 30_000
    head = f"GET /auth/calls/1?{filler} HTTP/1.1\r\nHost: a\r\nX-Long: {filler}\r\n"
    writer.write(f"{head}access_token: {TOKEN}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await runner.cleanup()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert f"X-Auth-Uri: /calls/1?{filler}\r\n".encode() in answer


def _again(stage: Stage) -> web.Application:
    async def ping() -> None:
        return None

    decisions = Decisions(stage.proxy.gateway, lambda entry, now: None)
    return operations_app(Health(ping, lambda: False), decisions=decisions)
