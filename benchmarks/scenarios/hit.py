"""The common request: a small authorized GET, always with the same token, 64 connections."""

from __future__ import annotations

from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import Plan, Scenario
from benchmarks.wrk import Load


def prepare(plan: Plan) -> None:
    """Add every peer."""
    load = Load(headers=(plan.stage.holder.bearer,))
    for name, peer in PEERS.items():
        plan.add_load(peer.title, plan.start(name), load)


SCENARIO = Scenario(
    "hit", "small authorized GET, 64 kept-alive connections, log to a file", prepare
)
