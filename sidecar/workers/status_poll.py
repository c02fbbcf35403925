"""Polls all workers for their status, so that every answer is current.

A question that comes while a poll is under way is answered by the next one, as some workers may
have reported before the question. A worker that does not report in time is not ready, and is
counted with its last report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from sidecar.workers.overview import WorkerReport, join_reasons
from sidecar.workers.worker_process import WorkerProcess, WorkerState

REPORT_SECONDS: Final = 2.0

Asker = tuple[WorkerProcess, int]
"""A worker and the number of its question."""
Reports = Mapping[int, WorkerReport]
"""The workers' reports, by their numbers."""


@dataclass(slots=True)
class _Poll:
    askers: list[Asker]
    until: float
    waiting: set[int]
    reports: dict[int, WorkerReport] = field(default_factory=dict)


class StatusPoll:
    """Polls the workers. ``tell`` sends a message; ``answer`` gets the result of each poll."""

    def __init__(
        self,
        children: Callable[[], Iterable[WorkerProcess]],
        tell: Callable[..., None],
        answer: Callable[[list[Asker], Reports], None],
    ) -> None:
        self._children = children
        self._tell = tell
        self._answer = answer
        self._poll: _Poll | None = None
        self._askers: list[Asker] = []

    @property
    def is_idle(self) -> bool:
        """Whether no question is open."""
        return self._poll is None and not self._askers

    def ask(self, asker: WorkerProcess, number: int) -> None:
        """Take the question of a worker."""
        self._askers.append((asker, number))
        self._begin()

    def note(self, child: WorkerProcess, report: WorkerReport) -> None:
        """Take the report of a worker."""
        asked = self._poll
        if asked is not None and child.number in asked.waiting:
            asked.reports[child.number] = report
            asked.waiting.discard(child.number)
            self.end_if_over()

    def forget(self, child: WorkerProcess) -> None:
        """Neither wait for a worker that has ended nor answer it."""
        self._askers = [asker for asker in self._askers if asker[0] is not child]
        if self._poll is not None:
            self._poll.waiting.discard(child.number)
            self._poll.askers = [one for one in self._poll.askers if one[0] is not child]
            self.end_if_over()

    def end_if_over(self) -> None:
        """Answer once all workers have reported, or their time is up."""
        asked = self._poll
        if asked is None or (asked.waiting and monotonic() < asked.until):
            return
        self._poll = None
        self._answer(asked.askers, asked.reports)
        self._begin()

    def _begin(self) -> None:
        if self._poll is not None or not self._askers:
            return
        asked = [child for child in self._children() if child.state is not WorkerState.STARTING]
        waiting = {child.number for child in asked}
        self._poll = _Poll(self._askers, monotonic() + REPORT_SECONDS, waiting)
        self._askers = []
        for child in asked:
            self._tell(child, "ask", 0)


def current_of(children: Iterable[WorkerProcess]) -> dict[int, WorkerProcess]:
    """Return, by slot, the worker whose readiness counts: the newest ready one, else the newest."""
    by_slot: dict[int, WorkerProcess] = {}
    for child in sorted(children, key=lambda one: one.number):
        is_first = child.slot not in by_slot
        if child.state is WorkerState.READY or (child.state is WorkerState.STARTING and is_first):
            by_slot[child.slot] = child
    return by_slot


def reasons_of(
    slots: Collection[int], current: Mapping[int, WorkerProcess], reports: Reports
) -> list[str]:
    """Return why some slots have no ready worker; empty if all have one."""
    return join_reasons({slot + 1: _reasons(current.get(slot), reports) for slot in slots})


def count_ready(
    slots: Collection[int], current: Mapping[int, WorkerProcess], reports: Reports
) -> int:
    """Return how many slots have a ready worker."""
    return sum(not _reasons(current.get(slot), reports) for slot in slots)


def _reasons(child: WorkerProcess | None, reports: Reports) -> list[str]:
    if child is None:
        return ["not running"]
    if child.state is WorkerState.STARTING:
        return ["starting"]
    report = reports.get(child.number)
    return ["does not answer"] if report is None else list(report.reasons)
