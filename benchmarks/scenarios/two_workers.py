"""The common request with two workers on two processors.

On a machine with two processors, the load, the upstream and Redis run on the same two, so a rate is
not what two processors can do: only the ratios say something. With more, the peer has two for
itself.
"""

from __future__ import annotations

import os

from benchmarks.peers.registry import PEERS, VERSATILE
from benchmarks.scenarios import Plan, Scenario
from benchmarks.wrk import Load

WORKERS = 2


def prepare(plan: Plan) -> None:
    """Add the peers that can have several workers, unless there is one processor only."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < WORKERS:
        plan.left_out["every peer"] = "there is only one processor"
        return
    load = Load(headers=(plan.stage.holder.bearer,))
    cores = ",".join(map(str, available[:WORKERS]))
    for name in VERSATILE:
        running = plan.start(name, workers=WORKERS, cores=cores)
        plan.add_load(PEERS[name].title, running, load)


SCENARIO = Scenario(
    "workers", "small authorized GET, two workers, 64 kept-alive connections", prepare
)
