"""All workers as one: ready only if every slot has a ready worker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.workers import status_poll
from sidecar.workers.channel import WorkerChannel
from sidecar.workers.overview import WorkerReport, join_configurations
from sidecar.workers.status_poll import (
    Reports,
    StatusPoll,
    StatusRequest,
    count_ready,
    current_of,
    reasons_of,
)
from sidecar.workers.worker_process import WorkerProcess, WorkerState

SLOTS = (0, 1)
GOOD = WorkerReport({}, [], None)
DRAINING = WorkerReport({}, ["draining: it ends"], None)


@pytest.fixture
def channel() -> Iterator[WorkerChannel]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield WorkerChannel(ours)


def worker(
    channel: WorkerChannel, number: int, slot: int, state: WorkerState = WorkerState.READY
) -> WorkerProcess:
    return WorkerProcess(0, number, slot, channel, 0.0, 0.0, state)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (GOOD, GOOD, []),
        (GOOD, DRAINING, ["worker 2: draining: it ends"]),
        (DRAINING, DRAINING, ["draining: it ends"]),
        (GOOD, None, ["worker 2: does not answer"]),
    ],
)
def test_a_reason_of_all_workers_is_given_once_and_one_of_some_with_their_numbers(
    channel: WorkerChannel, first: WorkerReport, second: WorkerReport | None, expected: list[str]
) -> None:
    current = current_of([worker(channel, 1, 0), worker(channel, 2, 1)])
    reports = {1: first} if second is None else {1: first, 2: second}
    assert reasons_of(SLOTS, current, reports) == expected
    assert count_ready(SLOTS, current, reports) == sum(
        report is not None and not report.reasons for report in (first, second)
    )


def test_a_slot_without_a_worker_or_with_a_starting_one_is_not_ready(
    channel: WorkerChannel,
) -> None:
    current = current_of([worker(channel, 1, 0, WorkerState.STARTING)])
    assert reasons_of(SLOTS, current, {}) == ["worker 1: starting", "worker 2: not running"]


def test_during_an_upgrade_the_old_worker_counts_until_the_new_one_is_ready(
    channel: WorkerChannel,
) -> None:
    old, new = worker(channel, 1, 0), worker(channel, 2, 0, WorkerState.STARTING)
    assert current_of([new, old]) == {0: old}
    new.state = WorkerState.READY
    assert current_of([new, old]) == {0: new}
    old.state = WorkerState.RETIRING
    assert current_of([new, old]) == {0: new}


class Crew:
    """Two workers, and the messages and answers that they got."""

    def __init__(self, channel: WorkerChannel) -> None:
        self.workers = [worker(channel, 1, 0), worker(channel, 2, 1)]
        self.asked: list[int] = []
        self.answered: list[tuple[list[int], list[int]]] = []
        self.status_poll = StatusPoll(lambda: self.workers, self._send, self._answer)

    def _send(self, worker: WorkerProcess, *_: Any) -> None:
        self.asked.append(worker.number)

    def _answer(self, requests: list[StatusRequest], reports: Reports) -> None:
        self.answered.append(([number for _, number in requests], sorted(reports)))


def test_a_request_during_a_poll_is_answered_by_the_next_poll(channel: WorkerChannel) -> None:
    """A report sent before the request may lack what was counted since."""
    crew = Crew(channel)
    first, second = crew.workers
    crew.status_poll.ask(StatusRequest(first, 10))
    crew.status_poll.note(first, GOOD)
    crew.status_poll.ask(StatusRequest(second, 20))
    assert (crew.asked, crew.answered) == ([1, 2], [])
    crew.status_poll.note(second, GOOD)
    assert crew.answered == [([10], [1, 2])]
    assert crew.asked == [1, 2, 1, 2]
    crew.status_poll.note(first, GOOD)
    crew.status_poll.note(second, GOOD)
    assert crew.answered[1:] == [([20], [1, 2])]
    assert crew.status_poll.is_idle


def test_a_poll_neither_waits_for_a_dead_worker_nor_answers_it(channel: WorkerChannel) -> None:
    crew = Crew(channel)
    first, second = crew.workers
    crew.status_poll.ask(StatusRequest(first, 10))
    crew.status_poll.ask(StatusRequest(second, 20))
    crew.status_poll.note(first, GOOD)
    crew.workers.remove(second)
    crew.status_poll.forget(second)
    assert crew.answered == [([10], [1])]
    assert crew.status_poll.is_idle


def test_a_poll_ends_without_a_worker_that_does_not_report(
    channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_poll, "REPORT_SECONDS", 0.0)
    crew = Crew(channel)
    crew.status_poll.ask(StatusRequest(crew.workers[0], 10))
    crew.status_poll.note(crew.workers[0], GOOD)
    crew.status_poll.end_if_over()
    assert crew.answered == [([10], [1])]


def test_the_configuration_shown_is_that_of_a_worker_with_an_invalid_file() -> None:
    good = {"valid": True, "generation": 2}
    behind = {"valid": True, "generation": 1}
    bad = {"valid": False, "generation": 2}
    assert join_configurations([good, bad, behind, None]) == bad
    assert join_configurations([good, behind]) == behind
    assert join_configurations([None]) is None
