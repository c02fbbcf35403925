"""Which connections are taken: counted as they are accepted, before a byte or a handshake.

The loop's own servers accept one connection in each of its turns, so that a queue of thousands
starves whoever comes behind it; this one takes some dozens. A connection above a bound is cut at
once; without TLS it is told why.

A TLS connection costs a socket and little else until its first message has come whole. Handshakes
under way are bounded: when there are too many, the network that has most of them loses its oldest.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import struct
from time import monotonic
from typing import Final, Protocol

from sidecar.core.subjects import network_of
from sidecar.eager import PromptTask
from sidecar.wire.client import ClientConnection
from sidecar.wire.deadlines import NEVER, Deadlines
from sidecar.wire.turn_queue import RoundRobin, TurnQueue

MOST_AT_ONCE: Final = 64
LEAST_AT_ONCE: Final = 12
"""So many are accepted however busy the loop is: fewer, and whoever waits behind a burst of them is
heard late; more, and those who are connected are."""

MOST_HANDSHAKES: Final = 256
HANDSHAKE_SECONDS: Final = 10.0

_STALE_SECONDS: Final = 2.0  # a handshake takes a few round trips
_PRESS_SECONDS: Final = 0.5
_SHUTDOWN_SECONDS: Final = 2.0  # for the other side's farewell, once all is sent
_REST_SECONDS: Final = 0.1  # when there are no more descriptors
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RECORD_HEADER: Final = struct.Struct(">BHH")  # RFC 8446 section 5.1
_HANDSHAKE_RECORD: Final = 22
_MOST_RECORD_BYTES: Final = 16 * 1024 + _RECORD_HEADER.size

_log = logging.getLogger("sidecar")


class Unready(Protocol):
    """A connection that was accepted and is not there yet."""

    def give_up(self) -> None:
        """Cut it; idempotent."""


class Guests(Protocol):
    """What an acceptor asks of the server that the connections are for."""

    deadlines: Deadlines
    turns: TurnQueue
    handshakes: set[Unready]
    """The connections that are not through their handshake; cut at the end of a drain."""

    def admit(self, network: str) -> bool:
        """Count a connection that was accepted; ``False``, and nothing counted: too many."""

    def dismiss(self, network: str) -> None:
        """Take back ``admit`` for a connection that did not come about."""

    def new_connection(self, network: str) -> ClientConnection:
        """Return the protocol of one that was admitted; its end takes ``admit`` back."""

    def too_many(self) -> bytes:
        """Return the whole response for one that was not."""


class Acceptor:
    """Accepts the connections of one listening socket, which is closed with it."""

    def __init__(
        self, listener: socket.socket, guests: Guests, tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._guests = guests
        self._handshakes = None if tls is None else _Handshakes(self._loop, guests, tls)
        self._rest: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept_some)

    def __repr__(self) -> str:
        return f"<Acceptor {self._handshakes!r}>"

    def close(self) -> None:
        """Accept nothing more; what was accepted goes on."""
        if self._listener.fileno() < 0:
            return
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _accept_some(self) -> None:
        for number in range(MOST_AT_ONCE):
            if number >= LEAST_AT_ONCE and self._guests.turns.is_turn_over():
                return  # what still waits makes the socket readable again
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest_a_while(error)
                    return
                continue  # it has gone again
            accepted.setblocking(False)
            self._receive(accepted, network_of(address[0]) if isinstance(address, tuple) else "")

    def _receive(self, accepted: socket.socket, network: str) -> None:
        if not self._guests.admit(network):
            self._refuse(accepted)
        elif self._handshakes is not None:
            self._handshakes.begin(accepted, network)
        else:
            _Opening(self._loop, self._guests, accepted, network).start()

    def _refuse(self, accepted: socket.socket) -> None:
        with accepted:
            if self._handshakes is not None:
                return
            try:
                accepted.send(self._guests.too_many())
                accepted.shutdown(socket.SHUT_WR)
                accepted.recv(_MOST_RECORD_BYTES)  # else closing resets it, and the answer is lost
            except OSError:
                pass  # it has gone, or has sent nothing yet

    def _rest_a_while(self, error: OSError) -> None:
        """Leave the queue alone while there are no descriptors for what is in it."""
        _log.warning("no connection can be accepted: %s", error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._rest = self._loop.call_later(
            _REST_SECONDS, self._loop.add_reader, self._listener.fileno(), self._accept_some
        )


class _Opening:
    """A connection on its way from an accepted socket to its protocol."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        guests: Guests,
        accepted: socket.socket,
        network: str,
    ) -> None:
        self._loop = loop
        self._guests = guests
        self._accepted = accepted
        self._connection: ClientConnection | None = None
        self._task: PromptTask | None = None
        self.network = network

    def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Make the connection, after its handshake if there is to be one."""
        self._task = PromptTask(self._loop, self._open(tls), self.on_end)

    def on_end(self, error: BaseException | None) -> None:
        """Told once: it has come about (``None``), or not."""
        connection = self._connection
        if error is None:
            return
        self._accepted.close()
        if connection is None or not connection.is_made:
            self._guests.dismiss(self.network)

    async def _open(self, tls: ssl.SSLContext | None) -> None:
        times = (HANDSHAKE_SECONDS, _SHUTDOWN_SECONDS) if tls else (None, None)
        await self._loop.connect_accepted_socket(
            self._make_connection,
            self._accepted,
            ssl=tls,
            ssl_handshake_timeout=times[0],
            ssl_shutdown_timeout=times[1],
        )

    def _make_connection(self) -> ClientConnection:
        self._connection = made = self._guests.new_connection(self.network)
        return made


class _Handshakes:
    """The TLS connections of one listening socket that are not through their handshake."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, guests: Guests, tls: ssl.SSLContext
    ) -> None:
        self.loop = loop
        self.guests = guests
        self.tls = tls
        self._silent = 0
        self._under_way: dict[str, dict[_Handshake, None]] = {}
        self._count = 0
        self._waiting = RoundRobin()

    def __repr__(self) -> str:
        return f"<_Handshakes silent={self._silent} under_way={self._count}>"

    def begin(self, accepted: socket.socket, network: str) -> None:
        """Wait for the first message of a connection that was admitted."""
        _Handshake(self, accepted, network).listen()

    def enter(self, one: _Handshake) -> None:
        """Do a handshake as soon as there is room for it."""
        self._waiting.push(one.network, one)
        self.press(one.network)

    def press(self, network: str) -> None:
        """Start what waits, if there is room or some can be made for a handshake of ``network``."""
        if self._count >= MOST_HANDSHAKES:
            self._make_room(network)
        self._start_some()

    def leave(self, one: _Handshake) -> None:
        """Forget a handshake that has ended; another one takes its place."""
        fellows = self._under_way.get(one.network)
        if fellows is None or one not in fellows:
            return
        del fellows[one]
        if not fellows:
            del self._under_way[one.network]
        self._count -= 1
        self._start_some()

    def _start_some(self) -> None:
        while self._count < MOST_HANDSHAKES:
            one = self._waiting.pop()
            if one is None:
                return
            assert isinstance(one, _Handshake)
            if not one.has_ended:
                self._under_way.setdefault(one.network, {})[one] = None
                self._count += 1
                one.start_handshake()

    def _make_room(self, network: str) -> None:
        """End the oldest handshake of the network that has most of them, unless that is ours and
        the handshake has had no time yet.
        """
        most = max(self._under_way, key=lambda name: len(self._under_way[name]))
        fellows = self._under_way[most]
        oldest = next(iter(fellows))
        is_stale = monotonic() - oldest.began_at > _STALE_SECONDS
        if is_stale or len(fellows) > len(self._under_way.get(network, ())) + 1:
            oldest.give_up()


