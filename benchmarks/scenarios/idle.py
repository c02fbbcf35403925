"""Memory of idle connections that have each made one request.

It does not include what the kernel keeps for a socket, which is the same for every peer.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.measure import Sample
from benchmarks.peers.registry import PEERS
from benchmarks.processes import BenchError, resident_bytes
from benchmarks.scenarios import Plan, Scenario
from benchmarks.upstream import BASE

SPARE_FILES = 1000
FIRST_CALLS = 300
"""Requests before the first measurement, so that what a peer sets up once is not counted."""


def prepare(plan: Plan) -> None:
    """Add every peer, each time freshly started."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < plan.stage.settings.idle_connections + SPARE_FILES:
        plan.left_out["every peer"] = f"only {most} open files are allowed (ulimit -Hn)"
        return
    for name, peer in PEERS.items():
        if plan.start(name) is not None:
            plan.add(peer.title, _measure(plan, name), warms_up=False)


def _measure(plan: Plan, name: str) -> Callable[[int], Sample]:
    stage, count = plan.stage, plan.stage.settings.idle_connections
    request = (
        f"GET {BASE}/bench HTTP/1.1\r\nHost: bench\r\n{stage.holder.bearer}\r\n\r\n"
    ).encode()

    def run(_seconds: int) -> Sample:
        running = stage.start(name)
        try:
            with ExitStack() as opened:
                for _ in range(FIRST_CALLS):
                    _call(running.port, request).close()
                before = resident_bytes(running.pids)
                for _ in range(count):
                    opened.enter_context(_call(running.port, request))
                time.sleep(0.5)
                after = resident_bytes(running.pids)
        finally:
            running.stop()
        return {
            "kib_per_connection": (after - before) / count / 1024,
            "memory_mib": after / 2**20,
        }

    return run


def _call(port: int, request: bytes) -> socket.socket:
    """Open a connection, make one request, and return the open connection."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(request)
    answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        connection.close()
        raise BenchError(f"a new connection was answered {answer[:60]!r}")
    return connection


SCENARIO = Scenario(
    "idle",
    "10 000 idle kept-alive connections",
    prepare,
    columns=("kib_per_connection", "memory_mib"),
    compared="kib_per_connection",
)
