"""Latency at half of each peer's highest rate: 64 connections that pause between two requests.

``wrk`` has no fixed rate. The highest rate of each peer is measured first; then every connection
waits before each request for a random time (exponential), whose mean is tuned until half of that
rate is reached. ``wrk`` counts pauses in whole milliseconds and measures the latency of a request
from when it is sent.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import Plan, Scenario
from benchmarks.wrk import Load

CORRECTIONS = 3


def prepare(plan: Plan) -> None:
    """Add every peer at half of its own rate."""
    load = Load(headers=(plan.stage.holder.bearer,))
    for name, peer in PEERS.items():
        if running := plan.start(name):
            plan.add_load(peer.title, running, _halved(plan, running, load))


def _halved(plan: Plan, running: Running, load: Load) -> Load:
    """Return the load with the pause that halves the peer's highest rate."""
    settings = plan.stage.settings
    plan.stage.load(running, load, settings.warm_up_seconds)
    _, most = plan.stage.load(running, load, settings.seconds)
    wanted_ms = 1e3 * load.connections / (most.rate / 2)
    pause_ms = wanted_ms
    for _ in range(CORRECTIONS):
        paused = replace(load, pause_ms=pause_ms)
        _, found = plan.stage.load(running, paused, settings.warm_up_seconds)
        turn_ms = 1e3 * load.connections / found.rate
        # Not below a third: a disturbed measurement must not turn the load into a flood.
        pause_ms = max(wanted_ms / 3, pause_ms + wanted_ms - turn_ms)
    return replace(load, pause_ms=pause_ms)


SCENARIO = Scenario(
    "half",
    "small authorized GET at half of each one's highest rate",
    prepare,
    columns=("rate", "p50_ms", "p99_ms", "cpu_us", "busy_percent"),
    compared="p99_ms",
)
