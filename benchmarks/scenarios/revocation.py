"""How soon a revoked token is refused by two sidecars that have both just let it pass, under load.

The clock runs from the moment of the revocation until the later of the two has answered 401; each
is asked over and over on a kept-alive connection. ``DEL`` and ``FLUSHDB`` count from before they
are sent, the command from its end, which is when it has promised, and expiry from the time in the
record.
"""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import tokens, wrk
from benchmarks.figures import percentile
from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.peers.sidecar import revoke
from benchmarks.processes import BenchError
from benchmarks.scenarios import Plan, Scenario
from benchmarks.stage import Stage
from benchmarks.upstream import BASE

GIVE_UP_SECONDS = 120.0
BACKGROUND_CONNECTIONS = 16
PAUSE_MS = 20.0
EXPIRY_SECONDS = 0.3
SLOW_SHARE = 10
"""The command takes a process each time, so it gets a tenth of the trials."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to revoke: how long the token is made to live, and what ends it.

    ``revoke`` returns when (Unix seconds) the token should have been refused.
    """

    revoke: Callable[[str], float]
    lifetime_seconds: float = tokens.LIFETIME_SECONDS
    share: int = 1


def prepare(plan: Plan) -> None:
    """Add two sidecars on one Redis, and each way to revoke as a case."""
    pair = [running for _ in range(2) if (running := plan.start("sidecar"))]
    if len(pair) < 2:
        return
    for label, way in _ways(plan.stage, pair[0]).items():
        plan.add(label, _case(plan.stage, pair, way), warms_up=False)


def _ways(stage: Stage, running: Running) -> dict[str, Way]:
    def delete(token: str) -> float:
        start = time.time()
        stage.redis.ask(b"DEL", tokens.sidecar_key(token))
        return start

    def flush(_token: str) -> float:
        start = time.time()
        stage.redis.ask(b"FLUSHDB")
        stage.know([stage.holder.token])
        return start

    def expire(token: str) -> float:
        return stage.record(token).expires_at or 0.0

    def command(token: str) -> float:
        revoke(running, stage.record(token).id)
        return time.time()

    return {
        "DEL in Redis": Way(delete),
        "FLUSHDB in Redis": Way(flush),
        "expiry": Way(expire, lifetime_seconds=EXPIRY_SECONDS),
        "sidecar token revoke": Way(command, share=SLOW_SHARE),
    }


def _case(stage: Stage, pair: list[Running], way: Way) -> Callable[[int], Sample]:
    def run(_seconds: int) -> Sample:
        given = tokens.mint(max(1, stage.settings.trials // way.share))
        with _background(stage, pair):
            latencies_ms = [_measure(stage, pair, way, token) * 1e3 for token in given]
        return {
            "trials": len(latencies_ms),
            "latency_p50_ms": percentile(latencies_ms, 0.5),
            "latency_p99_ms": percentile(latencies_ms, 0.99),
            "latency_max_ms": max(latencies_ms),
        }

    return run


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


def _measure(stage: Stage, pair: list[Running], way: Way, token: str) -> float:
    """Return the seconds from the revocation to the later of the two first refusals."""
    stage.know([token], lifetime_seconds=way.lifetime_seconds)
    refused_at: list[float] = []
    passed = threading.Barrier(len(pair) + 1)
    threads = [
        threading.Thread(target=_watch, args=(running.port, token, passed, refused_at))
        for running in pair
    ]
    for thread in threads:
        thread.start()
    try:
        passed.wait(GIVE_UP_SECONDS)
    except threading.BrokenBarrierError:
        raise BenchError("a connection broke before the token was revoked") from None
    moment = way.revoke(token)
    for thread in threads:
        thread.join()
    if len(refused_at) < len(pair):
        raise BenchError("a token did not pass before, or did for minutes after, or was cut off")
    return max(0.0, max(refused_at) - moment)


def _watch(port: int, token: str, passed: threading.Barrier, refused_at: list[float]) -> None:
    """Call until refused; the barrier is passed after the first call that was let through."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    end = time.monotonic() + GIVE_UP_SECONDS
    try:
        has_passed = (status := _ask(connection, token)) == 200
        passed.wait(GIVE_UP_SECONDS)
        while status == 200 and time.monotonic() < end:
            status = _ask(connection, token)
        if has_passed and status == 401:
            refused_at.append(time.time())
    except (OSError, http.client.HTTPException, threading.BrokenBarrierError):
        passed.abort()
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, token: str) -> int:
    connection.request("GET", f"{BASE}/bench", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


SCENARIO = Scenario(
    "revocation",
    "until the later of two processes refuses a revoked token, under load",
    prepare,
    columns=("trials", "latency_p50_ms", "latency_p99_ms", "latency_max_ms"),
    compared="latency_p99_ms",
    subjects=(),
    is_run_once=True,
)
