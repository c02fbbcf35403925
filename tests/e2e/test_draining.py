"""SIGTERM under load: readiness fails first, then accepting stops, and what runs is answered."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import ask, plain_settings
from tests.e2e.test_workers import fetch, until
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer

IN_FLIGHT = 200
TAKES_SECONDS = 2.0
DELAY_SECONDS = 1.0
REQUEST = b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


class SlowUpstream:
    """Answers each request after two seconds; knows how many it has."""

    def __init__(self) -> None:
        self.received = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.received += 1
                await asyncio.sleep(TAKES_SECONDS)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def call(port: int) -> tuple[bytes, bool, bytes]:
    """Return the status line, whether the answer is the connection's last, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.read()
    writer.close()
    return head.split(b"\r\n")[0], b"\r\nconnection: close" in head.lower(), body


def settings_of(redis: RedisServer, upstream: str, workers: int) -> dict[str, object]:
    drain = {"delay": f"{DELAY_SECONDS}s", "timeout": "30s"}
    return plain_settings(redis, upstream) | {"workers": workers, "drain": drain}


@pytest.mark.parametrize("workers", [1, 2])
async def test_two_hundred_requests_in_flight_are_all_answered(
    workers: int, redis: RedisServer, tmp_path: Path
) -> None:
    """Readiness fails while connections are still accepted; each answer is the last; status 0."""
    upstream = SlowUpstream()
    async with upstream.running() as url:
        proxy = ProxyProcess(tmp_path, settings_of(redis, url, workers))
        await asyncio.to_thread(proxy.start)
        calls = [asyncio.create_task(call(proxy.port)) for _ in range(IN_FLIGHT)]
        while upstream.received < IN_FLIGHT:
            await asyncio.sleep(0.01)
        proxy.signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: fetch(proxy, "/readyz")[0] == 503)
        late = asyncio.create_task(call(proxy.port))  # not ready, and accepting
        answers = Counter(await asyncio.gather(*calls, late))
        assert await asyncio.to_thread(proxy.wait, 30) == 0
    assert answers == {(b"HTTP/1.1 200 OK", True, b"done"): IN_FLIGHT + 1}


def test_a_kept_connection_has_one_more_request_answered_and_is_then_closed(
    redis: RedisServer, tmp_path: Path
) -> None:
    """While readiness fails, and also once nothing is accepted any more."""
    settings = settings_of(redis, "http://127.0.0.1:9", 2)
    proxy = ProxyProcess(tmp_path, settings)
    proxy.start()
    early, late, idle = (RawClient(proxy.connect()) for _ in range(3))
    for client in (early, late, idle):
        assert ask(client, target=b"/nowhere").values("connection") == []
    proxy.signal(signal.SIGTERM)
    until(lambda: '"draining' in fetch(proxy, "/readyz")[1])
    assert ask(early, target=b"/nowhere").values("connection") == ["close"]
    assert early.is_closed()
    until(lambda: not accepts(proxy))
    assert ask(late, target=b"/nowhere").values("connection") == ["close"]
    assert idle.is_closed()
    assert proxy.wait(30) == 0
    for client in (early, late, idle):
        client.close()


def accepts(proxy: ProxyProcess) -> bool:
    try:
        proxy.connect().close()
    except ConnectionError:
        return False
    time.sleep(0.02)
    return True
