"""A question that repeats what its caller sent twice is read; nothing else is forgiven."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.operations.listener import operations_runner

LINE = b"GET /auth HTTP/1.1\r\n"
HOST = (b"Host", b"a")
END = b"\r\n\r\n"

Fields = tuple[tuple[bytes, bytes], ...]


class Questions:
    """A connection to an operations listener that answers with the fields that it read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes, size: int = 0) -> tuple[int, Fields]:
        """Send ``data`` in pieces of ``size``; return the status, and the fields as read."""
        step = size or len(data)
        for start in range(0, len(data), step):
            self.writer.write(data[start : start + step])
            await asyncio.sleep(0)
        head = await self.reader.readuntil(END)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        status = int(head[9:12])
        if status != 200:
            return status, ()
        pairs = json.loads(body)
        return status, tuple((name.encode(), value.encode()) for name, value in pairs)


async def _echo(request: web.Request) -> web.Response:
    raw = [(name.decode(), value.decode()) for name, value in request.raw_headers]
    assert [(name, value) for name, value in request.headers.items()] == raw
    await request.read()
    return web.json_response(raw)


@pytest.fixture
async def questions(tmp_path: Path) -> AsyncIterator[Questions]:
    app = web.Application()
    app.router.add_route("*", "/auth", _echo)
    runner = operations_runner(app)
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "s").start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    yield Questions(reader, writer)
    writer.close()
    await runner.cleanup()


def question(*fields: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    return LINE + b"".join(b"%b: %b\r\n" % pair for pair in fields) + b"\r\n" + body


TWICE = (b"User-Agent", b"a"), (b"user-agent", b"b")
REPEATED: dict[str, Fields] = {
    "User-Agent": (HOST, *TWICE),
    "Content-Type, three times": (HOST, *((b"Content-Type", b"x/y"),) * 3),
    "ETag beside Server": (
        HOST,
        (b"ETag", b"1"),
        (b"Server", b"s"),
        (b"etag", b"2"),
        (b"Server", b""),
    ),
    "Max-Forwards before Host": ((b"Max-Forwards", b"1"), (b"Max-Forwards", b"2"), HOST),
    "Content-Location and -Range": (
        HOST,
        *((b"Content-Location", b"/a"), (b"CONTENT-LOCATION", b"/b")),
        *((b"Content-Range", b"x"), (b"Content-Range", b"y")),
    ),
    "an empty body": (HOST, *TWICE, (b"Content-Length", b"0")),
}


@pytest.mark.parametrize("size", [0, 1, 11])
@pytest.mark.parametrize("name", REPEATED)
async def test_a_repeated_field_is_read_as_it_came(
    name: str, size: int, questions: Questions
) -> None:
    fields = REPEATED[name]
    for _ in range(3):  # a front keeps its connection
        assert await questions.ask(question(*fields), size) == (200, fields)
        assert await questions.ask(question(HOST), size) == (200, (HOST,))


@pytest.mark.parametrize(
    "data",
    [
        question(HOST, HOST, *TWICE),
        question(HOST, *TWICE, HOST),
        question(*TWICE),
        question(HOST, *TWICE, (b"Content-Length", b"0"), (b"Content-Length", b"0")),
        question(HOST, *TWICE, (b"X", b"a\nb")),
        question(HOST, *TWICE, (b"X", b"a"), (b" folded", b"b")),
        question(HOST, *TWICE, (b"Content-Length", b"1"), body=b"x"),
        question(HOST, *TWICE) + question(HOST),
        question(HOST, *TWICE, *((b"X", b"a"),) * 600),
        question(HOST, *TWICE, *((b"X", b"a" * 60_000),) * 6),
    ],
)
async def test_nothing_else_is_forgiven_beside_it(data: bytes, questions: Questions) -> None:
    assert (await questions.ask(data))[0] == 400


async def test_a_question_with_a_body_is_read_as_ever(questions: Questions) -> None:
    fields = HOST, (b"Content-Length", b"5")
    for _ in range(2):
        assert await questions.ask(question(*fields, body=b"abcde"), 3) == (200, fields)
