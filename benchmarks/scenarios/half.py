"""Latency at half of what each peer can do: 64 connections that pause at random between two calls.

``wrk`` has no fixed rate. Each peer's most is measured first; then every connection waits, before
each call, for a random time (exponential) whose mean gives half of that rate. ``wrk`` counts
pauses in whole milliseconds and starts the clock of a call when it is sent.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import Plan, Scenario
from benchmarks.wrk import Load


def prepare(plan: Plan) -> None:
    """Add every peer at half of its own rate."""
    load = Load(headers=(plan.stage.holder.bearer,))
    for name, peer in PEERS.items():
        if running := plan.start(name):
            plan.add_load(peer.title, running, _halved(plan, running, load))


def _halved(plan: Plan, running: Running, load: Load) -> Load:
    settings = plan.stage.settings
    plan.stage.load(running, load, settings.warm_up_seconds)
    _, most = plan.stage.load(running, load, settings.seconds)
    pause_seconds = load.connections / (most.rate / 2)
    return replace(load, pause_ms=pause_seconds * 1e3)


SCENARIO = Scenario(
    "half",
    "small authorized GET at half of each one's highest rate",
    prepare,
    columns=("rate", "p50_ms", "p99_ms", "cpu_us", "busy_percent"),
    compared="p99_ms",
)
