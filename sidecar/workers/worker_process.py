"""A worker process as its supervisor sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf

from sidecar.workers.channel import WorkerChannel


class WorkerState(Enum):
    """The stages of a worker's life."""

    STARTING = auto()
    READY = auto()
    RETIRING = auto()
    """Another worker has taken over; this one finishes its requests."""


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker. Times are monotonic seconds.

    ``number`` is never reused. ``is_old``: it was started by the program before an upgrade.
    ``has_closed``: it no longer accepts connections. ``failure``: why it can't start.
    """

    pid: int
    number: int
    slot: int
    channel: WorkerChannel
    started_at: float
    heard_at: float
    state: WorkerState = WorkerState.STARTING
    is_old: bool = False
    has_closed: bool = False
    failure: str = ""
    kill_at: float = inf

    @property
    def name(self) -> str:
        """The worker's name in the log."""
        return f"worker {self.slot + 1} (pid {self.pid})"
