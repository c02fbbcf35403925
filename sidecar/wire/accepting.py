"""Which connections are admitted: counted as they are accepted, before a byte or a handshake.

The event loop's own servers accept one connection per iteration, so a queue of thousands starves
everyone behind it; this acceptor takes a few dozen at a time. A connection above a limit is closed
at once; without TLS it gets an error response first. While there is no room for another connection
in the process's descriptors (``wire.descriptors``), none is accepted: callers wait in the queue.

Where balancers send PROXY headers (``wire.proxy_header``), only those that are trusted may connect,
and a connection counts against the client that its header names.

A TLS connection costs little more than a socket until its first message has arrived whole. The
number of handshakes in progress is limited: beyond it, the network with the most of them loses its
oldest.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from sidecar.core.forwarded import peer_address
from sidecar.core.proxy_protocol import ProxyHeader
from sidecar.core.subjects import network_of
from sidecar.eager import EagerTask
from sidecar.outgoing.racing import EXHAUSTED
from sidecar.wire.client import LINGER_SECONDS_IN_ALL, ClientConnection
from sidecar.wire.deadlines import NEVER, Deadlines
from sidecar.wire.proxy_header import PendingHeader, Refusals
from sidecar.wire.turn_queue import RoundRobin, TurnQueue

MOST_AT_ONCE: Final = 64
LEAST_AT_ONCE: Final = 12
"""Accepted in one call however busy the loop is. With fewer, a client behind a burst of connections
waits too long; with more, the clients that are connected already do."""

MOST_HANDSHAKES: Final = 256
HANDSHAKE_SECONDS: Final = 10.0

_STALE_SECONDS: Final = 2.0  # a handshake takes a few round trips
_RETRY_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.1  # when the process has run out of descriptors
_RECORD_HEADER: Final = struct.Struct(">BHH")  # RFC 8446 section 5.1
_HANDSHAKE_RECORD: Final = 22
_MOST_RECORD_BYTES: Final = 16 * 1024 + _RECORD_HEADER.size

_log = logging.getLogger("sidecar")


class PendingHandshake(Protocol):
    """A connection that has been accepted and has not finished its TLS handshake, or not sent its
    PROXY header.
    """

    def abort(self) -> None:
        """Close it at once; idempotent."""


class AcceptingServer(Protocol):
    """What an acceptor needs of the server that it accepts connections for."""

    deadlines: Deadlines
    header_timeout_seconds: float
    turns: TurnQueue
    handshakes: set[PendingHandshake]
    """The connections whose handshake is unfinished; aborted when the server drains."""

    def has_room(self) -> bool:
        """Tell whether descriptors are left for another connection."""

    def wait_for_room(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once ``has_room`` is true again."""

    def admit(self, network: str) -> bool:
        """Count an accepted connection; ``False``, without counting it, if there are too many."""

    def release(self, network: str) -> None:
        """Undo ``admit`` for a connection whose protocol was never started."""

    def new_connection(self, network: str, peer: str) -> ClientConnection:
        """Return the protocol of an admitted connection; it calls ``release`` when it ends.

        ``peer`` is the client's address if a balancer has told it; empty: that of the socket.
        """

    def too_many(self) -> bytes:
        """Return the complete response for a connection that is not admitted."""


