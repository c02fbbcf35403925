"""What waits too long ends: one sweep over all connections instead of a timer for each wait.

A connection sets ``deadline`` (monotonic seconds) when it begins to wait and is told by
``on_deadline`` once that has passed, up to one sweep late. Setting an attribute costs a fiftieth of
setting a timer.

A deadline that has passed is not up yet: when this process was busy or asleep, what was waited for
may lie unread in a socket. So the loop looks at its sockets once more, and only a deadline that
still stands then is up (``sidecar.timeouts``). Many at once are told a slice at a time.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

from sidecar.wire.turn_queue import TURN_SECONDS

NEVER: Final = float("inf")


class Watched(Protocol):
    """A connection with a deadline."""

    deadline: float

    def on_deadline(self) -> None:
        """Called once the deadline has passed; sets a new one or ends the wait."""


class Deadlines:
    """Watches connections; sweeps often enough for the shortest time-out, at most once in 50 ms.

    Another ``shortest_timeout_seconds`` holds from the next sweep on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, shortest_timeout_seconds: float) -> None:
        self._loop = loop
        self.shortest_timeout_seconds = shortest_timeout_seconds
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _period_seconds(self) -> float:
        return min(1.0, max(0.05, self.shortest_timeout_seconds / 5))

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Watched) -> None:
        """Begin to watch a connection."""
        self._watched.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._period_seconds, self._sweep)

    def forget(self, connection: Watched) -> None:
        """Stop watching; unknown ones are no error."""
        self._watched.discard(connection)

    def _sweep(self) -> None:
        self._timer = (  # first: whatever one connection does, the others are swept again
            self._loop.call_later(self._period_seconds, self._sweep) if self._watched else None
        )
        now = monotonic()
        due = [watched for watched in self._watched if watched.deadline <= now]
        if due:
            self._loop.call_soon(self._look, due, now)

    def _look(self, due: list[Watched], now: float) -> None:
        self._loop.call_soon(self._tell, due, now)

    def _tell(self, due: list[Watched], now: float) -> None:
        until = monotonic() + TURN_SECONDS
        while due:
            connection = due.pop()
            if connection.deadline <= now and connection in self._watched:
                connection.on_deadline()
            if monotonic() >= until:
                self._loop.call_soon(self._look, due, now)
                return
