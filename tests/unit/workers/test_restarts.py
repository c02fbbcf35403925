"""When a slot gets its next worker."""

from __future__ import annotations

from sidecar.workers.restarts import Restarts


def delay_of(restarts: Restarts, started_at: float, now: float) -> float:
    """Plan a restart of slot 0; return the seconds until it is due, in steps of a half."""
    restarts.plan(0, started_at, now)
    waited = 0.0
    while not restarts.take_due(now + waited):
        waited += 0.5
    return waited


def test_the_first_restart_is_immediate_and_each_further_one_takes_longer() -> None:
    restarts = Restarts([0])
    delays = [delay_of(restarts, 100.0, 100.0) for _ in range(9)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert restarts.total == 9


def test_a_worker_that_has_lasted_ten_seconds_is_replaced_immediately() -> None:
    restarts = Restarts([0])
    for _ in range(3):
        delay_of(restarts, 100.0, 100.0)
    assert delay_of(restarts, 100.0, 110.0) == 0.0
    assert delay_of(restarts, 110.0, 110.0) == 0.5


def test_a_due_start_is_returned_once_and_only_for_its_slot() -> None:
    restarts = Restarts([0, 1])
    restarts.plan(1, 0.0, 50.0)
    assert restarts.take_due(49.0) == []
    assert restarts.take_due(50.0) == [1]
    assert restarts.take_due(51.0) == []


def test_a_cancelled_start_never_comes() -> None:
    restarts = Restarts([0])
    restarts.plan(0, 0.0, 50.0)
    restarts.cancel()
    assert restarts.take_due(1000.0) == []
