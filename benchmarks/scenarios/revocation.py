"""How soon two sidecars under load refuse a revoked token that both have just accepted.

The clock starts at the revocation and stops when the slower of the two has changed from 200 to 401,
perhaps by way of 503. Each is asked over and over on a kept-alive connection. For ``DEL`` and
``FLUSHDB`` the clock starts before they are sent; for the command and the API at their end, which
is when they promise the effect; for expiry at the time in the record.

Each way takes at most ``MOST_SECONDS``: on a busy machine there may be fewer trials than requested,
and the table says how many. A token that was refused before its revocation does not count.
"""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from benchmarks import tokens, wrk
from benchmarks.figures import percentile
from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.peers.sidecar import revoke_by_api
from benchmarks.processes import BenchError
from benchmarks.scenarios import Plan, Scenario
from benchmarks.scenarios.forked_command import ForkedCommand
from benchmarks.stage import Stage
from benchmarks.upstream import BASE
from sidecar.core.model import TokenRecord

MOST_SECONDS = 40.0
GIVE_UP_SECONDS = 20.0
BACKGROUND_CONNECTIONS = 16
PAUSE_MS = 20.0
ASKING_PAUSE_SECONDS = 0.0005
EXPIRY_SECONDS = 0.5
EXPIRING_AT_ONCE = 20
BETWEEN_EXPIRIES_SECONDS = 0.025
MOST_VOID_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Way:
    """A way to revoke: the lifetime of the token, and what ends it.

    ``revoke`` returns from when on (Unix seconds) the token must be refused. If a way mostly waits,
    several trials run ``at_once``, started ``BETWEEN_EXPIRIES_SECONDS`` apart, and the token is
    used again only that long before its end, as each request is work, too. ``means`` is entered for
    the duration of the trials.
    """

    revoke: Callable[[TokenRecord], float]
    lifetime_seconds: float = tokens.LIFETIME_SECONDS
    at_once: int = 1
    means: AbstractContextManager[object] = field(default_factory=nullcontext)

    def rest(self, record: TokenRecord) -> float:
        """Return when (Unix seconds) to start using the token again."""
        if self.at_once == 1 or record.expires_at is None:
            return 0.0
        return record.expires_at - BETWEEN_EXPIRIES_SECONDS


def prepare(plan: Plan) -> None:
    """Add two sidecars on one Redis, and each way to revoke as a case."""
    pair = [running for _ in range(2) if (running := plan.start("sidecar", has_portal=True))]
    if len(pair) < 2:
        return
    for label, way in _ways(plan.stage, pair[0]).items():
        plan.add(label, _case(plan.stage, pair, way), warms_up=False)


def _ways(stage: Stage, running: Running) -> dict[str, Way]:
    assert running.configuration is not None
    forked = ForkedCommand(running.configuration)

    def delete(record: TokenRecord) -> float:
        start = time.time()
        stage.redis.ask(b"DEL", tokens.record_key(record.digest))
        return start

    def flush(_record: TokenRecord) -> float:
        start = time.time()
        stage.redis.ask(b"FLUSHDB")
        stage.know([stage.holder.token])
        return start

    def expire(record: TokenRecord) -> float:
        return record.expires_at or 0.0

    def api(record: TokenRecord) -> float:
        revoke_by_api(running, stage.holder, record.id)
        return time.time()

    def command(record: TokenRecord) -> float:
        forked.run("token", "revoke", record.id)
        return time.time()

    return {
        "DEL in Redis": Way(delete),
        "FLUSHDB in Redis": Way(flush),
        "expiry": Way(expire, lifetime_seconds=EXPIRY_SECONDS, at_once=EXPIRING_AT_ONCE),
        "token API": Way(api),
        "sidecar token revoke": Way(command, means=forked),
    }


def _case(stage: Stage, pair: list[Running], way: Way) -> Callable[[int], Sample]:
    def run(_seconds: int) -> Sample:
        with _background(stage, pair), way.means:
            latencies_ms = _trials(stage, pair, way, stage.settings.trials)
        return {
            "trials": len(latencies_ms),
            "latency_p50_ms": percentile(latencies_ms, 0.5),
            "latency_p99_ms": percentile(latencies_ms, 0.99),
            "latency_max_ms": max(latencies_ms),
        }

    return run


