"""How long a connection lasts after its last answer, while the caller still sends, or is silent."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.proxy.header_cache import HeaderCache
from sidecar.wire.buffers import BufferBudget
from sidecar.wire.client import ClientConnection
from sidecar.wire.requests import HeadCache, RequestLimits
from sidecar.wire.turn_queue import TurnQueue
from tests.fake_transport import FakeTransport

UPLOAD = b"POST /z HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n"
WHOLE = b"POST /z HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


class Host:
    """A server that answers one request with a dot, and wants no more."""

    limits = RequestLimits()
    header_timeout_seconds = 7.0
    idle_timeout_seconds = 70.0
    closes_after_answers = False
    is_closing = False

    def __init__(self) -> None:
        self.turns = TurnQueue(asyncio.get_running_loop(), turn_seconds=60.0)
        self.buffers = BufferBudget(1 << 20)

    def new_head_cache(self) -> HeadCache:
        return HeaderCache(RequestLimits()).for_connection()

    def on_opened(self, connection: ClientConnection) -> None:
        return

    def on_closed(self, connection: ClientConnection) -> None:
        return

    def on_served(self, connection: ClientConnection) -> None:
        return

    async def serve(self, connection: ClientConnection) -> None:
        await connection.next_request()
        connection.write(b".")
        connection.close_lingering()


class TlsTransport(FakeTransport):
    """Like uvloop's: it reads and discards after its end until the caller has ended too."""

    def close(self) -> None:
        if self.is_aborted:
            super().close()
        else:
            self._is_closing = True


async def seconds_until_cut(first: bytes, sends_every: float, *, is_tls: bool = False) -> float:
    """Return how long a caller that never ends keeps its connection, by the connection's clock."""
    client = ClientConnection(asyncio.get_running_loop(), Host(), "caller")
    transport = (TlsTransport if is_tls else FakeTransport)(client, is_tls=is_tls)
    now = 1000.0
    client.now = lambda: now
    client.connection_made(transport)
    asyncio.get_running_loop().call_soon(client.data_received, first)
    await asyncio.sleep(0)
    assert transport.written == b"."
    next_piece = now + sends_every
    while not transport.is_aborted:
        now = min(next_piece, client.deadline)
        assert now < 1100.0
        if now == next_piece:
            next_piece += sends_every
            if not is_tls:  # its transport shows nothing of what it discards
                client.data_received(b"x")
        if now >= client.deadline:
            client.on_deadline()
    await asyncio.sleep(0)
    return now - 1000.0


@pytest.mark.parametrize("first", [UPLOAD, UPLOAD + b"x" * 8999])
async def test_an_upload_is_discarded_for_as_long_as_nginx_does(first: bytes) -> None:
    assert await seconds_until_cut(first, 4.0) == pytest.approx(30.0, abs=5.0)


@pytest.mark.parametrize("first", [UPLOAD, UPLOAD + b"x" * 8999])
async def test_an_upload_that_has_fallen_silent_is_cut_after_five_seconds(first: bytes) -> None:
    assert await seconds_until_cut(first, 60.0) == pytest.approx(5.0)


async def test_an_upload_over_tls_is_discarded_as_long_whether_it_is_seen_or_not() -> None:
    assert await seconds_until_cut(UPLOAD, 4.0, is_tls=True) == pytest.approx(30.0, abs=5.0)


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("first", [WHOLE, UPLOAD + b"x" * 9000])
async def test_a_caller_with_nothing_more_to_send_has_two_seconds_to_end(
    first: bytes, is_tls: bool
) -> None:
    assert await seconds_until_cut(first, 60.0, is_tls=is_tls) == pytest.approx(2.0)
