"""A Redis full of tokens: bytes for each, and whether a look-up costs more than among few.

Two sidecars on two databases of the same Redis, one with few tokens, one with many; neither
caches.
"""

from __future__ import annotations

from benchmarks import tokens
from benchmarks.measure import Sample
from benchmarks.scenarios import LOAD_COLUMNS, OURS, Plan, Scenario
from benchmarks.scenarios.rotating import Rotation
from benchmarks.wrk import Load

FEW, MANY = 1_000, f"{OURS}, many tokens"
DATABASE = 2


def prepare(plan: Plan) -> None:
    """Fill both databases, then add the two sidecars."""
    stage = plan.stage
    count = stage.settings.many_tokens
    few, many = tokens.mint(FEW), tokens.mint(count)
    stage.know(few)
    before = stage.redis.used_bytes()
    stage.know([*many, stage.holder.token], database=DATABASE)
    each = (stage.redis.used_bytes() - before) / count
    _add(plan, f"{OURS}, few tokens", few, 0, {})
    _add(plan, MANY, many, DATABASE, {"redis_bytes_per_token": each})


def _add(plan: Plan, label: str, given: list[str], database: int, known: Sample) -> None:
    stage = plan.stage
    path = tokens.save(given[: stage.settings.rotating_tokens], stage.directory / f"of-{database}")
    running = plan.start("sidecar", database=database, cache_tokens=0)
    if running is None:
        return
    rotation = Rotation(stage, running, Load(tokens=path), len(given))
    plan.add(label, lambda seconds: {**rotation(seconds), **known})


SCENARIO = Scenario(
    "many",
    "1 000 000 tokens in Redis, no cache",
    prepare,
    columns=(*LOAD_COLUMNS, "redis_bytes_per_token"),
    subjects=(MANY,),
)
