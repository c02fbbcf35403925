"""What a socket had received before a write to it failed.

A service that answers and closes while an upload runs makes our next write fail (``EPIPE``,
``ECONNRESET``), and the event loop then closes the transport without reading first. The answer is
still in the socket's receive buffer: on Linux, a reset leaves that alone. So a duplicate of the
descriptor outlives the transport, and the rest is read from it, at the receiver's pace. Nothing
more can arrive, so no read ever waits.

Below TLS, ``TlsTail`` stands between the transport and the TLS layer. It passes the rest up before
the loss, and holds the end of the stream back for a receiver that has paused: the TLS layer would
discard what it has not delivered.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

PIECE_BYTES = 64 * 1024  # read in one iteration of the loop


_PASSED_ON: Final = (
    "get_buffer",
    "buffer_updated",
)  # bound to the TLS layer itself: a read costs no call more


class LastBytes:
    """Reads the rest of a receive buffer, piece by piece, and then ends."""

    __slots__ = ("_deliver", "_is_due", "_is_ended", "_is_reading", "_loop", "_on_end", "_socket")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rest: socket.socket,
        deliver: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        """``on_end`` is called once, in a later iteration of the loop."""
        self._loop = loop
        self._socket = rest
        self._deliver = deliver
        self._on_end = on_end
        self._is_reading = True
        self._is_due = False
        self._is_ended = False

    def __repr__(self) -> str:
        return f"<LastBytes reading={self._is_reading} ended={self._is_ended}>"

    def read(self) -> None:
        """Deliver the next piece, and go on in the loop's next iteration."""
        self._is_due = False
        if self._is_ended or not self._is_reading:
            return
        try:
            data = self._socket.recv(PIECE_BYTES)
        except OSError:  # the reset itself; or a peer that has not closed, and sends no more now
            data = b""
        if not data:
            self.end()
            return
        self._deliver(data)
        self._continue()

    def set_reading(self, is_reading: bool) -> None:
        """Pause, as the receiver is slow, or go on."""
        self._is_reading = is_reading
        self._continue()

    def end(self) -> None:
        """Discard what has not been read."""
        if not self._is_ended:
            self._is_ended = True
            self._socket.close()
            self._loop.call_soon(self._on_end)

    def _continue(self) -> None:
        if self._is_reading and not self._is_due and not self._is_ended:
            self._is_due = True
            self._loop.call_soon(self.read)


class TlsListener(Protocol):
    """The connection above a TLS layer, told of what happens below that."""

    def hold_end(self, end: Callable[[], None]) -> bool:
        """The stream has ended. ``True``: ``end`` will be called to tell the TLS layer."""

    def on_write_failed(self, rest: LastBytes) -> None:
        """Nothing can be sent any more; ``rest`` delivers what had been received."""


class TlsTail(asyncio.BufferedProtocol):
    """Stands between a TCP transport and its TLS layer, and holds back the end and the loss of the
    former until the connection has had all bytes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        listener: TlsListener,
    ) -> None:
        """Take the place of the TLS layer, which ``loop.start_tls`` has put on ``transport``."""
        tls: Any = transport.get_protocol()
        self._loop = loop
        self._tls = tls
        self._transport = transport
        self._listener = listener
        self._is_writing_paused = False
        self.__dict__.update({name: getattr(tls, name) for name in _PASSED_ON})
        transport.set_protocol(self)

    def __repr__(self) -> str:
        return f"<TlsTail of {self._listener!r}>"

    def pause_writing(self) -> None:
        self._is_writing_paused = True
        self._tls.pause_writing()

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._tls.resume_writing()

    def eof_received(self) -> bool:
        """Pass the end on, at once or when the connection has read what came before."""
        if self._listener.hold_end(self._end):
            return True
        return bool(self._tls.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the loss on, after what the socket had received."""
        rest = None if exc is None else keep_socket(self._transport)
        if rest is None:
            self._tls.connection_lost(exc)
            return
        if not self._is_writing_paused:
            self._tls.pause_writing()  # else it writes as it reads, to a transport that is closed
        last = LastBytes(self._loop, rest, self._feed, lambda: self._tls.connection_lost(exc))
        self._listener.on_write_failed(last)
        last.read()

    def _end(self) -> None:
        if not self._tls.eof_received():
            self._transport.close()

    def _feed(self, data: bytes) -> None:
        while data:
            buffer = self._tls.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self._tls.buffer_updated(size)
            data = data[size:]


def keep_socket(transport: asyncio.BaseTransport | None) -> socket.socket | None:
    """Return the socket of a TCP or unix transport that is about to close, to be read from.

    ``None`` if there is no descriptor left. ``None`` for one above TLS, too: ``TlsTail`` has read
    that, and its descriptor is closed by now, if it is not somebody else's.
    """
    if transport is None or transport.get_extra_info("sslcontext") is not None:
        return None
    closing = transport.get_extra_info("socket")
    if closing is None:
        return None
    try:
        return socket.socket(fileno=os.dup(closing.fileno()))
    except OSError:
        return None
