"""How fast a client must move the bodies of an exchange, and how fast it does.

Only time in which the client holds the exchange up counts: the proxy reads and no body arrives, or
there is a response to send and the client does not take it. A service that is slow to read or to
respond costs its client nothing.

The minimum rate is an average, kept as a token bucket. A client has a credit of ``WINDOW_SECONDS``.
Every second in which it holds the exchange up is debited; every byte that moves, in either
direction, is credited with the time that it takes at the minimum rate, up to a full window. A
client without credit is too slow. So a client that was fast enough may pause, and one byte a second
is too slow however long it lasts.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from asyncio import Transport
from math import inf
from typing import Final

WINDOW_SECONDS: Final = 30.0
_SAMPLE_SECONDS: Final = 1.0
_INT: Final = struct.Struct("i")


class BodyRate:
    """The credit of one client. Times are seconds of a monotonic clock.

    ``least_bytes`` is the minimum rate in bytes per second; with 0 no client is too slow, and
    ``recent_rate`` still measures it.
    """

    __slots__ = (
        "_credit_seconds",
        "_is_held_up",
        "_least_bytes",
        "_moved_bytes",
        "_recent_rate",
        "_sampled_at",
        "_sampled_bytes",
        "_since",
        "started_at",
        "timeout_at",
    )

    def __init__(self, now: float, least_bytes: int) -> None:
        self.started_at = now
        self.timeout_at = inf
        """When the exchange times out for another reason; set by the relay."""
        self._least_bytes = least_bytes
        self._credit_seconds = WINDOW_SECONDS
        self._is_held_up = False
        self._since = now
        self._moved_bytes = 0
        self._recent_rate = -1.0
        self._sampled_at = now
        self._sampled_bytes = 0

    @property
    def expires_at(self) -> float:
        """When the client's credit runs out, unless bytes move before then."""
        if not self._is_held_up or not self._least_bytes:
            return inf
        return self._since + self._credit_seconds

    def set_held_up(self, now: float, is_held_up: bool) -> None:
        """Note whether the client holds the exchange up from now on."""
        if is_held_up == self._is_held_up:
            return
        self._debit(now)
        self._is_held_up = is_held_up

    def keeps_up(self, now: float, moved_bytes: int) -> bool:
        """Tell whether the client is fast enough; ``moved_bytes`` is the total moved so far."""
        self._debit(now)
        moved, self._moved_bytes = moved_bytes - self._moved_bytes, moved_bytes
        if moved > 0 and self._least_bytes:
            earned = moved / self._least_bytes
            self._credit_seconds = min(WINDOW_SECONDS, self._credit_seconds + earned)
        return self._credit_seconds > 0 or not self._least_bytes

    def recent_rate(self, now: float, moved_bytes: int) -> float:
        """Return the recent rate in bytes per second: over a second or more, or since the start."""
        seconds = now - self._sampled_at
        if seconds < _SAMPLE_SECONDS:
            return (
                self._recent_rate if self._recent_rate >= 0 else moved_bytes / max(seconds, 0.001)
            )
        self._recent_rate = (moved_bytes - self._sampled_bytes) / seconds
        self._sampled_at, self._sampled_bytes = now, moved_bytes
        return self._recent_rate

    def _debit(self, now: float) -> None:
        if self._is_held_up:
            self._credit_seconds -= now - self._since
        self._since = now


def unacknowledged_bytes(transport: Transport | None) -> int:
    """Return how many of the bytes written the peer's system has not acknowledged yet.

    Bytes in the kernel's send queue count too: they may be megabytes, which take a slow reader
    minutes, and meanwhile the transport's own buffer does not move.
    """
    if transport is None:
        return 0
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size))
        except OSError:  # closed, or not supported by the system
            return waiting
        waiting += _INT.unpack(queued)[0]
    return waiting
