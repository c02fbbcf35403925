"""A master killed or put to sleep under load, behind Sentinels and in a Cluster.

What fails is "I don't know"; a good token is never unknown, and a former master is never heard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.cache import TokenCache
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import RedisServer, binary_of
from tests.redis_topologies import running_cluster, running_sentinels
from tests.store_load import Load

DATABASE = 2
RECORDS = [make_record(number, days=0) for number in range(12)]
SPARE = make_record(99, days=0)
PATIENCE_SECONDS = 90.0
"""Sentinels that are starved of processor time do nothing for 30 s (their TILT mode)."""

pytestmark = pytest.mark.timeout(180)
READS = ("mget", "get", "hget", "hscan")


@dataclass(frozen=True)
class Stage:
    """Several Redis, the way to them, and who is the master of a key just now."""

    url: str
    servers: list[RedisServer]
    master_of: Callable[[str], RedisServer]
    replace: Callable[[RedisServer], None]
    """Have a master replaced by a replica of it, as for maintenance."""
    number: int = 0


@pytest.fixture(params=["sentinel", "cluster"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    if request.param == "sentinel":
        with running_sentinels(binary_of("debian"), tmp_path) as group:
            url = group.url(DATABASE)
            yield Stage(url, group.servers, lambda _: group.master, group.replace, DATABASE)
    else:
        with running_cluster(binary_of("debian"), tmp_path, has_replicas=True) as cluster:
            yield Stage(cluster.url, cluster.servers, cluster.master_of, cluster.replace)


@dataclass
class Run:
    """A cache before a store, asked and written to all the time."""

    store: RedisStore
    cache: TokenCache
    load: Load
    made: list[tuple[float, TokenRecord]] = field(default_factory=list)
    """Each token that was acknowledged, and when it was sent."""
    is_over: bool = False

    async def until(self, is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)

    async def heal(self) -> None:
        """Wait until all tokens are answered for, and told of, again."""
        for record in RECORDS:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    assert await self.store.look_up(record.digest) == record
                    break
                except StoreUnavailable:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
        await self.until(lambda: self.cache.is_watching)

    async def learn(self, record: TokenRecord) -> None:
        """Look a record up until the cache keeps it, which a change of masters may empty."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.cache.get(record.digest) != record:
            assert time.monotonic() < deadline
            try:
                assert await self.cache.look_up(record.digest) == record
            except StoreUnavailable:
                await asyncio.sleep(0.02)

    async def heal_after_loss(self) -> None:
        """Wait until a loss is noticed, and then as ``heal``."""
        await self.until(lambda: not self.cache.is_watching)
        await self.heal()

    async def make_tokens(self) -> None:
        for number in range(100, 100_000):
            record = make_record(number, account=f"account{number % 40}")
            sent_at = time.monotonic()  # what a lost master acknowledged may be read much later
            try:
                await self.store.create(record)
                self.made.append((sent_at, record))
            except StoreUnavailable:
                pass
            await asyncio.sleep(0.01)
            if self.is_over:
                return


@asynccontextmanager
async def at_command_line(stage: Stage) -> AsyncIterator[RedisStore]:
    """Yield a store as the command line has it: new, and with time."""
    store = connect(stage.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
    yield store
    await store.close()


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Run]:
    cache = TokenCache(most_tokens=1000, max_age_seconds=60, outage_grace_seconds=0)
    store = connect(stage.url, prefix="sidecar:", watcher=cache)
    cache.connect(store.fetch, store.read)
    async with at_command_line(stage) as admin:
        for record in [*RECORDS, SPARE]:
            await admin.create(record)
    run = Run(store, cache, Load(cache.look_up, RECORDS, 16))
    await run.heal()
    writing = asyncio.create_task(run.make_tokens())
    try:
        async with run.load, Load(store.look_up, RECORDS, 16) as uncached:
            yield run
        assert uncached.outcomes["WRONG"] == run.load.outcomes["WRONG"] == 0
        print(f"\n{run.load.outcomes}, at most {run.load.longest_outage_seconds:.2f} s a token")
        print(f"{uncached.outcomes}, at most {uncached.longest_outage_seconds:.2f} s without cache")
    finally:
        run.is_over = True  # a cancellation can get lost in Python 3.11's asyncio.wait_for
        await asyncio.gather(writing, return_exceptions=True)
        await store.close()


def key_of(record: TokenRecord) -> str:
    return f"sidecar:token:{record.digest}"


