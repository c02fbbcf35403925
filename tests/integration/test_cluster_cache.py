"""The cache before a real Cluster: every master is watched, slots move, masters join and fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.crc import key_slot

from sidecar.core.model import TokenRecord
from sidecar.store.cache import TokenCache
from sidecar.store.record import encode
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS, PATIENCE_SECONDS
from tests.redis_servers import binary_of, command_on
from tests.redis_topologies import ClusterOfServers, cluster_server, running_cluster
from tests.store_load import Load

RECORDS = [make_record(number, days=0) for number in range(30)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfServers]:
    with running_cluster(binary_of("debian"), tmp_path_factory.mktemp("cluster")) as running:
        yield running


@asynccontextmanager
async def cached(cluster: ClusterOfServers) -> AsyncIterator[tuple[TokenCache, RedisStore]]:
    """Yield a cache that watches a store, in which the records are kept already."""
    cache = TokenCache(most_tokens=1000, max_age_seconds=60, outage_grace_seconds=30)
    store = connect(cluster.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS, watcher=cache)
    cache.connect(store.fetch, store.read)
    cluster.command("FLUSHALL")
    try:
        for record in RECORDS:
            cluster.command("SET", key_of(record), encode(record))
        await until(lambda: cache.is_watching, store)
        await learn(cache)
        yield cache, store
    finally:
        await store.close()


async def learn(cache: TokenCache) -> None:
    """Look every record up until all are kept: a change of the Cluster may empty the cache."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(cache.get(record.digest) == record for record in RECORDS):
        assert time.monotonic() < deadline
        for record in RECORDS:
            assert await cache.look_up(record.digest) == record


async def until(is_so: object, store: RedisStore | None = None) -> None:
    assert callable(is_so)
    deadline = time.monotonic() + PATIENCE_SECONDS
    if store is not None:
        await store.look_up(RECORDS[0].digest)
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def key_of(record: TokenRecord) -> str:
    return f"sidecar:token:{record.digest}"


async def test_a_record_deleted_at_any_master_is_forgotten_and_the_others_are_kept(
    cluster: ClusterOfServers,
) -> None:
    async with cached(cluster) as (cache, _):
        owners = {cluster.master_of(key_of(record)).port for record in RECORDS}
        assert owners == {master.port for master in cluster.masters}
        for number, record in enumerate(RECORDS):
            cluster.command("DEL", key_of(record))
            await until(lambda gone=record: cache.get(gone.digest) is None)
            assert all(cache.get(other.digest) == other for other in RECORDS[number + 1 :])


async def test_a_flush_of_one_master_is_known(cluster: ClusterOfServers) -> None:
    async with cached(cluster) as (cache, _):
        cluster.masters[1].command("FLUSHALL")
        await until(lambda: all(cache.get(record.digest) is None for record in RECORDS))


async def test_a_process_that_only_recalls_is_kept_believing(cluster: ClusterOfServers) -> None:
    async with cached(cluster) as (cache, _):
        for _ in range(26):
            assert all(cache.get(record.digest) == record for record in RECORDS)
            await asyncio.sleep(0.1)


async def test_one_connection_lost_empties_the_cache_until_all_are_watched_again(
    cluster: ClusterOfServers,
) -> None:
    async with cached(cluster) as (cache, _):
        cluster.masters[2].command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: all(cache.get(record.digest) is None for record in RECORDS))
        await until(lambda: cache.is_watching)
        await learn(cache)


async def test_a_token_is_good_wherever_its_slot_is_on_its_way(cluster: ClusterOfServers) -> None:
    """Before, between and after the steps of a migration it is found, and its end is told."""
    async with cached(cluster) as (cache, store):
        record = RECORDS[0]
        slot, key = key_slot(key_of(record).encode()), key_of(record)
        source = cluster.master_of(key)
        target = next(master for master in cluster.masters if master is not source)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)
        assert await store.look_up(record.digest) == record, "still at the old master"
        cluster.move_key(key, source, target)
        await until(lambda: cache.get(record.digest) is None)
        assert await cache.look_up(record.digest) == record, "by ASK from the new one"
        assert cache.get(record.digest) == record, "which tells as well"
        command_on(target.socket, "DEL", key, is_asking=True)
        await until(lambda: cache.get(record.digest) is None)
        assert await cache.look_up(record.digest) is None
        command_on(target.socket, "SET", key, encode(record), is_asking=True)
        for server in (target, source):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", target.node_id)
        assert await store.look_up(record.digest) == record, "by MOVED"
        assert await cache.look_up(record.digest) == record
        target.command("DEL", key)
        await until(lambda: cache.get(record.digest) is None)
        assert await cache.look_up(record.digest) is None


async def test_slots_moved_under_load_cost_no_answer_and_every_end_is_told(
    cluster: ClusterOfServers,
) -> None:
    """Each record is asked for all the time while its slot goes round all masters."""
    async with cached(cluster) as (cache, store), Load(store.look_up, RECORDS, 16) as load:
        for record in RECORDS[:10]:
            slot = key_slot(key_of(record).encode())
            source = cluster.master_of(key_of(record))
            target = next(master for master in cluster.masters if master is not source)
            await asyncio.to_thread(cluster.migrate, slot, source, target, 0.02)
        assert load.outcomes["WRONG"] == 0
        assert load.outcomes["unavailable"] == 0
        await until(lambda: cache.is_watching)
        await learn(cache)
        for record in RECORDS[:10]:
            cluster.command("DEL", key_of(record))
            await until(lambda gone=record: cache.get(gone.digest) is None)


async def test_a_master_that_joins_is_watched_before_it_is_believed(
    cluster: ClusterOfServers, tmp_path: Path
) -> None:
    stays = ("--cluster-allow-replica-migration", "no")  # a master, also when its last slot is gone
    with cluster_server(binary_of("debian"), tmp_path / "new", *stays) as newcomer:
        async with cached(cluster) as (cache, _):
            cluster.welcome(newcomer)
            record = RECORDS[0]
            slot = key_slot(key_of(record).encode())
            source = cluster.master_of(key_of(record))
            await asyncio.to_thread(cluster.migrate, slot, source, newcomer)
            assert await cache.look_up(record.digest) == record
            await until(lambda: cache.is_watching)
            await learn(cache)
            newcomer.command("DEL", key_of(record))
            await until(lambda: cache.get(record.digest) is None)
            assert await cache.look_up(record.digest) is None
            await asyncio.to_thread(cluster.migrate, slot, newcomer, source)
            assert all(cache.get(other.digest) == other for other in RECORDS[1:])
        cluster.dismiss(newcomer)
