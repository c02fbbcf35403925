"""What a service had sent before it closed is read, whatever became of our writing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from sidecar.core.errors import UpstreamBroken, UpstreamUnreachable
from sidecar.wire.upstream import UpstreamConnection
from tests.in_process import OK, Peer, answering, on_uvloop, request, running_proxy
from tests.patience import PATIENCE_SECONDS
from tests.unit.wire.fake_upstream import FakeSink

REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
CHUNKS = b"HTTP/1.1 413 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
LARGE = b"l" * 600_000
RESETS = struct.pack("ii", 1, 0)


@contextmanager
def unix_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    service, ours = socket.socketpair()
    with service, ours:
        yield service, ours


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a pair whose service's end resets as it closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        service, _ = listener.accept()
    service.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    with service, ours:
        yield service, ours


Pair = Callable[[], AbstractContextManager[tuple[socket.socket, socket.socket]]]


@dataclass(frozen=True)
class Loss:
    """What a service sends before it closes in the middle of an upload, and what is made of it."""

    sent: bytes
    status: int
    body: bytes


LOSSES = {
    "a whole answer": Loss(REFUSAL, 413, b"no"),
    "an answer without a body": Loss(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", 401, b""),
    "a success": Loss(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "a redirect": Loss(b"HTTP/1.1 307 There\r\nContent-Length: 0\r\n\r\n", 307, b""),
    "no content": Loss(b"HTTP/1.1 204 None\r\n\r\n", 204, b""),
    "chunks": Loss(CHUNKS, 413, b"no"),
    "an interim answer first": Loss(b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSAL, 413, b"no"),
    "an error until the end": Loss(b"HTTP/1.1 413 No\r\n\r\nno", 413, b"no"),
    "more than a piece": Loss(
        b"HTTP/1.1 413 No\r\nContent-Length: 90000\r\n\r\n" + b"l" * 90_000, 413, b"l" * 90_000
    ),
}
BROKEN = {
    "nothing": (b"", UpstreamUnreachable),
    "half of a head": (b"HTTP/1.1 413 No\r\nConte", UpstreamBroken),
    "a head alone": (b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n", UpstreamBroken),
    "an open chunk": (CHUNKS[:-5], UpstreamBroken),
    "a success until the end, which cannot be told": (
        b"HTTP/1.1 200 OK\r\n\r\nsome of it",
        UpstreamBroken,
    ),
    "no HTTP": (b"SSH-2.0\r\n", UpstreamBroken),
}


async def connect(ours: socket.socket) -> tuple[UpstreamConnection, list[UpstreamConnection]]:
    """Return a connection in the middle of an upload, and those whose loss has been told."""
    loop, lost = asyncio.get_running_loop(), list[UpstreamConnection]()
    connection = UpstreamConnection(loop, "service", lost.append)
    await loop.create_connection(lambda: connection, sock=ours.dup())
    connection.start("POST", False, b"POST / HTTP/1.1\r\n\r\n", False, FakeSink())
    await asyncio.sleep(0)
    return connection, lost


def lose(service: socket.socket, connection: UpstreamConnection, sent: bytes) -> None:
    """Have the service send and close, and write on before the loop can read what it sent."""
    service.sendall(sent)
    service.close()
    assert connection.transport is not None
    for _ in range(2):
        connection.transport.write(b"more")


async def read(connection: UpstreamConnection) -> tuple[int, bytes]:
    head = await asyncio.wait_for(connection.answered(), PATIENCE_SECONDS)
    await asyncio.wait_for(connection.finished(), PATIENCE_SECONDS)
    return head.status, connection.take()


@pytest.mark.parametrize("pair", [unix_pair, tcp_pair])
@pytest.mark.parametrize("name", LOSSES)
@on_uvloop
async def test_what_a_service_sent_is_read_though_writing_failed_first(
    pair: Pair, name: str
) -> None:
    loss = LOSSES[name]
    with pair() as (service, ours):
        connection, lost = await connect(ours)
        lose(service, connection, loss.sent)
        assert await read(connection) == (loss.status, loss.body)
        assert not connection.is_reusable
        connection.abort()
        await asyncio.sleep(0.01)
        assert lost == [connection]


@pytest.mark.parametrize("pair", [unix_pair, tcp_pair])
@pytest.mark.parametrize("name", BROKEN)
@on_uvloop
async def test_what_is_no_whole_answer_is_a_fault(pair: Pair, name: str) -> None:
    sent, fault = BROKEN[name]
    with pair() as (service, ours):
        connection, lost = await connect(ours)
        lose(service, connection, sent)
        with pytest.raises(fault):
            await read(connection)
        await asyncio.sleep(0.01)
        assert lost == [connection]


@on_uvloop
async def test_a_slow_caller_slows_the_reading_of_what_is_left() -> None:
    with unix_pair() as (service, ours):
        service.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection, _ = await connect(ours)
        head = b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
        lose(service, connection, head + LARGE)
        connection.set_reading(False)
        await asyncio.sleep(0.01)
        assert connection.reader.waiting_bytes == 0
        connection.set_reading(True)
        await asyncio.wait_for(connection.finished(), PATIENCE_SECONDS)
        assert connection.take() == LARGE


@on_uvloop
async def test_what_is_left_is_not_read_once_the_exchange_is_over() -> None:
    with unix_pair() as (service, ours):
        connection, lost = await connect(ours)
        lose(service, connection, REFUSAL)
        connection.set_reading(False)
        connection.fail(UpstreamBroken("over"))
        with pytest.raises(UpstreamBroken, match="over"):
            await read(connection)
        await asyncio.sleep(0.01)
        assert lost == [connection]
        connection.send(b"dropped")
        connection.set_reading(True)
        connection.abort()


@on_uvloop
async def test_what_a_kept_connection_held_before_a_small_request_is_no_answer_to_it() -> None:
    with unix_pair() as (service, ours):
        connection, _ = await connect(ours)
        service.sendall(REFUSAL)
        await read(connection)
        service.sendall(b"HTTP/1.1 408 Idle\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        service.close()
        connection.start("GET", False, b"GET / HTTP/1.1\r\n\r\n", True, FakeSink())
        assert connection.transport is not None
        connection.transport.write(b"more")
        with pytest.raises(UpstreamUnreachable):
            await read(connection)


@on_uvloop
async def test_what_is_left_is_not_read_for_nobody() -> None:
    with unix_pair() as (service, ours):
        connection, lost = await connect(ours)
        lose(service, connection, REFUSAL)
        connection.set_reading(False)
        connection.sink = None
        connection.abort()
        await asyncio.sleep(0.01)
        assert lost == [connection]


@on_uvloop
async def test_the_last_bytes_of_a_tunnel_are_read_too() -> None:
    with unix_pair() as (service, ours):
        connection, _ = await connect(ours)
        connection.reader.is_complete = connection.reader.is_upgraded = True
        connection.become_tunnel()
        lose(service, connection, b"bye")
        await asyncio.wait_for(connection.finished(), PATIENCE_SECONDS)
        assert connection.take() == b"bye"


@pytest.mark.parametrize("length", ["Content-Length: 8000000", "Transfer-Encoding: chunked"])
@on_uvloop
async def test_the_caller_gets_the_answer_and_an_end_and_no_reset(length: str) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(REFUSAL)

    async with running_proxy(refuse) as proxy:
        caller = await proxy.caller()
        piece = b"u" * 8000
        framed = piece if "Length" in length else b"%x\r\n%b\r\n" % (len(piece), piece)
        await caller.send(request("POST", "/x", length))
        for _ in range(100):
            await caller.send(framed)
            await asyncio.sleep(0)
        assert not caller.writer.transport.is_closing()
        head, body = await caller.response()
        assert (head.split(b" ")[1], body) == (b"413", b"no")
        await caller.send(framed)
        assert await caller.reader.read() == b""
        await proxy.settle(lambda: "open=0" in repr(proxy.pool))


@on_uvloop
async def test_an_answer_whose_upload_runs_on_says_that_the_connection_ends() -> None:
    async with running_proxy(answering(REFUSAL)) as proxy:
        caller = await proxy.caller()
        await caller.send(request("POST", "/x", "Content-Length: 8000000") + b"u")
        head, _ = await caller.response()
        assert b"\r\nconnection: close\r\n" in head.lower()


@on_uvloop
async def test_a_connection_is_not_reused_after_an_upload_that_may_be_unread() -> None:
    async with running_proxy(answering(REFUSAL), answering(OK)) as proxy:
        for _ in range(2):
            caller = await proxy.caller()
            await caller.send(request("POST", "/x", "Content-Length: 20000") + b"u" * 20_000)
            await caller.response()
        assert len(proxy.upstream.peers) == 2


@on_uvloop
async def test_a_connection_is_reused_after_an_upload_that_was_accepted() -> None:
    async def accept(peer: Peer) -> None:
        for _ in range(2):
            await peer.until(b"\r\n\r\n")
            await peer.exactly(20_000)
            await peer.send(OK)

    async with running_proxy(accept) as proxy:
        for _ in range(2):
            caller = await proxy.caller()
            await caller.send(request("POST", "/x", "Content-Length: 20000") + b"u" * 20_000)
            await caller.response()
        assert len(proxy.upstream.peers) == 1
