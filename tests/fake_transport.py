"""A transport in memory: what was written, whether reading goes on, how it was closed."""

from __future__ import annotations

import asyncio
from typing import Any


class FakeTransport(asyncio.Transport):
    """Takes what a protocol does to its socket. ``deliver`` is what a socket would do to it.

    Like uvloop's, it tells of the loss of a connection in the loop's next turn.
    """

    def __init__(self, protocol: asyncio.Protocol, *, is_tls: bool = False) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.is_paused = False
        self.is_ended = False
        self.is_aborted = False
        self.unsent_bytes = 0
        self._is_closing = False
        self._is_tls = is_tls

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.is_ended, "nothing may be written after the end"
        if not self._is_closing:
            self.written += data

    def write_eof(self) -> None:
        self.is_ended = True

    def can_write_eof(self) -> bool:
        return not self._is_tls

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take all that is written, at once."""

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def take(self) -> bytes:
        """Return, once, what was written."""
        written, self.written = self.written, b""
        return written
