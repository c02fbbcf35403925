"""Requests whose tokens are in no cache, so that each costs a look-up; compared with a hit."""

from __future__ import annotations

from benchmarks import tokens
from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import LOAD_COLUMNS, OURS, Plan, Scenario
from benchmarks.scenarios.rotating import Rotation
from benchmarks.wrk import Load

MISS = f"{OURS}, miss"


def prepare(plan: Plan) -> None:
    """Add the sidecar's hit and miss, and the peers that look tokens up."""
    stage = plan.stage
    given = tokens.mint(stage.settings.rotating_tokens)
    stage.know(given)
    path = tokens.save(given, stage.directory / "rotating")
    ours = plan.start("sidecar", cache_tokens=stage.settings.cache_tokens)
    plan.add_load(f"{OURS}, hit", ours, Load(headers=(stage.holder.bearer,)))
    for name, peer in PEERS.items():
        running = ours if name == "sidecar" else _start_with_store(plan, name)
        if running is not None:
            load = Load(tokens=path)
            label = MISS if name == "sidecar" else peer.title
            plan.add(label, Rotation(stage, running, load, len(given)))


def _start_with_store(plan: Plan, name: str) -> Running | None:
    if not PEERS[name].has_store or not PEERS[name].authenticates:
        plan.left_out[PEERS[name].title] = "looks nothing up"
        return None
    return plan.start(name)


SCENARIO = Scenario(
    "miss",
    "tokens in turn, more of them than are cached, 64 connections",
    prepare,
    columns=(*LOAD_COLUMNS, "lookups"),
    subjects=(MISS,),
)
