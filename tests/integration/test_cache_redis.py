"""The cache before a real Redis: what Redis tells of, on each version, and what it does not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis import RedisError

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import LastUse
from sidecar.store.cache import TokenCache
from sidecar.store.record import encode
from sidecar.store.redis import RedisStore, connect
from sidecar.store.revalidation import Revalidation
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS, PATIENCE_SECONDS
from tests.redis_servers import BINARIES, RedisServer, binary_of, running_redis

RECORD = make_record(days=0)
OTHER = make_record(2, days=0)


@pytest.fixture(scope="module", params=BINARIES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    directory = tmp_path_factory.mktemp(request.param)
    with running_redis(binary_of(request.param), directory) as running:
        yield running


@asynccontextmanager
async def cached(
    url: str, prefix: str = "sidecar:", most_tokens: int = 1000
) -> AsyncIterator[tuple[TokenCache, RedisStore]]:
    """Yield a cache that watches a store, in which one record is kept already."""
    cache = TokenCache(most_tokens=most_tokens, max_age_seconds=60, outage_grace_seconds=30)
    store = connect(url, prefix=prefix, budget_seconds=BUDGET_SECONDS, watcher=cache)
    cache.connect(store.fetch, store.read)
    try:
        await store.create(RECORD)
        assert await cache.look_up(RECORD.digest) == RECORD
        yield cache, store
    finally:
        await store.close()


async def is_forgotten(cache: TokenCache, digest: str = RECORD.digest) -> bool:
    """Tell whether Redis tells of a change to the record: in milliseconds, if nobody is busy."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while cache.get(digest) is not None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.002)
    return True


@pytest.fixture(autouse=True)
def empty(server: RedisServer) -> None:
    server.command("FLUSHALL")


