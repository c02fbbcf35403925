"""The portal's secret in a real Redis: one for all, whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.store.portal_secret import connect_secret
from tests.redis_servers import RedisServer, binary_of, running_redis

KEY = "t:portal:secret"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(binary_of("debian"), tmp_path) as running:
        yield running


async def read(url: str) -> bytes:
    secret = connect_secret(url, prefix="t:")
    try:
        return await secret.read()
    finally:
        await secret.close()


async def test_whoever_comes_first_makes_it_and_all_others_read_it(server: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        secrets = [connect_secret(server.url, prefix="t:") for _ in range(20)]
        for secret in secrets:
            stack.push_async_callback(secret.close)
        found = await asyncio.gather(*(secret.read() for secret in secrets))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert (server.command("GET", KEY), server.command("TTL", KEY)) == (found[0], -1)
    assert await read(server.url) == found[0]


async def test_deleting_it_makes_a_new_one(server: RedisServer) -> None:
    first = await read(server.url)
    server.command("DEL", KEY)
    assert await read(server.url) != first


async def test_what_is_no_secret_is_replaced(server: RedisServer) -> None:
    server.command("SET", KEY, "short")
    assert len(await read(server.url)) == 32


async def test_a_redis_that_is_away_is_told_as_such(server: RedisServer) -> None:
    server.kill()
    with pytest.raises(StoreUnavailable):
        await read(server.url)
