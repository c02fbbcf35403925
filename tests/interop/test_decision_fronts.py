"""nginx, Caddy, HAProxy and Envoy ask the sidecar, with the configurations that are shipped.

Each is started for real, between callers and a service that records every byte. What a caller gets
and what the service sees must be as if the sidecar itself stood there.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.raw_client import Answer, RawClient
from tests.e2e.conftest import PASSWORD, Tokens, key_of, plain_settings, redis_binary
from tests.interop.decision_fronts import FRONTS, running_front
from tests.proxy_process import ProxyProcess, create_token, free_port, run_sidecar
from tests.redis_servers import RedisServer, running_redis
from tests.upstream_recorder import Act, Exchange, Recorder, fold

ACCEPT = b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
LISTENER = "/v1/dynamic/listener/a1"
SPELLINGS = [
    "Authorization: Bearer {}",
    "access_token: {}",
    "jwt_token: {}",
    "?access_token={}",
    "?token={}",
    "?jwt_token={}",
]
STATES = {
    "valid": (200, ""),
    "expired": (401, "invalid_token"),
    "revoked": (401, "invalid_token"),
    "unknown": (401, "invalid_token"),
    "malformed": (401, "malformed_credentials"),
    "absent": (401, "missing_credentials"),
}
PASSWORDS = {
    "valid": (f"acme:{PASSWORD}", 200),
    "expired": ("acme:the-password-of-last-year", 401),
    "revoked": ("acme:", 401),
    "unknown": (f"nobody:{PASSWORD}", 401),
    "malformed": ("no colon", 401),
    "absent": (None, 401),
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def service() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def sidecar(
    redis: RedisServer, service: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    settings: dict[str, Any] = plain_settings(redis, service.url)
    settings["accounts"]["other"] = {"paths": ["/elsewhere"]}
    settings["routes"].append({"path": "/get-only", "methods": ["GET"]})
    settings["trusted_proxies"] = ["127.0.0.0/8"]
    settings["store"]["cache"] = {"tokens": 0}
    with ProxyProcess(tmp_path_factory.mktemp("sidecar"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(sidecar: ProxyProcess, redis: RedisServer) -> Tokens:
    made = {name: create_token(sidecar.config, "acme", name) for name in ("a", "b", "c", "d")}
    tokens = Tokens(made["a"], made["b"], made["c"], made["d"])
    listed = json.loads(run_sidecar("token", "list", "--json", config=sidecar.config).stdout)
    ids = {token["name"]: token["id"] for token in listed}
    assert run_sidecar("token", "revoke", ids["c"], config=sidecar.config).returncode == 0
    assert redis.command("PEXPIRE", key_of(tokens.expired), 1) == 1
    return tokens


@pytest.fixture(scope="module", params=FRONTS)
def front(
    request: pytest.FixtureRequest,
    sidecar: ProxyProcess,
    service: Recorder,
    tokens: Tokens,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[int]:
    """Run a front; whatever it wrote meanwhile holds no token."""
    directory = tmp_path_factory.mktemp(request.param)
    with running_front(request.param, directory, operations_port(sidecar), service.port) as port:
        yield port
    written = b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())
    assert tokens.valid.encode() not in written


def operations_port(sidecar: ProxyProcess) -> int:
    return int(sidecar.settings["operations"]["address"].rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a call: the caller's answer, and what reached the service."""

    answer: Answer
    requests: list[Exchange]
    data: bytes

    @property
    def accounts(self) -> list[bytes]:
        """The values of every field that a service may take for the account."""
        (request,) = self.requests
        return [value for name, value in request.headers if fold(name) == "x-account"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls the front, one connection a call."""

    port: int
    service: Recorder

    def call(
        self, target: str = LISTENER, *lines: str, method: str = "GET", body: bytes = b""
    ) -> Seen:
        mark = self.service.mark()
        head = [f"{method} {target} HTTP/1.1", "Host: shop.example", *lines, "", ""]
        client = RawClient(socket.create_connection(("127.0.0.1", self.port)), 15)
        try:
            client.send("\r\n".join(head).encode("latin-1") + body)
            answer = client.read_answer(method.encode())
        finally:
            client.close()
        assert answer is not None
        requests = self.service.requests_since(mark)
        return Seen(answer, requests, self.service.bytes_since(mark))


@pytest.fixture
def caller(front: int, service: Recorder) -> Caller:
    return Caller(front, service)


def spell(spelling: str, token: str | None) -> tuple[str, list[str]]:
    if token is None:
        return LISTENER, []
    written = spelling.format(token)
    return (LISTENER + written, []) if written.startswith("?") else (LISTENER, [written])


def check_challenge(answer: Answer) -> None:
    challenges = ", ".join(answer.values("www-authenticate"))
    assert 'Bearer realm="listener"' in challenges
    assert 'Basic realm="listener", charset="UTF-8"' in challenges


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_token_gets_the_answer_that_the_sidecar_itself_would_give(
    caller: Caller, tokens: Tokens, spelling: str, state: str
) -> None:
    status, code = STATES[state]
    token = getattr(tokens, state, None)
    target, lines = spell(spelling, token)
    seen = caller.call(target, *lines)
    assert seen.answer.status == status
    if status != 200:
        assert seen.requests == []
        check_challenge(seen.answer)
        if seen.answer.body.startswith(b"{"):
            assert json.loads(seen.answer.body)["code"] == code
        return
    assert seen.accounts == [b"acme"]
    assert seen.requests[0].target == LISTENER.encode()
    assert token is not None
    assert token.encode() not in seen.data


@pytest.mark.parametrize("state", PASSWORDS)
def test_a_password_gets_the_answer_that_the_sidecar_itself_would_give(
    caller: Caller, state: str
) -> None:
    pair, status = PASSWORDS[state]
    lines = [f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}"] if pair else []
    seen = caller.call(LISTENER, *lines)
    assert seen.answer.status == status
    if status != 200:
        assert seen.requests == []
        check_challenge(seen.answer)
        return
    assert seen.accounts == [b"acme"]
    assert seen.requests[0].values("authorization") == []


@pytest.mark.parametrize(
    "line",
    [
        "X-Account: admin",
        "x-account: admin",
        "X-ACCOUNT: admin\r\nX-Account: root",
        "X_Account: admin",
        "X.Account: admin",
        "X!Account: admin",
        "X~Account: admin",
        "Connection: X-Account",
        "X-Auth-Uri: /status",
        "X_Auth_Uri: /status",
    ],
)
@pytest.mark.parametrize("is_public", [False, True])
def test_a_spoofed_identity_never_reaches_the_service(
    caller: Caller, tokens: Tokens, line: str, is_public: bool
) -> None:
    target = "/status" if is_public else LISTENER
    seen = caller.call(target, f"access_token: {tokens.valid}", line)
    assert b"admin" not in seen.data
    assert b"root" not in seen.data
    if seen.requests:
        assert seen.answer.status == 200
        assert seen.accounts == ([] if is_public else [b"acme"])
        assert seen.requests[0].target == target.encode()
    else:
        assert seen.answer.status in (400, 403)


@pytest.mark.parametrize(
    "line",
    [
        "X-Original-URI: /status",
        "X-Original-Method: GET\r\nX-Original-URI: /status",
        "X_Original_URI: /status",
        "X-Forwarded-Uri: /status",
        "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /status",
        "X_Forwarded_Uri: /status",
        "X-Original-URL: /status",
        "X-Rewrite-URL: /status",
        "X-Auth-Uri: /status",
        "Connection: X-Original-URI, X-Forwarded-Uri",
        "Connection: close, Authorization",
    ],
)
def test_a_forged_original_url_opens_nothing(caller: Caller, tokens: Tokens, line: str) -> None:
    seen = caller.call(LISTENER, line)
    assert (seen.requests, seen.answer.status in (400, 401, 403)) == ([], True)
    known = caller.call(LISTENER, f"access_token: {tokens.valid}", line)
    if known.requests:
        assert known.requests[0].target == LISTENER.encode()
        assert b"/status" not in known.data
    else:
        assert known.answer.status in (400, 401, 403)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("a=1&token={}&b=2", "a=1&b=2"),
        ("token={}", None),
        ("b=%2F&a=+&a=+&token={}&&x", "b=%2F&a=+&a=+&&x"),
        ("%74oken={}&q=%7e~", "q=%7e~"),
        ("access_token={0}&token={0}&z", "z"),
        ("filter[name]=x&token={}&p=a/b?c", "filter[name]=x&p=a/b?c"),
    ],
)
def test_what_remains_of_the_query_is_byte_for_byte_what_the_caller_sent(
    caller: Caller, tokens: Tokens, query: str, left: str | None
) -> None:
    seen = caller.call(f"{LISTENER}?{query.format(tokens.valid)}")
    assert seen.answer.status == 200
    wanted = LISTENER if left is None else f"{LISTENER}?{left}"
    assert seen.requests[0].target == wanted.encode()
    assert tokens.valid.encode() not in seen.data


@pytest.mark.parametrize("target", [f"{LISTENER};v=1", "/v1/dynamic/listener/%61%20b~c"])
def test_the_path_that_was_judged_is_the_path_that_is_forwarded(
    caller: Caller, tokens: Tokens, target: str
) -> None:
    seen = caller.call(f"{target}?token={tokens.valid}")
    assert (seen.answer.status, seen.requests[0].target) == (200, target.encode())


@pytest.mark.parametrize(
    ("method", "target", "account", "statuses"),
    [
        ("GET", "/nowhere", "acme", {404}),
        ("POST", "/get-only", "acme", {405}),
        ("GET", LISTENER, "other", {403}),
        ("GET", "/status/../v1/dynamic/listener/a1", "acme", {400}),
        ("GET", "/status/%2e%2e/v1/dynamic/listener/a1", "acme", {400}),
        ("GET", "/%2e/status", "acme", {400}),
    ],
)
def test_a_refusal_has_the_status_that_the_sidecar_itself_would_give(
    caller: Caller,
    sidecar: ProxyProcess,
    tokens: Tokens,
    method: str,
    target: str,
    account: str,
    statuses: set[int],
) -> None:
    token = tokens.valid
    if account != "acme":
        token = create_token(sidecar.config, account, f"for port {caller.port}")
    seen = caller.call(target, f"access_token: {token}", method=method)
    assert (seen.requests, seen.answer.status) == ([], *statuses)
    if seen.answer.status == 405:
        assert seen.answer.values("allow") == ["GET"]


@pytest.mark.parametrize(
    ("lines", "body", "size"),
    [
        (["Content-Length: 5"], b"hello", 5),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n", 5),
    ],
)
def test_a_body_goes_to_the_service_and_not_to_the_sidecar(
    caller: Caller, tokens: Tokens, lines: list[str], body: bytes, size: int
) -> None:
    bearer = f"Authorization: Bearer {tokens.valid}"
    seen = caller.call(LISTENER, bearer, *lines, method="POST", body=body)
    assert seen.answer.status == 200
    assert seen.answer.body == b"account=acme target=%s body=%d" % (LISTENER.encode(), size)


@pytest.mark.parametrize("host", ["shop.example", "elsewhere.example"])
def test_an_absolute_target_is_judged_and_forwarded_as_its_path(
    caller: Caller, tokens: Tokens, host: str
) -> None:
    bearer = f"Authorization: Bearer {tokens.valid}"
    seen = caller.call(f"http://{host}{LISTENER}?token={tokens.valid}&a=1", bearer)
    if seen.requests:
        assert (seen.answer.status, seen.accounts) == (200, [b"acme"])
        assert seen.requests[0].target == f"{LISTENER}?a=1".encode()
        assert tokens.valid.encode() not in seen.data
    else:
        assert seen.answer.status in (400, 403)
    assert caller.call(f"http://{host}{LISTENER}").answer.status in (400, 401, 403)


def test_a_refused_upload_is_refused_before_its_body_is_sent(caller: Caller) -> None:
    lines = ["access_token: nobody-has-this-token", "Expect: 100-continue", "Content-Length: 99"]
    seen = caller.call(LISTENER, *lines, method="POST")
    assert (seen.answer.status, seen.answer.interim, seen.requests) == (401, [], [])


def test_a_websocket_is_judged_and_tunnelled(
    caller: Caller, service: Recorder, tokens: Tokens
) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    lines = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    assert caller.call(LISTENER, *lines).answer.status == 401
    service.play((switch + ACCEPT, Act.ECHO))
    head = [f"GET {LISTENER}?token={tokens.valid} HTTP/1.1", "Host: shop.example", *lines, "", ""]
    client = RawClient(socket.create_connection(("127.0.0.1", caller.port)), 15)
    client.send("\r\n".join(head).encode())
    answer = client.read_answer()
    assert answer is not None
    assert answer.status == 101
    client.send(b"over the tunnel")
    assert client.read_bytes(15) == b"over the tunnel"
    client.close()


def test_a_token_in_the_referer_does_not_reach_the_service(caller: Caller, tokens: Tokens) -> None:
    referer = f"Referer: https://shop.example/?token={tokens.valid}"
    seen = caller.call(LISTENER, f"access_token: {tokens.valid}", referer)
    assert seen.answer.status == 200
    assert tokens.valid.encode() not in seen.data


@pytest.mark.parametrize("alias", ["access-token", "Access.Token", "JWT-Token"])
def test_a_token_under_an_alias_is_not_read_and_does_not_reach_the_service(
    caller: Caller, tokens: Tokens, alias: str
) -> None:
    seen = caller.call(LISTENER, f"{alias}: {tokens.valid}")
    assert (seen.answer.status in (400, 401, 403), seen.requests) == (True, [])
    again = caller.call(LISTENER, f"access_token: {tokens.valid}", f"{alias}: {tokens.valid}")
    assert again.answer.status in (200, 400, 403)
    assert tokens.valid.encode() not in again.data


def test_the_decision_is_a_line_of_the_access_log_with_the_callers_own_request(
    caller: Caller, sidecar: ProxyProcess, tokens: Tokens
) -> None:
    request_id = f"decision-{caller.port}"
    caller.call(f"{LISTENER}?token={tokens.valid}", f"X-Request-Id: {request_id}")
    deadline = time.monotonic() + 10
    while not (lines := [li for li in sidecar.access_lines() if li["request_id"] == request_id]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (line,) = lines
    assert (line["method"], line["path"], line["status"]) == ("GET", LISTENER, 200)
    assert (line["account"], line["form"], line["upstream"]) == ("acme", "query", None)
    assert str(ipaddress.ip_address(line["client"])) == line["client"]
    assert tokens.valid not in sidecar.stdout + sidecar.stderr


def test_a_token_is_not_called_bad_while_the_store_is_away(
    caller: Caller, redis: RedisServer, tokens: Tokens
) -> None:
    redis.pause()
    try:
        seen = caller.call(LISTENER, f"access_token: {tokens.valid}")
    finally:
        redis.resume()
    assert (seen.answer.status, seen.requests) == (503, [])
    assert seen.answer.values("retry-after") == ["1"]


@pytest.mark.parametrize("name", FRONTS)
def test_nothing_passes_while_the_sidecar_is_away(
    name: str, service: Recorder, tmp_path: Path, tokens: Tokens
) -> None:
    with running_front(name, tmp_path, free_port(), service.port) as port:
        seen = Caller(port, service).call(LISTENER, f"access_token: {tokens.valid}")
        public = Caller(port, service).call("/status")
    assert {seen.answer.status, public.answer.status} <= {502, 503}
    assert (seen.requests, public.requests) == ([], [])
