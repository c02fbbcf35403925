"""Ends waits that take too long: one sweep over all connections instead of a timer for each wait.

A connection sets ``deadline`` (monotonic seconds) when it begins to wait, and its ``on_deadline``
is called once that has passed, up to one sweep late. Setting an attribute costs a fiftieth of
setting a timer.

A deadline that has passed does not count yet: if this process was busy or asleep, the awaited bytes
may lie unread in a socket. So the loop polls its sockets once more, and only a deadline that still
stands then has expired (``sidecar.timeouts``). If many expire at once, they are handled in slices
of ``TURN_SECONDS``.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

from sidecar.timeouts import call_after_poll
from sidecar.wire.turn_queue import TURN_SECONDS

NEVER: Final = float("inf")


class Watched(Protocol):
    """A connection with a deadline."""

    deadline: float

    def on_deadline(self) -> None:
        """Set a new deadline, or end the wait; called once the deadline has passed."""


class Deadlines:
    """Watches connections; sweeps as often as the shortest time-out needs, at most every 50 ms.

    A change of ``shortest_timeout_seconds`` takes effect at the next sweep.
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
        """Start to watch a connection."""
        self._watched.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._period_seconds, self._sweep)

    def forget(self, connection: Watched) -> None:
        """Stop watching a connection; does nothing if it is not watched."""
        self._watched.discard(connection)

    def _sweep(self) -> None:
        self._timer = (  # first, so that a connection that raises does not stop the sweeps
            self._loop.call_later(self._period_seconds, self._sweep) if self._watched else None
        )
        now = monotonic()
        due = [watched for watched in self._watched if watched.deadline <= now]
        if due:
            call_after_poll(self._loop, self._expire, due, now)

    def _expire(self, due: list[Watched], now: float) -> None:
        until = monotonic() + TURN_SECONDS
        while due:
            connection = due.pop()
            if connection.deadline <= now and connection in self._watched:
                connection.on_deadline()
            if monotonic() >= until:
                call_after_poll(self._loop, self._expire, due, now)
                return
