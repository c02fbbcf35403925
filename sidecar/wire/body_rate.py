"""How fast a client must move the bodies of an exchange, and how fast it does.

Only time in which the client is what holds the exchange up counts: we read and no body comes, or
there is an answer to send and the client does not take it. A service that is slow to read or to
answer costs its client nothing.

The least rate is an average. A client has ``WINDOW_SECONDS`` of such time in hand; every second of
it is spent, and every byte that moves, either way, earns back what it takes at the least rate, up
to a full window. A client that has none left is too slow. So a pause is forgiven to one that was
fast enough before, and a byte a second is not enough however long it lasts.
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
    """The account of one client's time. Times are seconds of a clock that never goes back.

    ``least_bytes`` is the least rate a second; with 0 no client is too slow, and ``lately`` still
    tells how fast it is.
    """

    __slots__ = (
        "_in_hand_seconds",
        "_is_held_up",
        "_lately",
        "_least_bytes",
        "_moved_bytes",
        "_sampled_at",
        "_sampled_bytes",
        "_since",
        "began",
        "patience_ends",
    )

    def __init__(self, now: float, least_bytes: int) -> None:
        self.began = now
        self.patience_ends = inf
        """Until when the exchange may stand still for another reason; the relay's to set."""
        self._least_bytes = least_bytes
        self._in_hand_seconds = WINDOW_SECONDS
        self._is_held_up = False
        self._since = now
        self._moved_bytes = 0
        self._lately = -1.0
        self._sampled_at = now
        self._sampled_bytes = 0

    @property
    def ends_at(self) -> float:
        """When the client will have been too slow unless something moves before."""
        if not self._is_held_up or not self._least_bytes:
            return inf
        return self._since + self._in_hand_seconds

    def turn(self, now: float, is_held_up: bool) -> None:
        """From now on the client is, or is not, what holds the exchange up."""
        if is_held_up == self._is_held_up:
            return
        self._spend(now)
        self._is_held_up = is_held_up

    def keeps_up(self, now: float, moved_bytes: int) -> bool:
        """Tell whether the client is fast enough; ``moved_bytes`` is what has moved in all."""
        self._spend(now)
        moved, self._moved_bytes = moved_bytes - self._moved_bytes, moved_bytes
        if moved > 0 and self._least_bytes:
            earned = moved / self._least_bytes
            self._in_hand_seconds = min(WINDOW_SECONDS, self._in_hand_seconds + earned)
        return self._in_hand_seconds > 0 or not self._least_bytes

    def lately(self, now: float, moved_bytes: int) -> float:
        """Return the bytes a second that moved lately: over a second or more, or from the start."""
        seconds = now - self._sampled_at
        if seconds < _SAMPLE_SECONDS:
            return self._lately if self._lately >= 0 else moved_bytes / max(seconds, 0.001)
        self._lately = (moved_bytes - self._sampled_bytes) / seconds
        self._sampled_at, self._sampled_bytes = now, moved_bytes
        return self._lately

    def _spend(self, now: float) -> None:
        if self._is_held_up:
            self._in_hand_seconds -= now - self._since
        self._since = now


def unacknowledged_bytes(transport: Transport | None) -> int:
    """Return how many of the bytes written the other end's system has not taken yet.

    What waits in the kernel counts as well: it is megabytes, which take a slow reader minutes, and
    during them nothing that is written moves.
    """
    if transport is None:
        return 0
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size))
        except OSError:  # closed, or a system that does not tell
            return waiting
        waiting += _INT.unpack(queued)[0]
    return waiting
