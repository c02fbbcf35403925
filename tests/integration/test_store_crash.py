"""A sidecar that loses its power, or its way to Redis, between any two writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import Clock, digest_of, make_record
from tests.redis_servers import BINARIES, CutProxy, RedisServer, binary_of, running_redis

MOST_STEPS = 8
Change = Callable[[RedisStore], Awaitable[object]]


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(binary_of(request.param), tmp_path) as running:
        yield running


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[CutProxy]:
    proxy = CutProxy(server)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def crash_at_every_step(
    server: RedisServer, proxy: CutProxy, change: Change, prepare: Change
) -> AsyncIterator[tuple[int, RedisStore, Clock]]:
    """Yield, for each number of steps after which the power fails, a healthy store to look with."""
    for steps in range(MOST_STEPS):
        server.command("FLUSHALL")
        clock = Clock()
        witness = connect(server.unix_url, prefix="sidecar:", now=clock)
        await prepare(witness)
        doomed = connect(proxy.url, prefix="sidecar:")
        proxy.allowed = steps
        try:
            await change(doomed)
        except StoreUnavailable:
            yield steps, witness, clock
        else:
            assert steps > 0
            return
        finally:
            proxy.allowed = None
            await doomed.close()
            await witness.close()
    raise AssertionError("the change never came to its end")


def authorizing_digests(server: RedisServer) -> set[str]:
    """Return the digest of every record in Redis, index or not."""
    keys = server.command("KEYS", "sidecar:token:*")
    return {key.decode().removeprefix("sidecar:token:") for key in keys}


async def assert_all_can_be_listed_and_revoked(
    server: RedisServer, store: RedisStore, clock: Clock
) -> None:
    for ahead_seconds in (0.0, 10.0):
        clock.ahead_seconds = ahead_seconds
        listed = await store.list()
        assert {record.digest for record in listed} == authorizing_digests(server)
    for record in await store.list():
        assert await store.revoke(record)
    assert authorizing_digests(server) == set()
    assert await store.list() == []
    assert server.command("KEYS", "sidecar:account:*") == []


async def nothing(_: RedisStore) -> None:
    pass


async def test_a_creation_cut_short_leaves_nothing_that_cannot_be_listed_and_revoked(
    server: RedisServer, proxy: CutProxy
) -> None:
    record = make_record()
    async for _, store, clock in crash_at_every_step(
        server, proxy, lambda doomed: doomed.create(record), nothing
    ):
        await assert_all_can_be_listed_and_revoked(server, store, clock)


async def test_a_name_reserved_by_a_creation_cut_short_is_free_soon(
    server: RedisServer, proxy: CutProxy
) -> None:
    record = make_record()
    async for _, store, clock in crash_at_every_step(
        server, proxy, lambda doomed: doomed.create(record), nothing
    ):
        clock.ahead_seconds = 10
        if await store.look_up(record.digest) is None:
            await store.create(make_record(2, name=record.name))
        assert [found.name for found in await store.list()] == [record.name]


async def test_a_revocation_cut_short_has_revoked_or_left_all_as_it_was(
    server: RedisServer, proxy: CutProxy
) -> None:
    record = make_record()
    async for steps, store, clock in crash_at_every_step(
        server, proxy, lambda doomed: doomed.revoke(record), lambda store: store.create(record)
    ):
        assert (await store.look_up(record.digest) is None) == (steps > 0)
        await assert_all_can_be_listed_and_revoked(server, store, clock)


async def test_a_revocation_is_done_once_the_record_is_gone(
    server: RedisServer, proxy: CutProxy
) -> None:
    store = connect(proxy.url, prefix="sidecar:")
    await store.create(make_record())
    proxy.allowed = 1
    assert await store.revoke(make_record()) is True
    assert authorizing_digests(server) == set()
    await store.close()


async def test_a_rotation_cut_short_leaves_the_old_token_and_perhaps_the_new(
    server: RedisServer, proxy: CutProxy
) -> None:
    old, new = make_record(1, name="shop", days=0), make_record(2, name="shop", days=0)
    async for _, store, clock in crash_at_every_step(
        server, proxy, lambda doomed: doomed.supersede(old, new, 60), lambda s: s.create(old)
    ):
        assert await store.look_up(old.digest) is not None
        await assert_all_can_be_listed_and_revoked(server, store, clock)


async def test_a_creator_that_was_overtaken_withdraws_its_token(
    server: RedisServer, proxy: CutProxy
) -> None:
    """A sidecar suspended between index and record comes back after its name was given away."""
    slow, quick = make_record(1, name="shop"), make_record(2, name="shop")
    store = connect(server.unix_url, prefix="sidecar:")
    server.command("HSET", "sidecar:account:acme", "=shop", slow.id)
    await store.create(quick)
    entry = bytes.fromhex(digest_of("secret 1")) + bytes(4)
    server.command("HSET", "sidecar:account:acme", slow.id, entry)
    assert await store.list() == [quick]
    assert server.command("HEXISTS", "sidecar:account:acme", slow.id) == 0
    await store.close()
