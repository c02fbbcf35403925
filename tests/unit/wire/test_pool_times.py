"""A pool over time: connections grow too old, and a busy loop causes no time-out."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from sidecar.wire.pool import Pool
from sidecar.wire.upstream import UpstreamConnection
from tests.in_process import on_uvloop
from tests.unit.wire.test_pool import FakeService, turn, use

FIVE_MINUTES = 300.0


async def connected(pool: Pool) -> UpstreamConnection:
    connection = await pool.connect()
    use(connection)
    return connection


def too_old_when_it_comes_back(pool: Pool, connection: UpstreamConnection) -> None:
    connection.expires_at -= FIVE_MINUTES
    pool.give_back(connection)


def too_old_when_it_is_wanted(pool: Pool, connection: UpstreamConnection) -> None:
    pool.give_back(connection)
    connection.expires_at -= FIVE_MINUTES
    assert pool.take_idle() is None


def too_old_when_the_pool_is_swept(pool: Pool, connection: UpstreamConnection) -> None:
    pool.give_back(connection)
    connection.expires_at -= FIVE_MINUTES
    pool.drop_stale()


@pytest.mark.parametrize(
    "age",
    [too_old_when_it_comes_back, too_old_when_it_is_wanted, too_old_when_the_pool_is_swept],
)
async def test_a_connection_that_is_too_old_is_closed_and_not_used_again(
    age: Callable[[Pool, UpstreamConnection], None],
) -> None:
    pool = FakeService().pool
    age(pool, await connected(pool))
    await turn()
    assert pool.take_idle() is None
    assert pool.open_count == 0


async def test_an_exchange_continues_however_old_its_connection_is() -> None:
    pool = FakeService().pool
    connection = await pool.connect()
    use(connection, is_complete=False)
    connection.expires_at -= FIVE_MINUTES
    pool.drop_stale()
    await turn()
    assert connection.is_open


async def test_a_waiting_request_gets_a_new_connection_for_one_that_is_too_old() -> None:
    service = FakeService()
    lent = await connected(service.pool)
    waiting = asyncio.create_task(service.pool.connect())
    await turn()
    lent.expires_at -= FIVE_MINUTES
    service.pool.give_back(lent)
    await turn()
    assert await waiting is service.made[1]


async def test_connections_opened_together_expire_within_the_last_fifth_of_the_maximum_age() -> (
    None
):
    pool = FakeService(200).pool
    now = asyncio.get_running_loop().time()
    ages = [(await pool.connect()).expires_at - now for _ in range(100)]
    assert 0.8 * FIVE_MINUTES <= min(ages) < 0.9 * FIVE_MINUTES < max(ages) <= FIVE_MINUTES + 20


async def test_without_a_maximum_age_a_connection_never_expires() -> None:
    pool = FakeService().pool
    pool.destination = replace(pool.destination, max_age_seconds=0)
    connection = await connected(pool)
    pool.give_back(connection)
    assert connection.expires_at == float("inf")
    assert pool.take_idle() is connection


@on_uvloop
async def test_a_connection_returned_while_the_loop_was_busy_is_not_a_timeout() -> None:
    pool = FakeService(timeout_seconds=0.05).pool
    lent = await connected(pool)
    waiting = asyncio.create_task(pool.connect())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, pool.give_back, lent)  # as an answer's last byte does
        await asyncio.sleep(0)
        theirs.send(b"!")
        time.sleep(0.2)  # the loop is busy, far beyond the time-out
        assert await waiting is lent
        loop.remove_reader(ours)
