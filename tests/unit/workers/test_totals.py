"""Sums over workers that come and go: counters never decrease, gauges go with their worker."""

from __future__ import annotations

import random

from sidecar.observability.metric_families import REQUEST_BOUNDS, Snapshot
from sidecar.workers.totals import Totals

REQUESTS = "sidecar_requests_total"
LABELS = ("/x", "GET", "200", "none")


def counted(requests: float, connections: float = 0.0) -> Snapshot:
    return {REQUESTS: {LABELS: requests}, "sidecar_connections": {(): connections}}


def test_the_counters_of_an_ended_worker_stay_and_its_gauges_go() -> None:
    totals = Totals()
    totals.learn(1, counted(10, 3))
    totals.learn(2, counted(20, 4))
    totals.forget(1)
    totals.learn(3, counted(5, 1))
    assert totals.sum() == counted(35, 5)


def test_no_counter_ever_decreases() -> None:
    """Whatever the order in which workers report, end and are replaced."""
    chance = random.Random(20)
    totals, counts, last, born = Totals(), {0: 0.0, 1: 0.0}, 0.0, 2
    for _ in range(2000):
        worker = chance.choice(list(counts))
        if chance.random() < 0.1:
            totals.forget(worker)
            del counts[worker]
            counts[born] = 0.0
            born += 1
        else:
            counts[worker] += chance.randrange(5)
            totals.learn(worker, counted(counts[worker]))
        total = totals.sum().get(REQUESTS, {}).get(LABELS, 0.0)
        assert isinstance(total, float)
        assert total >= last
        last = total


def test_the_next_program_continues_from_the_counts_of_ended_workers() -> None:
    totals = Totals()
    totals.learn(1, counted(10))
    totals.forget(1)
    after = Totals(totals.gone_with({"sidecar_worker_restarts_total": {(): 2.0}}))
    after.learn(2, counted(1))
    assert after.sum()[REQUESTS] == {LABELS: 11}
    assert after.sum([{"sidecar_worker_restarts_total": {(): 1.0}}])[
        "sidecar_worker_restarts_total"
    ] == {(): 3}


def test_an_invalid_file_counts_once_however_many_workers_refuse_it() -> None:
    name = "sidecar_configuration_refused_total"
    totals = Totals()
    for worker in (1, 2):
        totals.learn(worker, {name: {(): 3.0}})
    totals.forget(1)
    assert totals.sum()[name] == {(): 3}
    assert totals.largest(name) == 3


def test_metrics_of_another_version_are_left_out_of_the_sum() -> None:
    """During an upgrade, workers of two versions report."""
    totals = Totals({"sidecar_nonsense_total": {(): 1.0}})
    histogram = "sidecar_request_duration_seconds"
    right: list[float] = [1.0] * (len(REQUEST_BOUNDS) + 2)
    totals.learn(1, {histogram: {("/x",): right, ("/y",): [1.0, 2.0]}, "other": {(): 1.0}})
    assert totals.sum() == {histogram: {("/x",): right}}


def test_a_metric_that_a_worker_leaves_out_is_unchanged() -> None:
    totals = Totals()
    totals.learn(1, {"process_cpu_seconds_total": {(): 2.0}, **counted(1)})
    totals.learn(1, counted(4))
    assert totals.sum()["process_cpu_seconds_total"] == {(): 2.0}
