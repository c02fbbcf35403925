"""A sidecar that loses its power, or its way to Redis, between any two writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import NameTaken, StoreUnavailable
from sidecar.store.commands import Command
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import Clock, make_record
from tests.patience import BUDGET_SECONDS
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
        witness = connect(
            server.unix_url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS, now=clock
        )
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


@pytest.fixture
async def rivals(server: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two sidecars; the second's clock is ahead, so it takes the first's creations for dead."""
    clock = Clock()
    clock.ahead_seconds = 10
    slow = connect(server.unix_url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
    quick = connect(server.unix_url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS, now=clock)
    yield slow, quick
    await slow.close()
    await quick.close()


async def test_a_creator_that_was_overtaken_withdraws_its_token(
    rivals: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar suspended between index and record comes back after its name was given away."""
    slow, quick = rivals
    run = slow._commands.run

    async def write_late(*commands: Command) -> list[Any]:
        if commands[0][0] == "SET":
            await quick.create(make_record(2, name="shop"))
        return await run(*commands)

    monkeypatch.setattr(slow._commands, "run", write_late)
    with pytest.raises(NameTaken):
        await slow.create(make_record(1, name="shop"))
    assert await slow.list() == [make_record(2, name="shop")]


async def test_who_overtook_a_creator_that_then_succeeded_gives_the_name_back(
    rivals: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was quicker after all: it is done before its reservation is taken over."""
    slow, quick = rivals
    slow_run, quick_get = slow._commands.run, quick._commands.get
    is_judged, is_written = asyncio.Event(), asyncio.Event()

    async def write_late(*commands: Command) -> list[Any]:
        if commands[0][0] == "SET":
            is_written.set()
            await is_judged.wait()
        return await slow_run(*commands)

    async def judge_early(keys: Sequence[bytes]) -> list[bytes | None]:
        values = await quick_get(keys)
        is_judged.set()
        await creation
        return values

    monkeypatch.setattr(slow._commands, "run", write_late)
    monkeypatch.setattr(quick._commands, "get", judge_early)
    creation = asyncio.create_task(slow.create(make_record(1, name="shop")))
    await is_written.wait()
    with pytest.raises(NameTaken):
        await quick.create(make_record(2, name="shop"))
    assert await slow.list() == [make_record(1, name="shop")]
    with pytest.raises(NameTaken):
        await slow.create(make_record(3, name="shop"))
