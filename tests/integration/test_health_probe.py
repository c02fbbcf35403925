"""Health probes on the traffic's port: who is answered, with what, and what is left alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.in_process import OK, Proxy, answering, on_uvloop, request, running_proxy

PATH = "/healthz"


@contextlib.asynccontextmanager
async def probed(code: str | None = None, path: str = PATH) -> AsyncIterator[Proxy]:
    async def why_not_ready() -> str | None:
        return code

    async with running_proxy(answering(OK)) as proxy:
        proxy.gateway.why_not_ready = why_not_ready
        proxy.gateway.rules = replace(proxy.gateway.rules, health_path=path)
        yield proxy


def raw(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, *fields, "", ""]).encode()


@pytest.mark.parametrize(
    "asked",
    [
        raw("GET /healthz HTTP/1.1", "Host: a"),
        raw("GET /healthz HTTP/1.1", "Host: 10.0.0.7:2020", "User-Agent: ELB-HealthChecker/2.0"),
        raw("GET /healthz?a=b HTTP/1.1", "Host: a"),
        raw("GET /healthz HTTP/1.0"),
        raw("GET /healthz HTTP/1.1", "Host: a", "Connection: close"),
        raw("GET /healthz HTTP/1.1", "Host: a", "Authorization: Bearer wrong"),
        raw("GET /healthz HTTP/1.1", "Host: a", "Content-Length: 2") + b"ab",
    ],
)
@on_uvloop
async def test_a_probe_is_answered_without_a_credential_and_never_forwarded(asked: bytes) -> None:
    async with probed() as proxy:
        caller = await proxy.caller()
        await caller.send(asked)
        head, body = await caller.response()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Cache-Control: no-store\r\n" in head
        assert body == b'{"ready": true}'
        assert proxy.upstream.peers == []
        assert proxy.entries == [], "nobody called"


@on_uvloop
async def test_a_connection_serves_probes_and_requests_in_any_order() -> None:
    async with probed() as proxy:
        caller = await proxy.caller()
        probe = raw("GET /healthz HTTP/1.1", "Host: a")
        await caller.send(probe + request() + probe + probe + request())
        heads = [(await caller.response())[0] for _ in range(5)]
        assert [head[:12] for head in heads] == [b"HTTP/1.1 200"] * 5
        assert [b"application/json" in head for head in heads] == [True, False, True, True, False]
        assert len(proxy.entries) == 2


@on_uvloop
async def test_head_gets_the_head_alone() -> None:
    async with probed() as proxy:
        caller = await proxy.caller()
        await caller.send(raw("HEAD /healthz HTTP/1.1", "Host: a", "Connection: close"))
        answer = await caller.rest()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Length: 15\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
@on_uvloop
async def test_other_methods_are_refused(method: str) -> None:
    async with probed() as proxy:
        caller = await proxy.caller()
        await caller.send(raw(f"{method} /healthz HTTP/1.1", "Host: a"))
        head, _ = await caller.response()
        if method != "BREW":  # not a method of the parser's
            assert head.startswith(b"HTTP/1.1 405 ")
            assert b"Allow: GET, HEAD\r\n" in head
        assert proxy.upstream.peers == []


@pytest.mark.parametrize("code", ["draining", "store_unavailable"])
@on_uvloop
async def test_a_process_that_is_not_ready_says_503_and_why(code: str) -> None:
    async with probed(code) as proxy:
        caller = await proxy.caller()
        await caller.send(raw("GET /healthz HTTP/1.1", "Host: a"))
        head, body = await caller.response()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert f'"{code}"'.encode() in body


@on_uvloop
async def test_while_draining_the_probe_ends_its_connection() -> None:
    async with probed("draining") as proxy:
        caller = await proxy.caller()
        await caller.send(raw("GET /healthz HTTP/1.1", "Host: a"))
        await caller.response()
        proxy.server.announce_end()
        await caller.send(raw("GET /healthz HTTP/1.1", "Host: a"))
        assert b"Connection: close\r\n" in (await caller.response())[0]
        assert await caller.rest() == b""


@pytest.mark.parametrize(
    "target",
    ["/healthz/", "/healthzz", "/Healthz", "/healthz%20", "/health", "//healthz", "/a/healthz"],
)
@on_uvloop
async def test_any_other_path_needs_a_credential(target: str) -> None:
    async with probed() as proxy:
        caller = await proxy.caller()
        await caller.send(raw(f"GET {target} HTTP/1.1", "Host: a"))
        head, _ = await caller.response()
        assert head[9:12] in (b"401", b"400")


@on_uvloop
async def test_without_the_setting_no_path_is_answered() -> None:
    async with probed(path="") as proxy:
        caller = await proxy.caller()
        await caller.send(raw("GET /healthz HTTP/1.1", "Host: a"))
        assert (await caller.response())[0].startswith(b"HTTP/1.1 401 ")
