"""Whose word counts when Sentinels disagree, are gone, hang, or are none; all are scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sidecar.core.errors import StoreUnavailable
from sidecar.store.endpoints import Endpoint
from sidecar.store.redis_link import RedisLink
from sidecar.store.sentinels import Sentinels

BUDGET_SECONDS = 1.0
OLD, NEW = Endpoint("10.0.0.1", 6379), Endpoint("10.0.0.2", 6379)

Start = Callable[[str], Awaitable[Redis]]


def told(master: Endpoint, epoch: int) -> str:
    """Return a Sentinel's two answers: the master's address, and all that it knows of it."""
    address = f"*2\r\n${len(master.host)}\r\n{master.host}\r\n$4\r\n{master.port}\r\n"
    return f"{address}*2\r\n$12\r\nconfig-epoch\r\n${len(str(epoch))}\r\n{epoch}\r\n"


UNKNOWN = "*-1\r\n-ERR No such master with that name\r\n"
REDIS = "-ERR unknown command 'SENTINEL'\r\n-ERR unknown command 'SENTINEL'\r\n"
PASSWORD_WANTED = "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
SILENCE = ""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Return what starts a Sentinel that answers so, and gives a client of it."""
    async with AsyncExitStack() as stack:

        async def start_one(answers: str) -> Redis:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(65536):
                    writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
                    writer.write(answers.encode() if b"SENTINEL" in data else b"")
                writer.close()

            listener = await asyncio.start_server(serve, "127.0.0.1", 0)
            stack.callback(listener.close)
            port = listener.sockets[0].getsockname()[1]
            return client_of(stack, port)

        yield start_one


def client_of(stack: AsyncExitStack, port: int) -> Redis:
    client = Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0))
    stack.push_async_callback(client.aclose)
    return client


async def test_the_sentinel_that_knows_of_the_latest_fail_over_counts(start: Start) -> None:
    """Of any majority one has voted in the latest fail-over."""
    clients = [await start(told(NEW, 4)), await start(told(OLD, 3))]
    assert await Sentinels(clients, "tokens", BUDGET_SECONDS).find_master() == NEW


async def test_sentinels_that_hang_or_are_gone_do_not_stop_the_others(start: Start) -> None:
    clients = [await start(SILENCE), await start(told(NEW, 1)), Redis(port=1)]
    assert await Sentinels(clients, "tokens", BUDGET_SECONDS).find_master() == NEW


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (UNKNOWN, "they know no master named tokens"),
        (PASSWORD_WANTED, "NOAUTH"),
        (REDIS, "ERR"),
        ("+OK\r\n+OK\r\n", "no Sentinel"),
        (SILENCE, "none answers in time"),
    ],
)
async def test_why_none_names_a_master_is_said(start: Start, answers: str, reason: str) -> None:
    sentinels = Sentinels([await start(answers)], "tokens", BUDGET_SECONDS)
    with pytest.raises(StoreUnavailable, match=reason):
        await sentinels.find_master()


async def test_a_master_that_was_just_replaced_is_not_confirmed(start: Start) -> None:
    sentinels = Sentinels([await start(told(NEW, 2))], "tokens", BUDGET_SECONDS)
    await sentinels.confirm(NEW)
    with pytest.raises(StoreUnavailable, match="named another master"):
        await sentinels.confirm(OLD)


async def test_a_link_stays_while_the_sentinels_name_its_master_or_are_away(start: Start) -> None:
    client = await start(told(OLD, 2))
    sentinels = Sentinels([client], "tokens", BUDGET_SECONDS)
    link = RedisLink()
    sentinels.stay_at(OLD, link, leave)
    sentinels.sentinels = [Redis(port=1)]
    await asyncio.sleep(0.7)
    assert "open" in repr(link)
    sentinels.sentinels = [await start(told(NEW, 3))]
    async with asyncio.timeout(10):
        while "open" in repr(link):
            await asyncio.sleep(0.01)
    await sentinels.close()


async def leave() -> None:
    """Stand for the closing of pooled connections."""