def _trials(stage: Stage, pair: list[Running], way: Way, wanted: int) -> list[float]:
    """Return the milliseconds of as many trials as requested, or as time allows."""
    latencies_ms: list[float] = []
    void, end = 0, time.monotonic() + MOST_SECONDS
    while len(latencies_ms) < wanted and time.monotonic() < end:
        given = tokens.mint(min(way.at_once, wanted - len(latencies_ms)))
        measured = [seconds * 1e3 for seconds in _measure(stage, pair, way, given)]
        latencies_ms += measured
        void += len(given) - len(measured)
    if not latencies_ms or void > MOST_VOID_SHARE * (void + len(latencies_ms)):
        raise BenchError(f"{void} tokens were refused before they were revoked")
    return latencies_ms


@contextmanager
def _background(stage: Stage, pair: list[Running]) -> Iterator[None]:
    """Keep a steady load on both for the duration of the block."""
    load = wrk.Load(
        headers=(stage.holder.bearer,), connections=BACKGROUND_CONNECTIONS, pause_ms=PAUSE_MS
    )
    loads = [
        subprocess.Popen(
            wrk.command(load, url=running.url, seconds=3600, cores=stage.cores.around),
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


@dataclass(slots=True)
class Watch:
    """Calls one sidecar with one token until that is refused, in a thread of its own.

    After its first answer each watch waits at the barrier ``passed`` for the others and for the
    revoker; then it rests until a given time (Unix seconds).
    """

    port: int
    token: str
    passed: threading.Barrier
    rests_until: float = 0.0
    has_passed: bool = False
    refused_at: float = 0.0
    is_refused: bool = False

    def start(self) -> threading.Thread:
        """Start calling."""
        thread = threading.Thread(target=self._run)
        thread.start()
        return thread

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            self._call_until_refused(connection)
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError):
            self.passed.abort()
        finally:
            connection.close()

    def _call_until_refused(self, connection: http.client.HTTPConnection) -> None:
        status = _ask(connection, self.token)
        self.has_passed = status == 200
        self.passed.wait(GIVE_UP_SECONDS)
        time.sleep(max(0.0, self.rests_until - time.time()))
        end = time.monotonic() + GIVE_UP_SECONDS
        while status != 401 and time.monotonic() < end:
            time.sleep(ASKING_PAUSE_SECONDS)
            status = _ask(connection, self.token)
            self.refused_at = 0.0 if status == 200 else self.refused_at or time.time()
        self.is_refused = status == 401


def _measure(stage: Stage, pair: list[Running], way: Way, given: Sequence[str]) -> Iterator[float]:
    """Yield, for each token that both accepted at first, the seconds until both refused it."""
    records = {}
    for number, token in enumerate(given):
        lifetime_seconds = way.lifetime_seconds + number * BETWEEN_EXPIRIES_SECONDS
        stage.know([token], lifetime_seconds=lifetime_seconds)
        records[token] = stage.record(token)
    passed = threading.Barrier(len(pair) * len(given) + 1)
    watches = {
        token: [Watch(running.port, token, passed, way.rest(record)) for running in pair]
        for token, record in records.items()
    }
    threads = [watch.start() for watching in watches.values() for watch in watching]
    moments: dict[str, float] = {}
    try:
        passed.wait(GIVE_UP_SECONDS)
        moments = {token: way.revoke(record) for token, record in records.items()}
    except threading.BrokenBarrierError:
        raise BenchError("a connection broke, or an answer took too long") from None
    finally:
        for thread in threads:
            thread.join()
    for token, watching in watches.items():
        if not all(watch.is_refused for watch in watching):
            raise BenchError(f"a token passed for {GIVE_UP_SECONDS:.0f} s after its revocation")
        if all(watch.has_passed for watch in watching):
            yield max(0.0, max(watch.refused_at for watch in watching) - moments[token])


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