class Acceptor:
    """Accepts the connections of one listening socket; ``close`` closes the socket too.

    ``is_balancer`` tells of an address whether its PROXY headers are believed; with it, connections
    of any other are refused, and those without a header.
    """

    def __init__(
        self,
        listener: socket.socket,
        server: AcceptingServer,
        tls: ssl.SSLContext | None = None,
        is_balancer: Callable[[str], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._server = server
        self._is_balancer = is_balancer
        self._refusals = Refusals()
        self._handshakes = None if tls is None else _Handshakes(self._loop, server, tls)
        self._resume_timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept_some)

    def __repr__(self) -> str:
        return f"<Acceptor {self._handshakes!r}>"

    def close(self) -> None:
        """Stop accepting; connections that have been accepted are kept."""
        if self._listener.fileno() < 0:
            return
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _accept_some(self) -> None:
        for number in range(MOST_AT_ONCE):
            if number >= LEAST_AT_ONCE and self._server.turns.is_turn_over():
                return  # the rest of the queue makes the socket readable again
            if not self._server.has_room():
                self._pause()
                self._server.wait_for_room(self._resume)
                return
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause_accepting(error)
                    return
                continue  # the client has gone again
            accepted.setblocking(False)
            host = address[0] if isinstance(address, tuple) else ""
            if self._is_balancer is None:
                self._receive(accepted, network_of(host))
            else:
                self._await_header(accepted, peer_address(host), self._is_balancer)

    def _receive(self, accepted: socket.socket, network: str, peer: str = "") -> None:
        if not self._server.admit(network):
            self._refuse(accepted)
        elif self._handshakes is not None:
            self._handshakes.begin(accepted, network, peer)
        else:
            _Opening(self._loop, self._server, accepted, network, peer).start()

    def _await_header(
        self, accepted: socket.socket, sender: str, is_balancer: Callable[[str], bool]
    ) -> None:
        """Read the header of a connection that counts against nobody as yet."""
        server = self._server
        if not is_balancer(sender):
            accepted.close()
            self._refusals.note(sender, "it is not in trusted_proxies")
            return
        if not server.admit(""):
            self._refuse(accepted)
            return

        def on_header(pending: PendingHeader, header: ProxyHeader) -> None:
            server.handshakes.discard(pending)
            server.release("")
            self._receive(accepted, network_of(header.client or sender), header.client)

        def on_failure(pending: PendingHeader, why: str) -> None:
            server.handshakes.discard(pending)
            server.release("")
            if why:
                self._refusals.note(sender, why)

        pending = PendingHeader(
            self._loop,
            server.deadlines,
            accepted,
            server.header_timeout_seconds,
            on_header,
            on_failure,
        )
        server.handshakes.add(pending)
        pending.listen()

    def _refuse(self, accepted: socket.socket) -> None:
        with accepted:
            if self._handshakes is not None:
                return
            try:
                accepted.send(self._server.too_many())
                accepted.shutdown(socket.SHUT_WR)
                accepted.recv(_MOST_RECORD_BYTES)  # else close() resets it and loses the response
            except OSError:
                pass  # the client has gone, or has sent nothing yet

    def _pause_accepting(self, error: OSError) -> None:
        """Stop accepting for a moment, as there are no descriptors left."""
        _log.warning("cannot accept connections: %s", error.strerror)
        self._pause()
        self._resume_timer = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _pause(self) -> None:
        self._is_paused = True
        self._loop.remove_reader(self._listener.fileno())

    def _resume(self) -> None:
        if self._is_paused and self._listener.fileno() >= 0:
            self._is_paused = False
            self._loop.add_reader(self._listener.fileno(), self._accept_some)


class _Opening:
    """The step from an accepted socket to a connection with a protocol."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: AcceptingServer,
        accepted: socket.socket,
        network: str,
        peer: str,
    ) -> None:
        self._loop = loop
        self._server = server
        self._accepted = accepted
        self._peer = peer
        self._connection: ClientConnection | None = None
        self._task: EagerTask | None = None
        self.network = network

    def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Start the connection's protocol, after a handshake if ``tls`` is given."""
        self._task = EagerTask(self._loop, self._open(tls), self.on_end)

    def on_end(self, error: BaseException | None) -> None:
        """Handle the end of ``start``: the protocol runs (``None``), or the connection failed."""
        connection = self._connection
        if error is None:
            return
        self._accepted.close()
        if connection is None or not connection.is_made:
            self._server.release(self.network)

    async def _open(self, tls: ssl.SSLContext | None) -> None:
        times = (HANDSHAKE_SECONDS, LINGER_SECONDS_IN_ALL) if tls else (None, None)
        await self._loop.connect_accepted_socket(
            self._make_connection,
            self._accepted,
            ssl=tls,
            ssl_handshake_timeout=times[0],
            ssl_shutdown_timeout=times[1],
        )

    def _make_connection(self) -> ClientConnection:
        self._connection = made = self._server.new_connection(self.network, self._peer)
        return made


class _Handshakes:
    """The TLS connections of one listening socket whose handshake is unfinished."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, server: AcceptingServer, tls: ssl.SSLContext
    ) -> None:
        self.loop = loop
        self.server = server
        self.tls = tls
        self._silent = 0
        self._under_way: dict[str, dict[_Handshake, None]] = {}
        self._count = 0
        self._waiting = RoundRobin()

    def __repr__(self) -> str:
        return f"<_Handshakes silent={self._silent} under_way={self._count}>"

    def begin(self, accepted: socket.socket, network: str, peer: str) -> None:
        """Wait for the first message of an admitted connection."""
        _Handshake(self, accepted, network, peer).listen()

    def enqueue(self, one: _Handshake) -> None:
        """Start a handshake as soon as there is room for it."""
        self._waiting.push(one.network, one)
        self.start_waiting(one.network)

    def start_waiting(self, network: str) -> None:
        """Start waiting handshakes while there is room; make some for one of ``network``."""
        if self._count >= MOST_HANDSHAKES:
            self._make_room(network)
        self._start_some()

    def remove(self, one: _Handshake) -> None:
        """Forget a handshake that has ended, and start another one in its place."""
        siblings = self._under_way.get(one.network)
        if siblings is None or one not in siblings:
            return
        del siblings[one]
        if not siblings:
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
        """Abort the oldest handshake of the network that has the most of them.

        A recent one is kept unless that network has clearly more handshakes than ``network``.
        """
        most = max(self._under_way, key=lambda name: len(self._under_way[name]))
        siblings = self._under_way[most]
        oldest = next(iter(siblings))
        is_stale = monotonic() - oldest.began_at > _STALE_SECONDS
        if is_stale or len(siblings) > len(self._under_way.get(network, ())) + 1:
            oldest.abort()


class _Handshake(_Opening):
    """A TLS connection between its acceptance and the end of its handshake."""

    account = ""

    def __init__(
        self, handshakes: _Handshakes, accepted: socket.socket, network: str, peer: str
    ) -> None:
        super().__init__(handshakes.loop, handshakes.server, accepted, network, peer)
        self._handshakes = handshakes
        self._wanted_bytes = 1
        self._is_listening = False
        self.began_at = monotonic()
        self.has_ended = False
        self._ends_by = self.deadline = self.began_at + HANDSHAKE_SECONDS

    def listen(self) -> None:
        """Wait until the first message has arrived whole."""
        self._is_listening = True
        self._loop.add_reader(self._accepted.fileno(), self._on_readable)
        self._server.deadlines.watch(self)
        self._server.handshakes.add(self)

    def on_deadline(self) -> None:
        """Abort if the first message or the handshake is late; else look for room again."""
        if self._is_listening or monotonic() >= self._ends_by:
            self.abort()
        else:
            self.deadline = monotonic() + _RETRY_SECONDS
            self._handshakes.start_waiting(self.network)

    def take_turn(self) -> bool:
        """Queue the handshake, as this connection's turn has come (``TurnQueue``)."""
        if not self.has_ended:
            self.deadline = monotonic() + _RETRY_SECONDS
            self._handshakes.enqueue(self)
        return False

    def start_handshake(self) -> None:
        """Hand the socket to the event loop's TLS implementation."""
        self._server.deadlines.forget(self)
        self.deadline = NEVER
        self.began_at = monotonic()
        self.start(self._handshakes.tls)

    def abort(self) -> None:
        """Close the connection at once; idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._handshakes.remove(self)
        elif not self.has_ended:
            self._stop_listening()
            self.on_end(ConnectionAbortedError())

    def on_end(self, error: BaseException | None) -> None:
        """See ``_Opening``."""
        self.has_ended = True
        self._server.deadlines.forget(self)
        self._server.handshakes.discard(self)
        super().on_end(error)
        self._handshakes.remove(self)

    def _on_readable(self) -> None:
        try:
            begun = self._accepted.recv(_MOST_RECORD_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        wanted = _first_record_bytes(begun)
        if len(begun) >= wanted:
            self._want(1)
            self._stop_listening()
            if self._server.turns.is_turn_over():
                self._server.turns.enqueue(self)
            else:
                self.take_turn()
        elif len(begun) < self._wanted_bytes:
            self.abort()  # readable with fewer bytes than SO_RCVLOWAT: the client has closed
        else:
            self._want(wanted)

    def _want(self, size_bytes: int) -> None:
        """Wake up once this many bytes are there, not at each byte (socket(7), SO_RCVLOWAT)."""
        if size_bytes != self._wanted_bytes:
            self._wanted_bytes = size_bytes
            self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)

    def _stop_listening(self) -> None:
        if self._is_listening:
            self._is_listening = False
            self._loop.remove_reader(self._accepted.fileno())


def _first_record_bytes(begun: bytes) -> int:
    """Return the length of the TLS record that starts with ``begun``; anything but a handshake
    record counts as whole, so that the TLS implementation rejects it.
    """
    if len(begun) < _RECORD_HEADER.size:
        return _RECORD_HEADER.size
    kind, _, length = _RECORD_HEADER.unpack_from(begun)
    if kind != _HANDSHAKE_RECORD:
        return len(begun)
    return min(_RECORD_HEADER.size + int(length), _MOST_RECORD_BYTES)
