"""A link for commands: opened once for all who come at once, and not for one of them alone."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.store.link_channel import LinkChannel
from sidecar.store.redis_link import RedisLink
from tests.unit.store.test_redis_link import Wire


class Opener:
    """Opens a link when told to, and counts how often it was asked for one."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.fault: Exception | None = None
        self.links: list[RedisLink] = []
        self.begun = 0

    async def __call__(self) -> RedisLink:
        self.begun += 1
        await self.may_end.wait()
        if self.fault is not None:
            raise self.fault
        self.links.append(RedisLink())
        self.links[-1].connection_made(Wire())
        return self.links[-1]


@pytest.fixture
async def opener() -> Opener:
    return Opener()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def start(channel: LinkChannel) -> asyncio.Task[list[object]]:
    task = asyncio.create_task(channel.exchange([("PING",)]))
    await settle()
    return task


async def test_an_opening_goes_on_though_who_began_it_has_given_up(opener: Opener) -> None:
    channel = LinkChannel(opener)
    impatient = await start(channel)
    impatient.cancel()
    await settle()
    patient = await start(channel)
    opener.may_end.set()
    await settle()
    opener.links[0].data_received(b"+PONG\r\n")
    assert (await patient, opener.begun) == ([b"PONG"], 1)
    await channel.close()


async def test_an_opening_that_fails_is_told_to_all_who_wait_and_the_next_one_tries_again(
    opener: Opener,
) -> None:
    channel = LinkChannel(opener)
    opener.fault = ConnectionRefusedError()
    tasks = [await start(channel), await start(channel)]
    opener.may_end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionRefusedError] * 2
    opener.fault = None
    again = await start(channel)
    opener.links[0].data_received(b"+PONG\r\n")
    assert (await again, opener.begun) == ([b"PONG"], 2)


async def test_closing_ends_an_opening(opener: Opener) -> None:
    channel = LinkChannel(opener)
    task = await start(channel)
    await channel.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert opener.links == []
