"""B4 and B5: the duration of an answer does not reveal whether an account exists."""

from __future__ import annotations

import asyncio
import base64
import math
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.witness import running_proxies
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.soak.conftest import name_of, settings_for

SAMPLES = 200
AT_ONCE = 50
LEAST_P = 0.01  # one run in a hundred fails by chance; a leak of a millisecond fails every run

pytestmark = pytest.mark.soak


def p_of_same(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the probability that the samples differ this much by chance (Mann-Whitney U)."""
    below = sum((a < b) + (a == b) / 2 for a in one for b in other)
    n, m = len(one), len(other)
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    return math.erfc(abs(below - n * m / 2) / deviation / math.sqrt(2))


async def refusal_seconds(proxy: ProxyProcess, name: str, password: str) -> float:
    """Return how many seconds the refusal took."""
    pair = base64.b64encode(f"{name}:{password}".encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        began = time.perf_counter()
        writer.write(
            b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Authorization: Basic %b\r\n\r\n" % pair
        )
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 401 "), answer
        return time.perf_counter() - began
    finally:
        writer.close()


async def measure(proxy: ProxyProcess, at_once: int) -> tuple[list[float], list[float]]:
    """Return how long wrong passwords and unknown accounts took, tried alternately."""
    wrong, unknown = list[float](), list[float]()
    asked = [(name_of(0), wrong), (name_of(1)[:-1] + "x", unknown)] * SAMPLES
    for start in range(0, len(asked), at_once):
        batch = asked[start : start + at_once]
        random.shuffle(batch)  # the first of a pair waits least
        taken = await asyncio.gather(
            *(
                refusal_seconds(proxy, name, f"guess {start} {place}")
                for place, (name, _) in enumerate(batch)
            )
        )
        for seconds, (_, kept) in zip(taken, batch, strict=True):
            kept.append(seconds)
    return wrong, unknown


@pytest.mark.timeout(600)
@pytest.mark.parametrize("at_once", [1, AT_ONCE])
def test_an_unknown_account_takes_as_long_as_a_wrong_password(
    at_once: int, redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    settings = settings_for(redis, upstream, tmp_path)
    settings["throttle"] = {"failures": 0}
    with running_proxies(tmp_path, settings, 1) as (proxy,):
        asyncio.run(refusal_seconds(proxy, "warm", "up"))
        wrong, unknown = asyncio.run(measure(proxy, at_once))
    p = p_of_same(wrong, unknown)
    medians = [statistics.median(each) * 1000 for each in (wrong, unknown)]
    print(
        f"\n{at_once} at once: wrong {medians[0]:.1f} ms, unknown {medians[1]:.1f} ms, p = {p:.3f}"
    )
    assert len(wrong) == len(unknown) == SAMPLES
    assert p > LEAST_P


def test_the_measure_tells_a_millisecond() -> None:
    """The control: the test does find a leak."""
    same = [[random.gauss(30, 3) for _ in range(SAMPLES)] for _ in range(2)]
    assert p_of_same(*same) > 1e-4
    assert p_of_same(same[0], [value + 1.5 for value in same[1]]) < LEAST_P
