"""B8: a hundred wrong passwords a second from fifty addresses, and what honest tokens notice."""

from __future__ import annotations

import asyncio
import base64
import re
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.witness import Token, make_token, put, running_proxies
from tests.proxy_process import ROOT, ProxyProcess
from tests.redis_servers import RedisServer
from tests.soak.conftest import name_of, settings_for

ADDRESSES = 50
GUESSES_A_SECOND = 100
ROUND_SECONDS = 6
ROUNDS = 9
WARM_UP_SECONDS = 1
CONNECTIONS = 8
MOST_RATIO = 1.5
FAILURES, BAN_SECONDS = 10, 6

pytestmark = pytest.mark.soak


class Flood:
    """Guesses at so many accounts from so many addresses, each on a connection of its own.

    ``network`` tells one flood from another: nobody is banned from before.
    """

    def __init__(self, proxy: ProxyProcess, network: int) -> None:
        self._proxy = proxy
        self._network = network
        self.answers: list[tuple[float, str, int]] = []
        """When each was sent (seconds since the beginning), from where, and the status."""

    def run(self, is_over: threading.Event) -> None:
        asyncio.run(self._run(is_over))

    async def _run(self, is_over: threading.Event) -> None:
        began, tasks = time.monotonic(), set()
        for number in count():
            if is_over.is_set():
                break
            task = asyncio.create_task(self._guess(number, began))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0, began + number / GUESSES_A_SECOND - time.monotonic()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guess(self, number: int, began: float) -> None:
        client = f"198.18.{self._network}.{number % ADDRESSES}"
        account = name_of(self._network * ADDRESSES + number % ADDRESSES)
        pair = base64.b64encode(f"{account}:wrong {number}".encode())
        sent = time.monotonic() - began
        reader, writer = await asyncio.open_connection("127.0.0.1", self._proxy.port)
        try:
            writer.write(
                b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\n"
                b"Authorization: Basic %b\r\nConnection: close\r\n\r\n" % (client.encode(), pair)
            )
            status = int((await reader.read()).split(b" ", 2)[1])
            self.answers.append((sent, client, status))
        finally:
            writer.close()


@contextmanager
def flooding(flood: Flood) -> Iterator[None]:
    is_over = threading.Event()
    thread = threading.Thread(target=flood.run, args=(is_over,))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def p99_us(
    proxy: ProxyProcess, token: Token, pause_ms: float, seconds: int = ROUND_SECONDS
) -> tuple[float, int]:
    """Return the 99th percentile of honest calls in one round, and how many there were."""
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"),
            *("-s", str(ROOT / "benchmarks" / "wrk.lua"), "-H", f"access_token: {token.secret}"),
            *(f"http://127.0.0.1:{proxy.port}/v1/dynamic/listener/a1", "--"),
            f"pause_ms={pause_ms}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"bench: requests=(\d+) .* p99_us=(\d+) refused=0 ", done.stdout)
    assert found, done.stdout
    return float(found[2]), int(found[1])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pause_ms", [10.0, 0.0], ids=["steady", "as fast as it goes"])
def test_a_flood_of_wrong_passwords_leaves_honest_tokens_alone(
    pause_ms: float, redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    """Rounds in turn, so that a busy machine is as busy with the flood as without.

    Each flood meets a proxy that knows of no failures yet, which is when it costs most.
    """
    settings = settings_for(redis, upstream, tmp_path, accounts=ADDRESSES * ROUNDS)
    settings["throttle"] = {"failures": FAILURES, "window": "1m", "ban": "5m"}
    settings["drain"] = {"timeout": "1s"}  # guesses wait to be looked at; nobody waits for them
    settings["trusted_proxies"] = ["127.0.0.1/32"]
    token = make_token(name_of(0))
    put(redis, token)
    quiet, flooded, calls, statuses = [], [], 0, Counter[int]()
    for number in range(ROUNDS):
        directory = tmp_path / f"round-{number}"
        directory.mkdir()
        with running_proxies(directory, settings, 1) as (proxy,):
            p99_us(proxy, token, pause_ms, WARM_UP_SECONDS)
            quiet.append(p99_us(proxy, token, pause_ms)[0])
            flood = Flood(proxy, number)
            with flooding(flood):
                p99, made = p99_us(proxy, token, pause_ms)
            flooded.append(p99)
            calls += made
            statuses.update(status for _, _, status in flood.answers)
    ratio = statistics.median(flooded) / statistics.median(quiet)
    print(f"\np99 without {shown(quiet)}, with {shown(flooded)}: median ratio {ratio:.2f}")
    print(f"{calls} honest calls during the flood; guesses were answered {dict(statuses)}")
    assert set(statuses) <= {401, 429, 503}
    assert sum(statuses.values()) > GUESSES_A_SECOND * ROUND_SECONDS * ROUNDS / 2
    assert ratio < MOST_RATIO


def shown(microseconds: list[float]) -> str:
    return "/".join(f"{value / 1000:.2f}" for value in microseconds) + " ms"
