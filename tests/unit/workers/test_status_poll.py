"""Ready only if every slot has a ready worker: who counts, who is asked, and what is said."""

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
def test_what_all_say_is_said_once_and_what_some_say_with_their_number(
    channel: WorkerChannel, first: WorkerReport, second: WorkerReport | None, expected: list[str]
) -> None:
    current = current_of([worker(channel, 1, 0), worker(channel, 2, 1)])
    reports = {1: first} if second is None else {1: first, 2: second}
    assert reasons_of(SLOTS, current, reports) == expected
    assert count_ready(SLOTS, current, reports) == sum(
        report is not None and not report.reasons for report in (first, second)
    )


def test_a_slot_without_a_worker_or_with_one_that_starts_is_not_ready(
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
    """Two workers and what was said to them."""

    def __init__(self, channel: WorkerChannel) -> None:
        self.workers = [worker(channel, 1, 0), worker(channel, 2, 1)]
        self.asked: list[int] = []
        self.answered: list[tuple[list[int], list[int]]] = []
        self.status_poll = StatusPoll(lambda: self.workers, self._send, self._answer)

    def _send(self, worker: WorkerProcess, *_: Any) -> None:
        self.asked.append(worker.number)

    def _answer(self, requests: list[StatusRequest], reports: Reports) -> None:
        self.answered.append(([number for _, number in requests], sorted(reports)))


def test_who_asks_during_a_round_is_answered_by_the_next(channel: WorkerChannel) -> None:
    """A report that was on its way before the question may lack what was counted since."""
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


def test_one_that_dies_is_neither_waited_for_nor_answered(channel: WorkerChannel) -> None:
    crew = Crew(channel)
    first, second = crew.workers
    crew.status_poll.ask(StatusRequest(first, 10))
    crew.status_poll.ask(StatusRequest(second, 20))
    crew.status_poll.note(first, GOOD)
    crew.workers.remove(second)
    crew.status_poll.forget(second)
    assert crew.answered == [([10], [1])]
    assert crew.status_poll.is_idle


def test_one_that_does_not_answer_is_not_waited_for_for_ever(
    channel: WorkerChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_poll, "REPORT_SECONDS", 0.0)
    crew = Crew(channel)
    crew.status_poll.ask(StatusRequest(crew.workers[0], 10))
    crew.status_poll.note(crew.workers[0], GOOD)
    crew.status_poll.end_if_over()
    assert crew.answered == [([10], [1])]


def test_a_faulty_file_shows_whoever_has_met_it() -> None:
    good = {"valid": True, "generation": 2}
    behind = {"valid": True, "generation": 1}
    bad = {"valid": False, "generation": 2}
    assert join_configurations([good, bad, behind, None]) == bad
    assert join_configurations([good, behind]) == behind
    assert join_configurations([None]) is None
