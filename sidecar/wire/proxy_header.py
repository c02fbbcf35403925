"""Connections that wait for their PROXY header (``core.proxy_protocol``), before anything else.

The bytes are looked at and left in the socket until the header is whole. What follows it, perhaps a
TLS handshake, stays there for whoever is next. A connection that doesn't begin with a header, or
whose header is late, is closed without an answer: the balancer isn't set up as we are, and nobody
knows who called.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final

from sidecar.core.proxy_protocol import MOST_BYTES, MalformedHeader, ProxyHeader, read_header
from sidecar.wire.deadlines import Deadlines

_SILENT_SECONDS: Final = 60.0  # between two lines in the log

_log = logging.getLogger("sidecar")


class Refusals:
    """Says in the log, once a minute, that connections were refused, the last of them and why."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._unsaid = 0

    def note(self, sender: str, why: str) -> None:
        """Note a connection from ``sender`` that is refused."""
        self._unsaid += 1
        now = monotonic()
        if now >= self._next_at:
            self._next_at = now + _SILENT_SECONDS
            _log.warning(
                "listen.proxy_protocol: refused a connection from %s: %s (%d since the last line)",
                sender,
                why,
                self._unsaid,
            )
            self._unsaid = 0


class PendingHeader:
    """An accepted connection until its header is whole.

    Then ``on_header`` is called, which owns the socket from there on; or ``on_failure``, with the
    reason, once the socket has been closed (an empty one: the sender has closed it).
    """

    __slots__ = (
        "_accepted",
        "_deadlines",
        "_loop",
        "_on_failure",
        "_on_header",
        "_wanted_bytes",
        "deadline",
        "has_ended",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        accepted: socket.socket,
        timeout_seconds: float,
        on_header: Callable[[PendingHeader, ProxyHeader], None],
        on_failure: Callable[[PendingHeader, str], None],
    ) -> None:
        self._loop = loop
        self._deadlines = deadlines
        self._accepted = accepted
        self._on_header = on_header
        self._on_failure = on_failure
        self._wanted_bytes = 1
        self.has_ended = False
        self.deadline = monotonic() + timeout_seconds

    def listen(self) -> None:
        """Wait for the header; it may be here already."""
        self._loop.add_reader(self._accepted.fileno(), self._on_readable)
        self._deadlines.watch(self)
        self._on_readable()

    def on_deadline(self) -> None:
        """Give up."""
        self._fail("no whole PROXY header in time")

    def abort(self) -> None:
        """Close the connection at once; idempotent."""
        self._fail("")

    def _on_readable(self) -> None:
        try:
            begun = self._accepted.recv(MOST_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._fail("")
            return
        if len(begun) < self._wanted_bytes:  # readable with less than SO_RCVLOWAT: it has closed
            self._fail("")
            return
        try:
            found = read_header(begun)
        except MalformedHeader:
            self._fail("it does not begin with a PROXY header")
            return
        if isinstance(found, ProxyHeader):
            self._want(1)
            self._stop()
            self._accepted.recv(found.size)
            self._on_header(self, found)
        else:
            self._want(found)

    def _want(self, size_bytes: int) -> None:
        """Wake up once this many bytes are there, not at each byte (socket(7), SO_RCVLOWAT)."""
        if size_bytes != self._wanted_bytes:
            self._wanted_bytes = size_bytes
            self._accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)

    def _fail(self, why: str) -> None:
        if not self.has_ended:
            self._stop()
            self._accepted.close()
            self._on_failure(self, why)

    def _stop(self) -> None:
        self.has_ended = True
        self._loop.remove_reader(self._accepted.fileno())
        self._deadlines.forget(self)
