"""Connections that begin with a PROXY header: who called, who may say so, how long it may take."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.in_process import OK, Peer, Proxy, answering, on_uvloop, request, running_proxy
from tests.unit.core.test_proxy_protocol import IPV4, IPV6, READ, TLV, UNIX, binary

SCRIPTS = [answering(OK)] * 20
LINE = b"PROXY TCP4 198.51.100.9 192.0.2.1 4096 443\r\n"
REFUSED = "listen.proxy_protocol: refused a connection from"


@contextlib.asynccontextmanager
async def behind_a_balancer(balancer: str = "127.0.0.1", **settings: Any) -> AsyncIterator[Proxy]:
    async with running_proxy(
        *SCRIPTS, is_balancer=lambda peer: peer == balancer, **settings
    ) as proxy:
        yield proxy


async def ask(proxy: Proxy, *pieces: bytes, pause_seconds: float = 0.0) -> bytes:
    """Send pieces one by one over a new connection; return the first line of the answer."""
    caller = await proxy.caller()
    for piece in pieces:
        with contextlib.suppress(ConnectionError):
            await caller.send(piece)
        await asyncio.sleep(pause_seconds)
    return (await caller.until(b"\r\n")).strip()


@pytest.mark.parametrize(("header", "client"), READ)
@on_uvloop
async def test_the_client_is_the_one_that_the_header_names(header: bytes, client: str) -> None:
    async with behind_a_balancer() as proxy:
        assert await ask(proxy, header + request()) == b"HTTP/1.1 200 OK"
        assert proxy.entries[-1].client == (client or "127.0.0.1")
        told = proxy.upstream.received[-1].lower()
        assert f"x-forwarded-for: {client or '127.0.0.1'}\r\n".encode() in told


@pytest.mark.parametrize("header", [LINE, binary(0x21, IPV6 + TLV), binary(0x31, UNIX)])
@on_uvloop
async def test_a_header_may_come_byte_by_byte_and_the_request_with_its_last(header: bytes) -> None:
    async with behind_a_balancer() as proxy:
        pieces = [header[at : at + 1] for at in range(len(header) - 1)]
        assert await ask(proxy, *pieces, header[-1:] + request()) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("cut", [1, 5, 6, 12, 15, 16, 20, 27])
@on_uvloop
async def test_a_header_may_be_cut_anywhere(cut: int) -> None:
    async with behind_a_balancer() as proxy:
        for header in (LINE, binary(0x11, IPV4 + TLV)):
            sent = header + request()
            answer = await ask(proxy, sent[:cut], sent[cut:], pause_seconds=0.02)
            assert answer == b"HTTP/1.1 200 OK"


@on_uvloop
async def test_further_requests_of_the_connection_have_the_same_client() -> None:
    async with behind_a_balancer() as proxy:
        caller = await proxy.caller()
        await caller.send(LINE)
        for _ in range(3):
            await caller.send(request())
            await caller.response()
        assert [entry.client for entry in proxy.entries] == ["198.51.100.9"] * 3


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        LINE.replace(b"TCP4", b"TCP6"),
        b"GARBAGE\r\n",
        b"PROXY TCP4 198.51.100.9\r\n",
        binary(0x11, IPV4[:-2]),
        binary(0x11, b"", length=60_000),
        b"\x16\x03\x01\x00\x05hello",
    ],
)
@on_uvloop
async def test_a_connection_without_a_header_is_closed_unanswered(
    begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with behind_a_balancer() as proxy:
        assert await ask(proxy, begun + request()) == b""
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        assert proxy.entries == []
    assert f"{REFUSED} 127.0.0.1: it does not begin with a PROXY header" in caplog.text


@on_uvloop
async def test_only_balancers_may_connect_header_or_not(caplog: pytest.LogCaptureFixture) -> None:
    async with behind_a_balancer("10.0.0.1") as proxy:
        for sent in (LINE + request(), request(), binary(0x11, IPV4) + request()):
            assert await ask(proxy, sent) == b""
        assert proxy.server.open_connections == 0
        assert proxy.entries == []
    assert caplog.text.count(REFUSED) == 1
    assert "127.0.0.1: it is not in trusted_proxies" in caplog.text


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 198.51", binary(0x11, IPV4)[:20]])
@on_uvloop
async def test_a_header_that_is_late_ends_the_connection(begun: bytes) -> None:
    async with behind_a_balancer(limits={"header_timeout": "300ms"}) as proxy:
        assert await ask(proxy, begun) == b""
        await proxy.settle(lambda: proxy.server.open_connections == 0)


@pytest.mark.parametrize("begun", [b"", b"PRO", LINE[:-1]])
@on_uvloop
async def test_a_balancer_that_only_looks_whether_we_accept_is_no_news(
    begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with behind_a_balancer() as proxy:
        caller = await proxy.caller()
        if begun:
            await caller.send(begun)
        await caller.close()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
    assert REFUSED not in caplog.text


def header_of(host: str) -> bytes:
    return f"PROXY TCP4 {host} 192.0.2.1 1 2\r\n".encode()


@on_uvloop
async def test_the_bound_per_address_counts_the_client_of_the_header() -> None:
    async with behind_a_balancer(limits={"connections_per_address": 2}) as proxy:
        held: list[Peer] = []
        for host in ("198.51.100.1", "198.51.100.1", "198.51.100.2"):
            caller = await proxy.caller()
            await caller.send(header_of(host) + request())
            await caller.response()
            held.append(caller)
        assert await ask(proxy, header_of("198.51.100.1") + request()) == (
            b"HTTP/1.1 503 Service Unavailable"
        )
        assert await ask(proxy, header_of("198.51.100.3") + request()) == b"HTTP/1.1 200 OK"
        assert await ask(proxy, binary(0x00, b"") + request()) == b"HTTP/1.1 200 OK"


@on_uvloop
async def test_connections_that_wait_for_a_header_count_too() -> None:
    async with behind_a_balancer(limits={"connections": 2}) as proxy:
        for _ in range(2):
            await proxy.caller()
        await proxy.settle(lambda: proxy.server.open_connections == 2)
        assert (await ask(proxy, LINE)).startswith(b"HTTP/1.1 503")


@on_uvloop
async def test_a_header_in_transit_at_the_end_is_still_answered() -> None:
    async with behind_a_balancer() as proxy:
        caller = await proxy.caller()
        await caller.send(LINE[:10])
        await proxy.settle(lambda: proxy.server.open_connections == 1)
        proxy.listeners.close_all()
        draining = asyncio.create_task(proxy.server.drain(5.0, has_preamble=True))
        await asyncio.sleep(0.05)
        await caller.send(LINE[10:] + request())
        assert (await caller.until(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        await draining


@on_uvloop
async def test_random_beginnings_leave_nothing_open() -> None:
    async with behind_a_balancer(limits={"header_timeout": "500ms"}) as proxy:
        for number in range(120):
            caller = await proxy.caller()
            junk = struct.pack(">12sBBH", b"\r\n\r\n\x00\r\nQUIT\n", number * 7 % 256, number, 8)
            with contextlib.suppress(ConnectionError):
                await caller.send(junk[: 1 + number % 16] + bytes([number]) * (number % 9))
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        assert proxy.server.handshakes == set()
