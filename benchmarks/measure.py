"""What is measured about a peer while it is under load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks import wrk
from benchmarks.peers import Running
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.redis_server import RedisServer

Sample = dict[str, float]
"""What one case measured in one round, by metric (see ``METRICS``)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How to print a figure."""

    title: str
    decimals: int


METRICS = {
    "cpu_us": Metric("CPU µs/request", 1),
    "rate": Metric("requests/s", 0),
    "p50_ms": Metric("p50 ms", 2),
    "p99_ms": Metric("p99 ms", 2),
    "p999_ms": Metric("p99.9 ms", 2),
    "late_ms": Metric("load late p99 ms", 2),
    "memory_mib": Metric("memory MiB", 1),
    "busy_percent": Metric("core busy %", 0),
    "redis_us": Metric("Redis µs/request", 1),
    "lookups": Metric("look-ups/request", 3),
    "cpu_ms_per_gib": Metric("CPU ms/GiB", 0),
    "mib_per_second": Metric("MiB/s", 0),
    "growth_mib": Metric("growth MiB", 1),
    "kib_per_connection": Metric("KiB/connection", 2),
    "redis_bytes_per_token": Metric("Redis bytes/token", 0),
    "redis_bytes_per_spread_token": Metric("bytes/token, an account each", 0),
    "latency_p50_ms": Metric("p50 ms", 2),
    "latency_p99_ms": Metric("p99 ms", 2),
    "latency_max_ms": Metric("longest ms", 2),
    "connection_us": Metric("CPU µs/connection", 0),
    "connections": Metric("connections/s", 0),
    "trials": Metric("trials", 0),
}


@dataclass(slots=True)
class Usage:
    """What a peer and Redis used between the start and the end of a measured span."""

    cpu_seconds: float = 0.0
    redis_seconds: float = 0.0
    lookups: int = 0
    seconds: float = 0.0


@contextmanager
def measured(running: Running, redis: RedisServer) -> Iterator[Usage]:
    """Fill in the ``Usage`` when the block ends."""
    usage = Usage()
    lookups = redis.lookups()
    redis_cpu, cpu, start = cpu_seconds([redis.program.pid]), cpu_seconds(running.pids), time.time()
    yield usage
    usage.seconds = time.time() - start
    usage.cpu_seconds = cpu_seconds(running.pids) - cpu
    usage.redis_seconds = cpu_seconds([redis.program.pid]) - redis_cpu
    usage.lookups = redis.lookups() - lookups


def under_load(
    running: Running,
    redis: RedisServer,
    load: wrk.Load,
    *,
    seconds: int,
    cores: str,
    settle_seconds: float = 0.0,
) -> tuple[Sample, wrk.Result]:
    """Put a load on a peer; return the figures per request and what ``wrk`` counted.

    Work that the peer defers is counted if it is done within ``settle_seconds`` after the load.
    """
    with measured(running, redis) as usage:
        with measured(running, redis) as meanwhile:
            result = wrk.run(
                load,
                url=running.url,
                seconds=seconds,
                cores=cores,
                environment=running.client_environment,
            )
        time.sleep(settle_seconds)
    sample = {
        "cpu_us": usage.cpu_seconds / result.requests * 1e6,
        "rate": result.rate,
        "p50_ms": result.p50_ms,
        "p99_ms": result.p99_ms,
        "memory_mib": resident_bytes(running.pids) / 2**20,
        "busy_percent": meanwhile.cpu_seconds / result.seconds * 100,
        "redis_us": usage.redis_seconds / result.requests * 1e6,
        "lookups": usage.lookups / result.requests,
    }
    return sample, result
