"""What a socket holds is read after a write failed: in pieces, at the receiver's pace, once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from sidecar.wire.last_bytes import PIECE_BYTES, LastBytes, keep_socket
from tests.fake_transport import FakeTransport


class Receiver:
    """Takes what comes; ``ends`` counts the ends."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends = 0

    def end(self) -> None:
        self.ends += 1


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the service's end and ours."""
    service, ours = socket.socketpair()
    service.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ours.setblocking(False)
    with service, ours:
        yield service, ours


Sockets = tuple[socket.socket, socket.socket]


def reading(ours: socket.socket, receiver: Receiver) -> LastBytes:
    loop = asyncio.get_running_loop()
    return LastBytes(loop, ours, receiver.pieces.append, receiver.end)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_all_is_read_that_had_come_before_the_close(sockets: Sockets) -> None:
    service, ours = sockets
    service.sendall(b"a" * (2 * PIECE_BYTES + 1))
    service.close()
    receiver = Receiver()
    reading(ours, receiver).read()
    assert receiver.pieces == [b"a" * PIECE_BYTES], "one piece in each turn of the loop"
    await turns()
    assert b"".join(receiver.pieces) == b"a" * (2 * PIECE_BYTES + 1)
    assert receiver.ends == 1


async def test_what_is_read_at_the_end_is_told_later(sockets: Sockets) -> None:
    service, ours = sockets
    service.close()
    receiver = Receiver()
    reading(ours, receiver).read()
    assert receiver.ends == 0
    await turns()
    assert receiver.ends == 1


async def test_a_slow_receiver_is_not_given_more(sockets: Sockets) -> None:
    service, ours = sockets
    service.sendall(b"a" * (PIECE_BYTES + 1))
    service.close()
    receiver = Receiver()
    last = reading(ours, receiver)
    last.set_reading(False)
    last.read()
    await turns()
    assert receiver.pieces == []
    last.set_reading(True)
    last.set_reading(True)
    await turns()
    assert list(map(len, receiver.pieces)) == [PIECE_BYTES, 1]


async def test_a_receiver_that_has_had_enough_gets_no_more(sockets: Sockets) -> None:
    service, ours = sockets
    service.sendall(b"a" * (PIECE_BYTES + 1))
    receiver = Receiver()
    last = reading(ours, receiver)
    last.read()
    last.end()
    last.end()
    await turns()
    assert (len(receiver.pieces), receiver.ends) == (1, 1)
    assert ours.fileno() == -1


async def test_a_peer_that_stays_open_is_not_waited_for(sockets: Sockets) -> None:
    service, ours = sockets
    service.sendall(b"a")
    receiver = Receiver()
    reading(ours, receiver).read()
    await turns()
    assert (receiver.pieces, receiver.ends) == ([b"a"], 1)


class Closing(FakeTransport):
    def __init__(self, held: socket.socket | None) -> None:
        super().__init__(asyncio.Protocol())
        self._held = held

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._held if name == "socket" else default


def test_the_kept_socket_outlives_the_one_that_is_closed(sockets: Sockets) -> None:
    service, ours = sockets
    kept = keep_socket(Closing(ours))
    assert kept is not None
    ours.close()
    service.sendall(b"a")
    assert kept.recv(2) == b"a"
    kept.close()


@pytest.mark.parametrize("make", [lambda: None, lambda: closed_socket()])
def test_without_a_descriptor_nothing_is_kept(make: Callable[[], socket.socket | None]) -> None:
    assert keep_socket(Closing(make())) is None


def closed_socket() -> socket.socket:
    made = socket.socket()
    made.close()
    return made
