"""Polls all workers for their status, so that every answer is current.

A request that arrives during a poll is answered by the next one, as some workers may have reported
before the request was made. A worker that does not report in time is not ready, and its last known
counts are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from sidecar.workers.overview import WorkerReport, join_reasons
from sidecar.workers.worker_process import WorkerProcess, WorkerState

REPORT_SECONDS: Final = 2.0
"""How long workers may take to report."""


class StatusRequest(NamedTuple):
    """A worker's request for the status of all workers, with the worker's own number for it."""

    worker: WorkerProcess
    number: int


Reports = Mapping[int, WorkerReport]
"""The workers' reports, by their numbers."""


@dataclass(slots=True)
class _Poll:
    requests: list[StatusRequest]
    ends_by: float
    waiting: set[int]
    reports: dict[int, WorkerReport] = field(default_factory=dict)


class StatusPoll:
    """Polls the workers. ``send`` sends a message; ``answer`` gets the result of each poll."""

    def __init__(
        self,
        workers: Callable[[], Iterable[WorkerProcess]],
        send: Callable[..., None],
        answer: Callable[[list[StatusRequest], Reports], None],
    ) -> None:
        self._workers = workers
        self._send = send
        self._answer = answer
        self._poll: _Poll | None = None
        self._requests: list[StatusRequest] = []

    @property
    def is_idle(self) -> bool:
        """Whether no request is waiting for an answer."""
        return self._poll is None and not self._requests

    def ask(self, request: StatusRequest) -> None:
        """Answer a request by the next poll to begin."""
        self._requests.append(request)
        self._begin()

    def note(self, worker: WorkerProcess, report: WorkerReport) -> None:
        """Record the report of a worker."""
        poll = self._poll
        if poll is not None and worker.number in poll.waiting:
            poll.reports[worker.number] = report
            poll.waiting.discard(worker.number)
            self.end_if_over()

    def forget(self, worker: WorkerProcess) -> None:
        """Neither wait for a worker that has ended nor answer it."""
        self._requests = _without(worker, self._requests)
        if self._poll is not None:
            self._poll.waiting.discard(worker.number)
            self._poll.requests = _without(worker, self._poll.requests)
            self.end_if_over()

    def end_if_over(self) -> None:
        """Answer if all workers have reported, or their time is up."""
        poll = self._poll
        if poll is None or (poll.waiting and monotonic() < poll.ends_by):
            return
        self._poll = None
        self._answer(poll.requests, poll.reports)
        self._begin()

    def _begin(self) -> None:
        if self._poll is not None or not self._requests:
            return
        polled = [one for one in self._workers() if one.state is not WorkerState.STARTING]
        waiting = {worker.number for worker in polled}
        self._poll = _Poll(self._requests, monotonic() + REPORT_SECONDS, waiting)
        self._requests = []
        for worker in polled:
            self._send(worker, "ask", 0)


def current_of(workers: Iterable[WorkerProcess]) -> dict[int, WorkerProcess]:
    """Return, by slot, the worker whose readiness counts: the newest ready one, else the newest."""
    by_slot: dict[int, WorkerProcess] = {}
    for worker in sorted(workers, key=lambda one: one.number):
        is_first = worker.slot not in by_slot
        if worker.state is WorkerState.READY or (worker.state is WorkerState.STARTING and is_first):
            by_slot[worker.slot] = worker
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


def _reasons(worker: WorkerProcess | None, reports: Reports) -> list[str]:
    if worker is None:
        return ["not running"]
    if worker.state is WorkerState.STARTING:
        return ["starting"]
    report = reports.get(worker.number)
    return ["does not answer"] if report is None else list(report.reasons)


def _without(worker: WorkerProcess, requests: list[StatusRequest]) -> list[StatusRequest]:
    return [request for request in requests if request.worker is not worker]
