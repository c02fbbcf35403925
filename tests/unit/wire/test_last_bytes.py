"""What a socket holds is read after a write failed: in pieces, at the receiver's pace, once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from sidecar.wire.last_bytes import PIECE_BYTES, LastBytes, TlsTail, keep_socket
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
    def __init__(self, held: socket.socket, tls: object = None) -> None:
        super().__init__(asyncio.Protocol())
        self._held = {"socket": held, "sslcontext": tls}

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._held.get(name, default)


def test_the_kept_socket_outlives_the_one_that_is_closed(sockets: Sockets) -> None:
    service, ours = sockets
    kept = keep_socket(Closing(ours))
    assert kept is not None
    ours.close()
    service.sendall(b"a")
    assert kept.recv(2) == b"a"
    kept.close()


def test_without_a_descriptor_nothing_is_kept() -> None:
    closed = socket.socket()
    closed.close()
    assert keep_socket(Closing(closed)) is None
    assert keep_socket(None) is None


def test_the_socket_of_a_tls_transport_is_left_alone(sockets: Sockets) -> None:
    assert keep_socket(Closing(sockets[1], tls=object())) is None


class FakeTls(asyncio.BufferedProtocol):
    """A TLS layer that delivers what it is fed, in a buffer of seven bytes."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._buffer = bytearray(7)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.events.append(self._buffer[:nbytes].decode())

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def eof_received(self) -> None:
        self.events.append("end")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Below(Closing):
    """The transport below TLS."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.above

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.above = protocol


class Listener:
    """A connection that has paused reading, or not."""

    def __init__(self, *, is_paused: bool = False) -> None:
        self.is_paused = is_paused
        self.held: list[Callable[[], None]] = []
        self.rests: list[LastBytes] = []

    def hold_end(self, end: Callable[[], None]) -> bool:
        self.held.append(end)
        return self.is_paused

    def on_write_failed(self, rest: LastBytes) -> None:
        self.rests.append(rest)


def tail_of(ours: socket.socket, tls: FakeTls, listener: Listener) -> TlsTail:
    below = Below(ours)
    below.set_protocol(tls)
    tail = TlsTail(asyncio.get_running_loop(), below, listener)
    assert below.get_protocol() is tail
    return tail


@pytest.mark.parametrize("was_paused", [True, False])
async def test_tls_gets_the_rest_before_the_loss_and_writes_no_more(
    sockets: Sockets, was_paused: bool
) -> None:
    service, ours = sockets
    service.sendall(b"0123456789")
    service.close()
    tls, listener = FakeTls(), Listener()
    tail = tail_of(ours, tls, listener)
    if was_paused:
        tail.pause_writing()
    tail.connection_lost(BrokenPipeError())
    assert tls.events == ["pause", "0123456", "789"]
    await turns()
    assert tls.events[3:] == ["lost"]
    assert len(listener.rests) == 1


async def test_a_loss_that_is_no_failure_to_write_is_passed_on_at_once(sockets: Sockets) -> None:
    tls, listener = FakeTls(), Listener()
    tail_of(sockets[1], tls, listener).connection_lost(None)
    assert (tls.events, listener.rests) == (["lost"], [])


async def test_writing_that_is_paused_goes_on(sockets: Sockets) -> None:
    tls = FakeTls()
    tail = tail_of(sockets[1], tls, Listener())
    tail.pause_writing()
    tail.resume_writing()
    assert tls.events == ["pause", "resume"]


async def test_the_end_waits_for_a_reader_that_has_paused(sockets: Sockets) -> None:
    tls, listener = FakeTls(), Listener(is_paused=True)
    assert tail_of(sockets[1], tls, listener).eof_received()
    assert tls.events == []
    listener.held[0]()
    assert tls.events == ["end"]


async def test_the_end_is_told_at_once_to_a_reader_that_reads(sockets: Sockets) -> None:
    tls = FakeTls()
    assert not tail_of(sockets[1], tls, Listener()).eof_received()
    assert tls.events == ["end"]
