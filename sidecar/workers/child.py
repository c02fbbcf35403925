"""A worker as its supervisor sees it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from math import inf

from sidecar.workers.channel import Channel


class State(Enum):
    """Where a worker is in its life."""

    STARTING = auto()
    READY = auto()
    RETIRING = auto()
    """Another has taken its place; it finishes what runs."""


@dataclass(slots=True, eq=False)
class Child:
    """One worker. ``number`` is never used twice; ``is_old``: of the program before this one.

    Times are monotonic seconds. ``has_closed``: it accepts no callers any more.
    """

    pid: int
    number: int
    slot: int
    channel: Channel
    started_at: float
    heard_at: float
    state: State = State.STARTING
    is_old: bool = False
    has_closed: bool = False
    failure: str = ""
    kill_at: float = inf

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return f"worker {self.slot + 1} (pid {self.pid})"
