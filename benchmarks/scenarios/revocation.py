"""How soon a token deleted in Redis is refused by two sidecars that have just let it pass.

The clock starts before the DEL is sent, and stops when the later of the two has answered 401.
Each is asked over and over on a kept-alive connection.
"""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import tokens, wrk
from benchmarks.figures import percentile
from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.processes import BenchError
from benchmarks.scenarios import OURS, Plan, Scenario
from benchmarks.stage import Stage
from benchmarks.upstream import BASE

GIVE_UP_SECONDS = 120.0
BACKGROUND_CONNECTIONS = 16
PAUSE_MS = 20.0


def prepare(plan: Plan) -> None:
    """Add the one case: two sidecars on one Redis."""
    pair = [running for _ in range(2) if (running := plan.start("sidecar"))]
    if len(pair) == 2:
        plan.add(OURS, lambda _seconds: _measure(plan.stage, pair), warms_up=False)


def _measure(stage: Stage, pair: list[Running]) -> Sample:
    given = tokens.mint(stage.settings.trials)
    stage.know(given)
    with _background(stage, pair):
        latencies = [_revoke(stage, pair, token) * 1e3 for token in given]
    return {
        "trials": len(latencies),
        "latency_p50_ms": percentile(latencies, 0.5),
        "latency_p99_ms": percentile(latencies, 0.99),
        "latency_max_ms": max(latencies),
    }


@contextmanager
def _background(stage: Stage, pair: list[Running]) -> Iterator[None]:
    """Keep a steady load on both while the block runs."""
    load = wrk.Load(
        headers=(stage.holder.bearer,), connections=BACKGROUND_CONNECTIONS, pause_ms=PAUSE_MS
    )
    loads = [
        subprocess.Popen(
            wrk.command(load, port=running.port, seconds=3600, cores=stage.cores.around),
            stdout=subprocess.DEVNULL,
        )
        for running in pair
    ]
    try:
        yield
    finally:
        for process in loads:
            process.kill()
            process.wait()


def _revoke(stage: Stage, pair: list[Running], token: str) -> float:
    """Return the seconds from before the DEL to the later of the two first refusals."""
    refused_at: list[float] = []
    seen = threading.Barrier(len(pair) + 1)
    threads = [
        threading.Thread(target=_watch, args=(running.port, token, seen, refused_at))
        for running in pair
    ]
    for thread in threads:
        thread.start()
    seen.wait(GIVE_UP_SECONDS)
    start = time.perf_counter()
    stage.redis.send([(b"DEL", tokens.sidecar_key(token))])
    for thread in threads:
        thread.join()
    if len(refused_at) < len(pair):
        raise BenchError("a token did not pass before it was revoked, or did for minutes after")
    return max(refused_at) - start


def _watch(port: int, token: str, seen: threading.Barrier, refused_at: list[float]) -> None:
    """Call until refused; the barrier is passed after the first call that was let through."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    end = time.monotonic() + GIVE_UP_SECONDS
    status = _ask(connection, token)
    passed = status == 200
    seen.wait(GIVE_UP_SECONDS)
    while status == 200 and time.monotonic() < end:
        status = _ask(connection, token)
    if passed and status == 401:
        refused_at.append(time.perf_counter())
    connection.close()


def _ask(connection: http.client.HTTPConnection, token: str) -> int:
    connection.request("GET", f"{BASE}/bench", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


SCENARIO = Scenario(
    "revocation",
    "from DEL in Redis to 401 by the later of two processes, under load",
    prepare,
    columns=("trials", "latency_p50_ms", "latency_p99_ms", "latency_max_ms"),
    compared="latency_p99_ms",
    is_run_once=True,
)
