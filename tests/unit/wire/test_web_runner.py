"""The limits of listeners run by aiohttp: a head in time, and a maximum of connections.

And it keeps to itself what it could not read, and of what it is made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.operations.listener import operations_runner
from sidecar.portal.runner import PortalRunner
from sidecar.wire import web_runner as module
from sidecar.wire.web_runner import BoundedRunner

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SECONDS = 20.0
SECRET = "sct_secret"
UNREADABLE = {
    "a control character in a value": f"GET / HTTP/1.1\r\naccess_token: {SECRET}\x01\r\n\r\n",
    "a space in a name": f"GET / HTTP/1.1\r\nAuthorization : Bearer {SECRET}\r\n\r\n",
    "a value without end": f"GET / HTTP/1.1\r\naccess_token: {SECRET * 20_000}\r\n\r\n",
    "a control character in a query": f"GET /?access_token={SECRET}\x7f HTTP/1.1\r\n\r\n",
    "no method": f"{SECRET}\r\n\r\n",
}


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

    async def fail(_: web.Request) -> web.Response:
        raise ValueError(SECRET)

    async def fail_midway(asked: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(asked)
        await response.write(b"begun")
        raise ValueError(SECRET)

    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)
    app = web.Application()
    app.router.add_get("/", answer)
    app.router.add_get("/fails", fail)
    app.router.add_get("/fails/midway", fail_midway)
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
async def test_a_client_that_sends_no_whole_head_in_time_is_disconnected(
    door: Door, sent: bytes
) -> None:
    reader, _ = await door.connect(sent)
    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""


async def test_a_client_that_dribbles_its_head_is_disconnected_too(door: Door) -> None:
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


async def test_a_client_that_has_sent_a_head_may_stay(door: Door) -> None:
    reader, writer = await door.connect(REQUEST)
    for _ in range(2):
        async with asyncio.timeout(SECONDS):
            assert await reader.readuntil(b"here")
        await asyncio.sleep(0.3)
        writer.write(REQUEST)
    async with asyncio.timeout(SECONDS):
        assert await reader.readuntil(b"here")


async def test_connections_above_the_limit_are_closed_and_the_others_served(
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


@pytest.mark.parametrize("sent", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_request_that_cannot_be_parsed_is_refused_and_never_quoted(
    door: Door, sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answer = await ask(door, sent.encode())
    assert (answer.status, answer.code) == (400, "bad_request")
    assert SECRET not in answer.text + caplog.text
    assert "can't be parsed" in caplog.text
    assert "Traceback" not in caplog.text


async def test_the_log_names_a_failures_kind_and_place_alone(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(door, b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "ValueError at test_web_runner.py:" in caplog.text
    assert SECRET not in answer.text + caplog.text


async def test_a_response_that_fails_midway_is_cut_and_not_followed_by_another(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    reader, _ = await door.connect(b"GET /fails/midway HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(SECONDS):
        text = (await reader.read()).decode()
    assert text.count("HTTP/1.") == 1
    assert text.endswith("begun\r\n")  # and no last chunk
    assert SECRET not in text + caplog.text


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def code(self) -> Any:
        head, _, body = self.text.partition("\r\n\r\n")
        assert "application/problem+json" in head
        return json.loads(body)["code"]


async def ask(door: Door, sent: bytes) -> Answer:
    """Send bytes and read to the end; no response may name the software of the listener."""
    reader, _ = await door.connect(sent)
    async with asyncio.timeout(SECONDS):
        text = (await reader.read()).decode()
    assert "aiohttp" not in text
    return Answer(int(text.split()[1]), text)
