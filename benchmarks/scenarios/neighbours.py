"""A hundred routes and a hundred accounts: every request is of another account, on another route.

One connection carries the requests of all of them in turn, which is harder than what callers do:
nothing that a proxy remembers of a connection's last request is true of the next.
"""

from __future__ import annotations

from benchmarks import tokens
from benchmarks.peers import Neighbours
from benchmarks.peers.registry import PEERS, VERSATILE
from benchmarks.scenarios import LOAD_COLUMNS, Plan, Scenario
from benchmarks.tokens import Holder
from benchmarks.upstream import BASE
from benchmarks.wrk import Load

COUNT = 100


def prepare(plan: Plan) -> None:
    """Add the peers that can tell routes and accounts apart."""
    stage = plan.stage
    password = stage.holder.password  # one: a hundred Argon2 hashes would take as many seconds
    numbers = range(1, COUNT)
    holders = tuple(Holder(account=f"bench-{number}", password=password) for number in numbers)
    bases = tuple(f"/v1/service-{number}/listener" for number in numbers)
    for holder in holders:
        stage.know([holder.token], account=holder.account)
    paths = stage.directory / "paths"
    paths.write_text("".join(f"{base}/bench\n" for base in (*bases, BASE)))
    given = [holder.token for holder in (*holders, stage.holder)]
    load = Load(tokens=tokens.save(given, stage.directory / "tokens"), paths=paths)
    for name in VERSATILE:
        running = plan.start(name, neighbours=Neighbours(bases, holders))
        plan.add_load(PEERS[name].title, running, load)


SCENARIO = Scenario(
    "neighbours",
    f"small authorized GET, {COUNT} accounts on {COUNT} routes in turn, 64 connections",
    prepare,
    columns=(*LOAD_COLUMNS, "lookups"),
)