KEY = f"sidecar:token:{RECORD.digest}"
CHANGES: dict[str, tuple[object, ...]] = {
    "DEL": ("DEL", KEY),
    "UNLINK": ("UNLINK", KEY),
    "GETDEL": ("GETDEL", KEY),
    "SET": ("SET", KEY, "x"),
    "APPEND": ("APPEND", KEY, "x"),
    "SETRANGE": ("SETRANGE", KEY, 0, "x"),
    "RENAME": ("RENAME", KEY, "elsewhere"),
    "MOVE": ("MOVE", KEY, 1),
    "EXPIRE": ("EXPIRE", KEY, 100),
    "PEXPIRE 1": ("PEXPIRE", KEY, 1),
    "FLUSHDB": ("FLUSHDB",),
    "FLUSHDB ASYNC": ("FLUSHDB", "ASYNC"),
    "FLUSHALL": ("FLUSHALL",),
    "EVAL": ("EVAL", f"return redis.call('DEL', '{KEY}')", 0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_redis_tells_of_every_change_whoever_makes_it(
    server: RedisServer, change: tuple[object, ...]
) -> None:
    async with cached(server.unix_url) as (cache, _):
        server.command(*change)
        assert await is_forgotten(cache)


async def test_noting_last_uses_makes_the_cache_forget_nothing(server: RedisServer) -> None:
    """They go on a link of their own, of which the cache is told neither the start nor the end."""
    async with cached(server.unix_url) as (cache, store):
        await store.record_use([(LastUse(1.0, "192.0.2.1"), [RECORD.digest])])
        assert cache.get(RECORD.digest) == RECORD
        await store.close()
        await store.record_use([(LastUse(2.0, "192.0.2.1"), [RECORD.digest])])
        assert not cache.is_watching, "only look-ups watch"


async def test_redis_tells_when_a_key_expires_by_itself(server: RedisServer) -> None:
    async with cached(server.unix_url) as (cache, _):
        server.command("PEXPIRE", KEY, 3000)  # long enough to be looked up again before
        assert await is_forgotten(cache)
        assert await cache.look_up(RECORD.digest) == RECORD
        assert cache.get(RECORD.digest) is not None
        assert await is_forgotten(cache)
        assert await cache.look_up(RECORD.digest) is None


async def test_redis_tells_when_it_evicts(server: RedisServer) -> None:
    """An eviction policy that loses tokens is a fault (``check --connect``), not a way around."""
    async with cached(server.unix_url) as (cache, _):
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        server.command("CONFIG", "SET", "maxmemory", "1")
        try:
            with suppress(RedisError):  # there is never room for this one
                server.command("SET", "x", "y")
        finally:
            server.command("CONFIG", "SET", "maxmemory", "0")
            server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert await is_forgotten(cache)


@pytest.mark.parametrize("prefix", ["", "a*b?[c]:", "sid ecar\\:", "préfixe:", "x" * 300])
async def test_a_prefix_may_hold_any_character(server: RedisServer, prefix: str) -> None:
    async with cached(server.unix_url, prefix) as (cache, store):
        await store.create(OTHER)
        assert await cache.look_up(OTHER.digest) == OTHER
        server.command("DEL", f"{prefix}token:{RECORD.digest}")
        assert await is_forgotten(cache)
        assert cache.get(OTHER.digest) == OTHER


async def test_a_database_of_another_number_is_watched(server: RedisServer) -> None:
    async with cached(server.url.replace("/0", "/7")) as (cache, store):
        assert await store.revoke(RECORD)
        assert await is_forgotten(cache)


async def test_a_token_that_is_made_or_retired_is_known_at_once(server: RedisServer) -> None:
    async with cached(server.unix_url) as (cache, store):
        assert await cache.look_up(OTHER.digest) is None
        await store.supersede(RECORD, make_record(2, name=RECORD.name, days=0), 3600)
        assert await is_forgotten(cache)
        retired = await cache.look_up(RECORD.digest)
        assert retired is not None
        assert retired.expires_at is not None
        assert await cache.look_up(OTHER.digest) is not None


async def test_ten_thousand_changes_at_once_are_all_told(server: RedisServer) -> None:
    """Broadcast needs no table of who has read what, so nothing overflows."""
    records = [make_record(number, days=0) for number in range(10_000)]
    words: list[object] = []
    for record in records:
        words += [f"sidecar:token:{record.digest}", encode(record)]
    async with cached(server.unix_url, most_tokens=20_000) as (cache, _):
        server.command("MSET", *words)
        assert await is_forgotten(cache)
        for start in range(0, len(records), 200):
            chunk = records[start : start + 200]
            await asyncio.gather(*(cache.look_up(record.digest) for record in chunk))
            assert all(cache.get(record.digest) == record for record in chunk)
        server.command("DEL", *words[::2])
        assert await is_forgotten(cache, records[-1].digest)
        assert all(cache.get(record.digest) is None for record in records)


async def test_a_process_that_only_recalls_is_kept_believing_by_the_heartbeat(
    server: RedisServer,
) -> None:
    async with cached(server.unix_url) as (cache, _):
        for _ in range(26):
            assert cache.get(RECORD.digest) == RECORD
            await asyncio.sleep(0.1)
        assert cache.misses == 1


async def test_a_master_that_is_demoted_is_not_believed_for_long(server: RedisServer) -> None:
    async with cached(server.unix_url) as (cache, _):
        server.command("REPLICAOF", "127.0.0.1", "1")
        try:
            for _ in range(1000):  # usually within a second and a half
                if not cache.is_watching:
                    break
                await asyncio.sleep(0.01)
            assert not cache.is_watching
            assert cache.get(RECORD.digest) is None
        finally:
            server.command("REPLICAOF", "NO", "ONE")


async def test_a_redis_that_refuses_to_track_is_asked_by_every_request(tmp_path: Path) -> None:
    """Its answers serve in an outage all the same."""
    with running_redis(binary_of("debian"), tmp_path) as server:
        server.command("ACL", "SETUSER", "default", "-client|tracking")
        async with cached(server.unix_url) as (cache, _):
            assert not cache.is_watching
            assert cache.get(RECORD.digest) is None
            server.command("DEL", KEY)
            assert await cache.look_up(RECORD.digest) is None
            server.command("SET", KEY, encode(RECORD))
            assert await cache.look_up(RECORD.digest) == RECORD
            server.kill()
            assert await cache.look_up(RECORD.digest) == RECORD


async def test_swapped_databases_are_known_after_max_age_at_the_latest(
    server: RedisServer,
) -> None:
    """Redis tells nobody of a ``SWAPDB``: the one change that waits for ``max_age``."""
    async with cached(server.unix_url) as (cache, _):
        server.command("SWAPDB", 0, 1)
        await asyncio.sleep(2)
        told = cache.get(RECORD.digest) is None
        server.command("SWAPDB", 0, 1)
    assert not told


class Returning:
    """A watcher as the process has it: a cache, and what looks up again what it remembers."""

    def __init__(self) -> None:
        self.shift_seconds = 0.0
        self.cache = TokenCache(
            most_tokens=1000,
            max_age_seconds=600,
            outage_grace_seconds=30,
            now=lambda: time.time() + self.shift_seconds,
        )
        self.revalidation = Revalidation(self.cache)
        self.on_changed = self.cache.on_changed
        self.on_heard = self.cache.on_heard
        self.on_blind = self.cache.on_blind

    def on_watching(self) -> None:
        self.revalidation.begin()
        self.cache.on_watching()

    async def wait_until(self, *, is_watching: bool, entries: int) -> None:
        for _ in range(1000):
            if (self.cache.is_watching, self.cache.entries) == (is_watching, entries):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{self.cache!r}, {self.revalidation!r}")


async def test_a_token_at_rest_has_its_grace_in_each_outage_and_a_revoked_one_in_none(
    server: RedisServer,
) -> None:
    """The clock is put forward while Redis is stopped: 20 s and 20 s, with 30 s of grace."""
    watcher = Returning()
    cache = watcher.cache
    store = connect(server.unix_url, prefix="sidecar:", watcher=watcher)
    cache.connect(store.fetch, store.read)
    task = asyncio.create_task(watcher.revalidation.run())
    admin = socket.socket(socket.AF_UNIX)
    try:
        admin.connect(str(server.socket))
        admin.sendall(b"PING\r\n")
        assert admin.recv(100) == b"+PONG\r\n"
        for record in (RECORD, OTHER):
            await store.create(record)
            assert await cache.look_up(record.digest) == record
        server.pause()
        await watcher.wait_until(is_watching=False, entries=0)
        watcher.shift_seconds += 20
        admin.sendall(f"DEL sidecar:token:{OTHER.digest}\r\n".encode())  # read when it goes on
        server.resume()
        await watcher.wait_until(is_watching=True, entries=2)  # one of them known to be absent
        server.pause()
        await watcher.wait_until(is_watching=False, entries=0)
        watcher.shift_seconds += 20
        assert await cache.look_up(RECORD.digest) == RECORD
        with pytest.raises(StoreUnavailable):
            await cache.look_up(OTHER.digest)
    finally:
        server.resume()
        admin.close()
        task.cancel()
        await store.close()
