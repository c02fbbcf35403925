"""An unreadable credential, over real sockets: answer and log name its place and the slip."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from sidecar.core.tokens import digest
from sidecar.observability.access_log import LineFormatter
from tests.in_process import TOKEN, Proxy, on_uvloop, running_proxy
from tests.integration.test_decision import Stage, staged

HEADER = "the header field jwt_token"


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


async def ask(proxy: Proxy, target: str, *lines: str) -> tuple[str, dict[str, str]]:
    """Return the head and the problem document that a new caller gets."""
    caller = await proxy.caller()
    await caller.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode())
    head, body = await caller.response()
    await caller.close()
    return head.decode("latin-1"), json.loads(body)


SENT = {
    f'jwt_token: "{TOKEN}"': f"{HEADER} has a quotation mark",
    f"jwt_token: <sct_{'s' * 60}>": f"{HEADER} is in brackets",
    "jwt_token: ${TOKEN_OF_SOMEBODY}": f"In {HEADER}, a placeholder",
    "jwt_token: null": f"In {HEADER}, a program's word for a missing value",
    f"Authorization: Bearer {TOKEN},": "The token in Authorization ends with a comma",
    f"Authorization: Bearer Bearer {TOKEN}": "Authorization names the scheme twice",
    f"Authorization: \ufeffBearer {TOKEN}": "in Authorization begins with a byte order mark",
    "Authorization: Basic YWNtZQ==": "Basic has no colon",
    "Authorization: Basic YWNtZTpzZWNyZXQK": "end with a line break",
}


@pytest.mark.parametrize("line", SENT)
@on_uvloop
async def test_the_answer_the_challenge_and_the_log_say_what_is_wrong(line: str) -> None:
    """Also the third time, when the header section and the verdict come from caches."""
    async with running_proxy() as proxy:
        for _ in range(3):
            head, problem = await ask(proxy, "/calls/1", line)
            assert head.startswith("HTTP/1.1 401")
            assert problem["code"] == "malformed_credentials"
            assert SENT[line] in problem["detail"]
            assert f'error_description="{problem["detail"]}"' in head
            assert proxy.entries[-1].detail == problem["detail"]


@on_uvloop
async def test_the_field_that_is_named_is_the_one_that_was_sent() -> None:
    """Though both requests share what is remembered of their secret."""
    async with running_proxy() as proxy:
        for name in ("access_token", "jwt_token", "access_token", "jwt_token"):
            _, problem = await ask(proxy, "/calls/1", f'{name}: "{TOKEN}"')
            assert f"the header field {name} has" in problem["detail"]


@on_uvloop
async def test_an_imported_token_with_quotes_around_it_passes_as_ever() -> None:
    quoted = f'"{TOKEN}"'
    async with running_proxy() as proxy:
        known = await proxy.store.look_up(digest(TOKEN))
        assert known is not None
        await proxy.store.create(
            known.replace(id="token000002", name="quoted", digest=digest(quoted))
        )
        for _ in range(3):
            caller = await proxy.caller()
            await caller.send(f"GET / HTTP/1.1\r\nHost: a\r\njwt_token: {quoted}\r\n\r\n".encode())
            head, _ = await caller.response()
            assert head.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("line", SENT)
async def test_the_decision_endpoint_says_the_same(stage: Stage, line: str) -> None:
    name, _, value = line.partition(": ")
    _, headers, body = await stage.ask("GET", "/calls/1", {name: value})
    detail = json.loads(body)["detail"]
    assert SENT[line] in detail
    assert detail in headers["WWW-Authenticate"]
    assert stage.entry.detail == detail


UNSAFE = {
    "/v1/../admin": "/v1/../admin",
    "/v1/%2e%2e/admin?token=secret-of-somebody": "/v1/%2e%2e/admin",
    "/v1/a%2Fb": "/v1/a%2Fb",
    "/v1\\admin": "/v1\\admin",
    "/v1/%zz": "/v1/%zz",
    "/v1/%00": "/v1/%00",
    "http://a/v1/./x?y": "/v1/./x",
    "/v1/../x%3Ftoken=secret-of-somebody": "/v1/../x",
    "/v1/../x%253ftoken=secret-of-somebody": "/v1/../x",
    f"/v1/../{TOKEN}/x": "/v1/../[masked]/x",
    f"/v1/../sct_{'s' * 60}": "/v1/../sct_[masked]",
    "/v1/a%252525252fb": "/v1/a",
    f"/v1/../{'x' * 2000}": f"/v1/../{'x' * 1017}",
    f"/v1/../{'x' * 1000}/sct_{'s' * 60}": f"/v1/../{'x' * 1000}/sct_[masked]",
}


@pytest.mark.parametrize("target", UNSAFE)
@on_uvloop
async def test_the_log_has_the_unsafe_path_as_it_was_sent(target: str) -> None:
    async with running_proxy() as proxy:
        _, problem = await ask(proxy, target, f"access_token: {TOKEN}")
        assert problem["code"] == "unsafe_path"
        entry = proxy.entries[-1]
        assert entry.detail == problem["detail"]
        line = json.loads(LineFormatter("sct_").line(entry, 0.0))
        assert line["path"] == UNSAFE[target]
        assert "secret" not in line["path"]


@pytest.mark.parametrize("target", ["/v1/../calls", "/calls/%2F", "/calls/a%5Cb", "/%zz"])
async def test_the_log_of_a_decision_has_it_too(stage: Stage, target: str) -> None:
    await stage.ask("GET", f"{target}?token={TOKEN}")
    assert (stage.entry.code, stage.entry.path) == ("unsafe_path", target)


@pytest.mark.parametrize("target", ["/a#b", "/a<b", "http://user:secret@h/", "a", "/caf\u00e9"])
@on_uvloop
async def test_the_log_has_no_path_that_http_forbids(target: str) -> None:
    async with running_proxy() as proxy:
        _, problem = await ask(proxy, target)
        assert problem["code"] == "bad_request"
        assert (proxy.entries[-1].path, bool(proxy.entries[-1].detail)) == ("", True)
