"""What a caller gets of answers that are not HTTP/1.1 to the letter, and what they never bring."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.in_process import OK, Peer, Proxy, answering, on_uvloop, request, running_proxy

DATE = re.compile(rb"(?i)\r\nDate: (\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)\r\n")
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


async def ask(proxy: Proxy, data: bytes | None = None, *, has_body: bool = True) -> bytes:
    """Return the answer to one request of a new caller, as it comes."""
    caller = await proxy.caller()
    await caller.send(data or request())
    return b"".join(await caller.response(has_body=has_body))


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 204 None\r\n\r\n",
        b"HTTP/1.1 304 Same\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
    ],
)
@on_uvloop
async def test_an_answer_without_a_date_gets_one(answer: bytes) -> None:
    async with running_proxy(answering(answer)) as proxy:
        caller = await proxy.caller()
        for _ in range(2):  # the second head comes from the memory
            await caller.send(request())
            got = await caller.until(b"\r\n\r\n")
            while got.startswith(b"HTTP/1.1 103"):
                got = await caller.until(b"\r\n\r\n")
            assert len(DATE.findall(got)) == 1
            await caller.exactly(
                len(answer.partition(b"\r\n\r\n")[2]) if b"103" not in answer else 0
            )


@pytest.mark.parametrize("name", [b"Date", b"date", b"DATE", b"Date "])
@on_uvloop
async def test_the_services_own_date_stays(name: bytes) -> None:
    date = b"Sun, 06 Nov 1994 08:49:37 GMT"
    answer = b"HTTP/1.1 200 OK\r\n" + name + b": " + date + b"\r\nContent-Length: 0\r\n\r\n"
    async with running_proxy(answering(answer)) as proxy:
        assert DATE.findall(await ask(proxy)) == [date]


LATE: dict[str, tuple[str, bytes]] = {
    "204 with a length": ("GET", b"HTTP/1.1 204 N\r\nContent-Length: 6\r\n\r\n"),
    "204 in chunks": ("GET", b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "304 with a length": ("GET", b"HTTP/1.1 304 S\r\nContent-Length: 6\r\n\r\n"),
    "HEAD with a length": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
    "HEAD in chunks": ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "HEAD of an error": ("HEAD", b"HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\n"),
}


@pytest.mark.parametrize("name", LATE)
@on_uvloop
async def test_a_body_that_comes_late_is_not_the_next_callers_answer(name: str) -> None:
    method, answer = LATE[name]

    async def send_late(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(answer)
        await asyncio.sleep(0.02)
        await peer.send(FORGED)
        await peer.rest()

    async with running_proxy(send_late, answering(OK)) as proxy:
        await ask(proxy, request(method), has_body=False)
        for _ in range(3):
            assert (await ask(proxy)).endswith(b"ok")
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "answer", [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
@on_uvloop
async def test_bytes_that_come_while_a_connection_is_idle_close_it(answer: bytes) -> None:
    async def send_more(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.send(answer)
        await asyncio.sleep(0.02)
        await peer.send(FORGED)
        await peer.rest()

    async with running_proxy(send_more, answering(OK)) as proxy:
        assert (await ask(proxy)).rstrip(b"\r\n0").endswith(b"ok")
        await proxy.settle(lambda: "open=0" in repr(proxy.pool))
        assert (await ask(proxy)).endswith(b"ok")


@pytest.mark.parametrize(
    ("method", "answer", "is_reused"),
    [
        ("GET", b"HTTP/1.1 204 N\r\n\r\n", True),
        ("GET", b"HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n", True),
        ("GET", b"HTTP/1.1 204 N\r\nContent-Length: 6\r\n\r\n", False),
        ("GET", b"HTTP/1.1 304 S\r\n\r\n", True),
        ("GET", b"HTTP/1.1 304 S\r\nContent-Length: 6\r\n\r\n", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", True),
        (
            "GET",
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\n\r\n",
            False,
        ),
        ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
@on_uvloop
async def test_which_connections_serve_again(method: str, answer: bytes, is_reused: bool) -> None:
    async with running_proxy(answering(answer)) as proxy:
        await ask(proxy, request(method), has_body=b"chunked" in answer)
        if is_reused:
            await proxy.settle(lambda: proxy.pool.idle_count == 1)
        await ask(proxy, request(method), has_body=b"chunked" in answer)
        assert len(proxy.upstream.peers) == (1 if is_reused else 2)
