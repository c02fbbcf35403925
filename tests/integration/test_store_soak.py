"""Callers that leave while their look-up is under way (HOSTILE R1): no answer ever crosses over."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.record import encode
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import BINARIES, RedisServer, binary_of, running_redis

TOKENS = 5000
VISITORS = 200
CALLS = 100
CALLS_BETWEEN_KILLS = 1000


def fill(server: RedisServer) -> list[TokenRecord]:
    """Put records where a look-up finds them, each of an account of its own."""
    records = [make_record(n, account=f"account-{n}") for n in range(TOKENS)]
    words: list[object] = ["MSET"]
    for record in records:
        words += [f"sidecar:token:{record.digest}", encode(record)]
    server.command(*words)
    return records


async def ask(store: RedisStore, record: TokenRecord, patience_seconds: float | None) -> str:
    try:
        async with asyncio.timeout(patience_seconds):
            found = await store.look_up(record.digest)
    except TimeoutError:
        return "left"
    except StoreUnavailable:
        return "unavailable"
    return "right" if found == record else "WRONG"


async def visit(
    store: RedisStore, records: list[TokenRecord], chance: random.Random, outcomes: list[str]
) -> None:
    """Look up one record after another, each until there is an answer or the caller has left."""
    for _ in range(CALLS):
        leaves = chance.random() < 0.2
        patience_seconds = chance.choice([0.0, 0.0005, 0.001, 0.002]) if leaves else None
        record = chance.choice(records)
        while (outcome := await ask(store, record, patience_seconds)) == "unavailable":
            outcomes.append(outcome)
            await asyncio.sleep(0.005)
        outcomes.append(outcome)


async def kill_connections(server: RedisServer, outcomes: list[str]) -> None:
    """Kill all of them once for so many calls that came to an end, however long these take."""
    killed_at = 0
    while True:
        await asyncio.sleep(0.005)
        ended = len(outcomes) - outcomes.count("unavailable")
        if ended >= killed_at + CALLS_BETWEEN_KILLS:
            killed_at = ended
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize("is_disturbed", [False, True], ids=["calm", "connections killed"])
async def test_no_answer_is_for_anothers_token_when_a_fifth_of_the_callers_leave_early(
    binary: str, is_disturbed: bool, tmp_path: Path
) -> None:
    chance = random.Random(5)
    with running_redis(binary_of(binary), tmp_path) as server:
        records = fill(server)
        store = connect(server.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        outcomes: list[str] = []
        killing = asyncio.create_task(kill_connections(server, outcomes)) if is_disturbed else None
        await asyncio.gather(*(visit(store, records, chance, outcomes) for _ in range(VISITORS)))
        if killing is not None:
            killing.cancel()
        await store.close()
    assert "WRONG" not in outcomes
    assert outcomes.count("left") > 500
    assert outcomes.count("right") > 10_000
    assert is_disturbed or "unavailable" not in outcomes


async def test_calls_other_than_look_ups_can_be_left_as_well(tmp_path: Path) -> None:
    chance = random.Random(5)
    with running_redis(binary_of("debian"), tmp_path) as server:
        store = connect(server.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        records = [make_record(n, account=f"account-{n}") for n in range(40)]
        for record in records:
            await store.create(record)

        async def find(record: TokenRecord) -> bool:
            patience_seconds = chance.choice([None, 0.0, 0.0005, 0.001])
            try:
                async with asyncio.timeout(patience_seconds):
                    return await store.find(record.id, record.account) == record
            except TimeoutError:
                return True
            except StoreUnavailable:
                return patience_seconds is not None

        for _ in range(20):
            assert all(await asyncio.gather(*map(find, records)))
        assert [await store.find(r.id, r.account) for r in records] == records
        await store.close()
