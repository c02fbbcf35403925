"""How all workers are, for whoever asks: each is asked anew, so that what is told is current.

Who asks while a round is under way is answered by the next one, as some may have spoken before the
question. A worker that does not answer in time counts with what it last said, and is not ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from sidecar.workers.child import Child, State
from sidecar.workers.overview import Report, join_reasons

REPORT_SECONDS: Final = 2.0

Asker = tuple[Child, int]
"""A worker and the number of its question."""
Reports = Mapping[int, Report]
"""What the workers have said, by their numbers."""


@dataclass(slots=True)
class _Round:
    askers: list[Asker]
    until: float
    waiting: set[int]
    reports: dict[int, Report] = field(default_factory=dict)


class Rounds:
    """Asks all for whoever asks. ``tell`` sends a message, ``answer`` is told of a round's end."""

    def __init__(
        self,
        children: Callable[[], Iterable[Child]],
        tell: Callable[..., None],
        answer: Callable[[list[Asker], Reports], None],
    ) -> None:
        self._children = children
        self._tell = tell
        self._answer = answer
        self._round: _Round | None = None
        self._askers: list[Asker] = []

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return self._round is None and not self._askers

    def ask(self, asker: Child, number: int) -> None:
        """Take a question."""
        self._askers.append((asker, number))
        self._begin()

    def note(self, child: Child, report: Report) -> None:
        """Take an answer."""
        asked = self._round
        if asked is not None and child.number in asked.waiting:
            asked.reports[child.number] = report
            asked.waiting.discard(child.number)
            self.end_if_over()

    def forget(self, child: Child) -> None:
        """Neither wait for a worker that has ended nor answer it."""
        self._askers = [asker for asker in self._askers if asker[0] is not child]
        if self._round is not None:
            self._round.waiting.discard(child.number)
            self._round.askers = [one for one in self._round.askers if one[0] is not child]
            self.end_if_over()

    def end_if_over(self) -> None:
        """Answer, once all have reported or have had their time."""
        asked = self._round
        if asked is None or (asked.waiting and monotonic() < asked.until):
            return
        self._round = None
        self._answer(asked.askers, asked.reports)
        self._begin()

    def _begin(self) -> None:
        if self._round is not None or not self._askers:
            return
        asked = [child for child in self._children() if child.state is not State.STARTING]
        waiting = {child.number for child in asked}
        self._round = _Round(self._askers, monotonic() + REPORT_SECONDS, waiting)
        self._askers = []
        for child in asked:
            self._tell(child, "ask", 0)


def current_of(children: Iterable[Child]) -> dict[int, Child]:
    """Return whose readiness counts, by slot: the newest that is ready, else whoever is there."""
    by_slot: dict[int, Child] = {}
    for child in sorted(children, key=lambda one: one.number):
        is_first = child.slot not in by_slot
        if child.state is State.READY or (child.state is State.STARTING and is_first):
            by_slot[child.slot] = child
    return by_slot


def reasons_of(slots: Collection[int], current: Mapping[int, Child], reports: Reports) -> list[str]:
    """Return why not every slot has a ready worker; empty if all have."""
    return join_reasons({slot + 1: _reasons(current.get(slot), reports) for slot in slots})


def count_ready(slots: Collection[int], current: Mapping[int, Child], reports: Reports) -> int:
    """Return how many slots have a ready worker."""
    return sum(not _reasons(current.get(slot), reports) for slot in slots)


def _reasons(child: Child | None, reports: Reports) -> list[str]:
    if child is None:
        return ["not running"]
    if child.state is State.STARTING:
        return ["starting"]
    report = reports.get(child.number)
    return ["does not answer"] if report is None else list(report.reasons)
