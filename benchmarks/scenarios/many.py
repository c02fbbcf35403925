"""A Redis full of tokens: bytes per token, and whether a look-up costs more than among few.

Two sidecars use two databases of one Redis, one with few tokens and one with many; neither caches.
All tokens belong to one account. The only token of an account costs most: that is measured too.
"""

from __future__ import annotations

from benchmarks import tokens
from benchmarks.measure import Sample
from benchmarks.scenarios import LOAD_COLUMNS, OURS, Plan, Scenario
from benchmarks.scenarios.rotating import Rotation
from benchmarks.stage import Stage
from benchmarks.wrk import Load

FEW, MANY = 1_000, f"{OURS}, many tokens"
DATABASE, SPREAD_DATABASE = 2, 3
MOST_SPREAD = 125_000  # an eighth of a million, so that Redis's hash tables are equally full


def prepare(plan: Plan) -> None:
    """Fill the databases, then add the two sidecars."""
    stage = plan.stage
    spread = _bytes_each_when_spread(stage)
    few, many = tokens.mint(FEW), tokens.mint(stage.settings.many_tokens)
    stage.know(few)
    before = stage.redis.used_bytes()
    stage.know([*many, stage.holder.token], database=DATABASE)
    each = (stage.redis.used_bytes() - before) / len(many)
    known = {"redis_bytes_per_token": each, "redis_bytes_per_spread_token": spread}
    _add(plan, f"{OURS}, few tokens", few, 0, {})
    _add(plan, MANY, many, DATABASE, known)


def _bytes_each_when_spread(stage: Stage) -> float:
    given = tokens.mint(min(stage.settings.many_tokens, MOST_SPREAD))
    before = stage.redis.used_bytes()
    commands = (
        command
        for number, token in enumerate(given)
        for command in tokens.sidecar_commands([token], f"account-{number}")
    )
    stage.redis.send(commands, database=SPREAD_DATABASE)
    used = stage.redis.used_bytes() - before
    stage.redis.ask(b"FLUSHDB", database=SPREAD_DATABASE)
    return used / len(given)


def _add(plan: Plan, label: str, given: list[str], database: int, known: Sample) -> None:
    stage = plan.stage
    path = tokens.save(given[: stage.settings.rotating_tokens], stage.directory / f"of-{database}")
    running = plan.start("sidecar", database=database, cache_tokens=0)
    if running is None:
        return
    count = min(len(given), stage.settings.rotating_tokens)
    rotation = Rotation(stage, running, Load(tokens=path), count)
    plan.add(label, lambda seconds: {**rotation(seconds), **known})


SCENARIO = Scenario(
    "many",
    "1 000 000 tokens in Redis, no cache",
    prepare,
    columns=(*LOAD_COLUMNS, "redis_bytes_per_token", "redis_bytes_per_spread_token"),
    subjects=(MANY,),
)
