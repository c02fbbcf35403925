"""How many bytes callers may have buffered in total, and whose are dropped when it is too much.

A caller can leave bytes with the process for a while: a head that does not end, a body that arrives
before its verdict, responses that it does not read. Each connection has a limit for these, yet ten
thousand connections could still hold too much; so they share a budget. Once it is exceeded, the
largest and oldest buffers (bytes times age) are dropped until an eighth of the budget is free.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

MOST_BUFFERED_BYTES: Final = 64 * 1024 * 1024
HEAD_WEIGHT: Final = 4
"""How much memory a head takes while it is parsed, in multiples of its size (measured: 112 KiB for
28)."""

_NOTED_BYTES: Final = 4 * 1024  # smaller buffers are not tracked
_FREED_SHARE: Final = 8
_YOUNGEST_SECONDS: Final = 0.01


class Buffering(Protocol):
    """A connection with buffered bytes of its caller."""

    def shed(self) -> None:
        """Drop the bytes at once, and refuse the request that they belong to."""


class BufferBudget:
    """The buffered bytes of all connections of one process. ``now`` is a monotonic clock."""

    def __init__(
        self, most_bytes: int = MOST_BUFFERED_BYTES, now: Callable[[], float] = monotonic
    ) -> None:
        self._most_bytes = most_bytes
        self._now = now
        self._held: dict[Buffering, tuple[int, float]] = {}
        self._is_shedding = False
        self.held_bytes = 0
        """How many bytes are buffered now, as far as they are tracked."""
        self.shed_total = 0
        """How many connections have had their bytes dropped since the start."""

    def __repr__(self) -> str:
        return f"<BufferBudget held={self.held_bytes} of={self._most_bytes}>"

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, connection: Buffering) -> bool:
        return connection in self._held

    def note(self, connection: Buffering, size_bytes: int) -> bool:
        """Note how much a connection has buffered now; return whether it is tracked."""
        before = self._held.get(connection)
        if size_bytes < _NOTED_BYTES:
            if before is not None:
                del self._held[connection]
                self.held_bytes -= before[0]
            return False
        self._held[connection] = size_bytes, self._now() if before is None else before[1]
        self.held_bytes += size_bytes - (0 if before is None else before[0])
        if self.held_bytes > self._most_bytes and not self._is_shedding:
            self._is_shedding = True
            try:
                self._shed()
            finally:
                self._is_shedding = False
        return connection in self._held

    def _shed(self) -> None:
        """Free an eighth of the budget, so that the search for the largest buffers pays off."""
        now = self._now()
        by_weight = sorted(
            self._held.items(),
            key=lambda entry: entry[1][0] * (now - entry[1][1] + _YOUNGEST_SECONDS),
        )
        enough = self._most_bytes - self._most_bytes // _FREED_SHARE
        while self.held_bytes > enough and by_weight:
            connection, _ = by_weight.pop()
            self.note(connection, 0)
            self.shed_total += 1
            connection.shed()