def reads_at(server: RedisServer) -> int:
    """Return how many questions about tokens a server was asked since it began."""
    told = server.command("INFO", "commandstats")
    return sum(told.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in READS)


def is_replica(server: RedisServer) -> bool:
    return bool(server.command("INFO", "replication")["role"] == "slave")


async def assert_hardly_any_was_lost(
    stage: Stage, run: Run, until: float, seconds: float = 5
) -> None:
    """Assert that of the acknowledged tokens only those of the last seconds are gone.

    A replica lags behind its master by milliseconds, on a busy machine by more than a second.
    """
    made = [*run.made]
    async with at_command_line(stage) as admin:
        lost = [at for at, record in made if await admin.look_up(record.digest) is None]
    assert all(until - seconds < at <= until for at in lost)
    print(f"\nof {len(made)} tokens made meanwhile, {len(lost)} were lost", end="")


async def test_a_killed_master_costs_time_and_no_good_token(stage: Stage) -> None:
    """The cache is emptied, and the new master is asked, tells of changes and takes tokens."""
    async with running(stage) as run:
        victim = await asyncio.to_thread(stage.master_of, key_of(SPARE))
        victim.kill()
        killed_at = time.monotonic()
        await run.until(lambda: not run.cache.is_watching)
        assert all(run.cache.get(record.digest) is None for record in RECORDS)
        await run.heal()
        heir = victim
        while heir is victim:  # we believe the best-informed Sentinel, the stage most of them
            heir = await asyncio.to_thread(stage.master_of, key_of(SPARE))
        assert [*heir.command("INFO", "keyspace")] == [f"db{stage.number}"]
        await run.until(lambda: any(at > killed_at for at, _ in run.made))
        await assert_hardly_any_was_lost(stage, run, killed_at)
        await run.learn(SPARE)
        async with at_command_line(stage) as admin:
            assert await admin.revoke(SPARE)
        await run.until(lambda: run.cache.get(SPARE.digest) is None)
        replicas = [server for server in stage.servers if server.is_running and is_replica(server)]
        assert [reads_at(server) for server in replicas] == [0] * len(replicas)


@pytest.mark.soak
async def test_a_killed_master_that_comes_back_is_not_asked(stage: Stage) -> None:
    """It comes back empty, and knows of no token."""
    async with running(stage) as run:
        victim = await asyncio.to_thread(stage.master_of, key_of(RECORDS[0]))
        victim.kill()
        await run.heal_after_loss()
        await asyncio.to_thread(victim.start)
        await run.until(lambda: is_replica(victim))
        await asyncio.sleep(1)
        assert reads_at(victim) == 0


@pytest.mark.soak
async def test_a_master_that_sleeps_through_its_replacement_is_not_heard_when_it_wakes(
    stage: Stage,
) -> None:
    """It takes itself for a master for a while, and would lend a revoked token its old life."""
    async with running(stage) as run:
        victim = await asyncio.to_thread(stage.master_of, key_of(SPARE))
        victim.pause()
        paused_at = time.monotonic()
        await run.heal_after_loss()
        async with at_command_line(stage) as admin:
            assert await admin.revoke(SPARE)
        found = Load(run.cache.look_up, [SPARE], 16)
        async with found:
            victim.resume()
            await run.until(lambda: is_replica(victim))
            await asyncio.sleep(0.5)
        assert found.outcomes["good"] == 0
        assert found.outcomes["WRONG"] > 100, "which is to say: refused"
        await assert_hardly_any_was_lost(stage, run, paused_at)


@pytest.mark.soak
async def test_a_master_that_is_replaced_for_maintenance_is_left_in_time(stage: Stage) -> None:
    """It lives on as a replica, under open connections."""
    async with running(stage) as run:
        former = await asyncio.to_thread(stage.master_of, key_of(SPARE))
        replaced_at = time.monotonic()
        await asyncio.to_thread(stage.replace, former)
        await run.until(lambda: is_replica(former))
        await asyncio.sleep(2)
        before = reads_at(former)
        await run.heal()
        await asyncio.sleep(0.5)
        assert reads_at(former) == before
        assert await run.cache.look_up(SPARE.digest) == SPARE
        async with at_command_line(stage) as admin:
            assert await admin.revoke(SPARE)
        await run.until(lambda: run.cache.get(SPARE.digest) is None)
        # Sentinels promote a replica first and tell its master afterwards.
        await assert_hardly_any_was_lost(stage, run, replaced_at + 10, seconds=11)
