"""Latency at a fixed rate, at 30, 60 and 90 % of what is possible (``benchmarks.arrivals``).

The highest rate is measured first: that at which this load gets answers when all of its requests
are due at once. Every peer then gets the same requests a second, a share of the sidecar's highest
rate, so that all do the same work; the figures of the sidecar are compared with these. Beside it,
each peer has the same share of its own highest rate. An old tree has the rate of ours.

A peer that can do less than it is given has latencies that grow with the length of the measurement;
its rate shows that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks import measure
from benchmarks.arrivals import ALL_AT_ONCE, Order, run
from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import Plan, Scenario
from benchmarks.stage import Stage
from benchmarks.upstream import ANSWER, BASE

PEERS_MEASURED = ("sidecar", "nginx", "lua", "envoy")
"""Without the slow ones: at the sidecar's rate, they would only show how long a queue can be."""

COLUMNS = ("rate", "p50_ms", "p99_ms", "p999_ms", "late_ms", "cpu_us", "busy_percent")
PERCENT = (30, 60, 90)
RATE = "rate of all"
_FLOOD_PER_SECOND = 20_000


def prepare_at(percent: int) -> Callable[[Plan], None]:
    """Return what adds every peer at this share of the sidecar's rate, and of its own."""

    def prepare(plan: Plan) -> None:
        agreed = plan.stage.agreed
        for name in PEERS_MEASURED:
            running = plan.start(name)
            if running is None:
                continue
            title = PEERS[name].title
            own = _highest_rate(plan.stage, running) * percent / 100
            if name == "sidecar":
                agreed.setdefault(RATE, own)
            rate = agreed.get(RATE, own)
            plan.add(title, _at(plan.stage, running, rate))
            if name != "sidecar" and rate != own:
                plan.add(f"{title}, {percent} % of its own", _at(plan.stage, running, own))

    return prepare


def _highest_rate(stage: Stage, running: Running) -> float:
    """Return the rate of answers under a flood, after one to warm up."""
    settings = stage.settings
    order = _order(stage, running)
    for seconds in (settings.warm_up_seconds, settings.seconds):
        flood = replace(order, rate=ALL_AT_ONCE, count=_FLOOD_PER_SECOND * seconds)
        found = run(flood, cores=stage.cores.around)
    return found.rate


def _order(stage: Stage, running: Running) -> Order:
    lines = (f"GET {BASE}/bench HTTP/1.1", f"Host: 127.0.0.1:{running.port}", stage.holder.bearer)
    return Order(running.port, "\r\n".join((*lines, "", "")), ANSWER, rate=1.0, count=1)


def _at(stage: Stage, running: Running, rate: float) -> Callable[[int], Sample]:
    order = replace(_order(stage, running), rate=rate)

    def take(seconds: int) -> Sample:
        with measure.measured(running, stage.redis) as usage:
            found = run(replace(order, count=max(1, int(rate * seconds))), cores=stage.cores.around)
        return {
            "rate": found.rate,
            "p50_ms": found.p50_ms,
            "p99_ms": found.p99_ms,
            "p999_ms": found.p999_ms,
            "late_ms": found.late_ms,
            "cpu_us": usage.cpu_seconds / found.count * 1e6,
            "busy_percent": usage.cpu_seconds / found.seconds * 100,
        }

    return take


RATES = tuple(
    Scenario(
        f"rate{percent}",
        f"small authorized GET at a fixed rate, {percent} % of the highest",
        prepare_at(percent),
        columns=COLUMNS,
        compared="p999_ms",
    )
    for percent in PERCENT
)