class _Handshake(_Opening):
    """A TLS connection from its acceptance to the end of its handshake."""

    account = ""

    def __init__(self, all_of_them: _Handshakes, accepted: socket.socket, network: str) -> None:
        super().__init__(all_of_them.loop, all_of_them.guests, accepted, network)
        self._all = all_of_them
        self._wanted_bytes = 1
        self._is_listening = False
        self.began_at = monotonic()
        self.has_ended = False
        self._ends_by = self.deadline = self.began_at + HANDSHAKE_SECONDS

    def listen(self) -> None:
        """Wait until the first message has come whole."""
        self._is_listening = True
        self._loop.add_reader(self._accepted.fileno(), self._on_readable)
        self._guests.deadlines.watch(self)
        self._guests.handshakes.add(self)

    def on_deadline(self) -> None:
        """The first message, or room for the handshake, did not come in time."""
        if self._is_listening or monotonic() >= self._ends_by:
            self.give_up()
        else:
            self.deadline = monotonic() + _PRESS_SECONDS
            self._all.press(self.network)

    def take_turn(self) -> bool:
        """Go on to the handshake, in the line of ``TurnQueue``."""
        if not self.has_ended:
            self.deadline = monotonic() + _PRESS_SECONDS
            self._all.enter(self)
        return False

    def start_handshake(self) -> None:
        """Hand the socket over to the loop's TLS."""
        self._guests.deadlines.forget(self)
        self.deadline = NEVER
        self.began_at = monotonic()
        self.start(self._all.tls)

    def give_up(self) -> None:
        """Cut the connection; idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._all.leave(self)
        elif not self.has_ended:
            self._stop_listening()
            self.on_end(ConnectionAbortedError())

    def on_end(self, error: BaseException | None) -> None:
        """See ``_Opening``."""
        self.has_ended = True
        self._guests.deadlines.forget(self)
        self._guests.handshakes.discard(self)
        super().on_end(error)
        self._all.leave(self)

    def _on_readable(self) -> None:
        try:
            begun = self._accepted.recv(_MOST_RECORD_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.give_up()
            return
        wanted = _first_record_bytes(begun)
        if len(begun) >= wanted:
            self._want(1)
            self._stop_listening()
            if self._guests.turns.is_turn_over():
                self._guests.turns.enqueue(self)
            else:
                self.take_turn()
        elif len(begun) < self._wanted_bytes:
            self.give_up()  # readable with less than was wanted: there will be no more
        else:
            self._want(wanted)

    def _want(self, size_bytes: int) -> None:
        """Be told when so many bytes are there, not of each one (socket(7), SO_RCVLOWAT)."""
        if size_bytes != self._wanted_bytes:
            self._wanted_bytes = size_bytes
            self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)

    def _stop_listening(self) -> None:
        if self._is_listening:
            self._is_listening = False
            self._loop.remove_reader(self._accepted.fileno())


def _first_record_bytes(begun: bytes) -> int:
    """Return how long the record is that begins so; what is no TLS handshake is left to TLS."""
    if len(begun) < _RECORD_HEADER.size:
        return _RECORD_HEADER.size
    kind, _, length = _RECORD_HEADER.unpack_from(begun)
    if kind != _HANDSHAKE_RECORD:
        return len(begun)
    return min(_RECORD_HEADER.size + int(length), _MOST_RECORD_BYTES)
