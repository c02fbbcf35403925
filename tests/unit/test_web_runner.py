"""What aiohttp serves has bounds: a head in time, and no more connections than there may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from sidecar import web_runner as module
from sidecar.operations.app import operations_runner
from sidecar.portal.runner import PortalRunner
from sidecar.web_runner import BoundedRunner

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SECONDS = 20.0


class Door:
    """A listener with one page."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, sent: bytes = b"") -> Streams:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer


@pytest.fixture(params=[BoundedRunner, PortalRunner, operations_runner])
async def door(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Door]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)
    app = web.Application()
    app.router.add_get("/", answer)
    make: Callable[[web.Application], web.AppRunner] = request.param
    runner = make(app)
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "s").start()
    door = Door(tmp_path / "s")
    yield door
    for writer in door.writers:
        writer.close()
    await runner.cleanup()


@pytest.mark.parametrize("sent", [b"", b"G", REQUEST[:-2]], ids=["nothing", "a byte", "half"])
async def test_who_sends_no_whole_head_in_time_is_let_go(door: Door, sent: bytes) -> None:
    reader, _ = await door.connect(sent)
    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""


async def test_who_dribbles_is_let_go_as_well(door: Door) -> None:
    reader, writer = await door.connect(REQUEST[:-2])
    async with asyncio.timeout(SECONDS):
        while not reader.at_eof():
            writer.write(b"X-More: 1\r\n")
            try:
                await asyncio.wait_for(reader.read(1), 0.02)
            except TimeoutError:
                continue
            except ConnectionError:
                break


async def test_who_has_sent_one_stays_for_more(door: Door) -> None:
    reader, writer = await door.connect(REQUEST)
    for _ in range(2):
        async with asyncio.timeout(SECONDS):
            assert await reader.readuntil(b"here")
        await asyncio.sleep(0.3)
        writer.write(REQUEST)
    async with asyncio.timeout(SECONDS):
        assert await reader.readuntil(b"here")


async def test_too_many_are_turned_away_and_the_rest_is_served(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    held = [await door.connect(REQUEST) for _ in range(2)]
    async with asyncio.timeout(SECONDS):
        for reader, _ in held:
            assert await reader.readuntil(b"here")
        assert not await is_served(door)
        held[0][1].close()
        while not await is_served(door):
            await asyncio.sleep(0.01)


async def is_served(door: Door) -> bool:
    reader, writer = await door.connect(REQUEST)
    try:
        return bool(await reader.read(8))
    except ConnectionError:
        return False
    finally:
        writer.close()
