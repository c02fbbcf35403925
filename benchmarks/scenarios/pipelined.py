"""Many requests of a connection in one segment, answered one by one, in order.

A connection gets only its share of each iteration of the event loop, however much it sends at once.
This scenario shows what that costs an honest client that pipelines. Requests that pass wait for the
upstream in between; refusals wait for nothing.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import tokens
from benchmarks.peers.registry import PEERS
from benchmarks.scenarios import OURS, Plan, Scenario
from benchmarks.wrk import Load

AT_ONCE = 64
CONNECTIONS = 16
REFUSALS = f"{OURS}, refusals"


def prepare(plan: Plan) -> None:
    """Add every peer with requests that pass, and the sidecar with junk as well."""
    holder = plan.stage.holder
    # Few connections: requests in flight at the end were served, but are not counted.
    good = Load(headers=(holder.bearer,), connections=CONNECTIONS, pipelined=AT_ONCE)
    junk = f"Authorization: Bearer {tokens.spoil(holder.token)}"
    for name, peer in PEERS.items():
        running = plan.start(name)
        plan.add_load(peer.title, running, good)
        if name == "sidecar":
            plan.add_load(REFUSALS, running, replace(good, headers=(junk,), is_refused=True))


SCENARIO = Scenario(
    "pipelined",
    f"{AT_ONCE} requests in one segment, then {AT_ONCE} more, {CONNECTIONS} connections",
    prepare,
    columns=("cpu_us", "rate", "memory_mib", "busy_percent"),
    compared="rate",
)
