"""The load with a fixed rate: latencies count from when a request was due."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import sink
from benchmarks.arrivals import ALL_AT_ONCE, Order, run, send
from benchmarks.processes import BenchError, Cores, Program, free_port, is_listening
from tests.patience import PATIENCE_SECONDS

PAUSE_SECONDS = 1.0
SHOWN_MS = 200.0  # of the pause; the rest is for a busy machine to begin meanwhile
EVERYWHERE = Cores.of_this_machine().around
ENDING = sink.ANSWER.decode()[-9:]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Program, Order]]:
    """A server that answers at once, and an order of a thousand requests in a second for it."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.sink", str(port)]
    program = Program(command, cores=EVERYWHERE, output=tmp_path / "sink.log")
    try:
        program.wait_until(lambda: is_listening(port), seconds=PATIENCE_SECONDS)
        request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
        yield program, Order(port, request, ENDING, rate=1000.0, count=1000, connections=1)
    finally:
        program.stop()


def test_a_pause_of_the_server_is_a_latency_of_every_request_that_was_due_meanwhile(
    server: tuple[Program, Order],
) -> None:
    program, order = server
    program.send_signal(signal.SIGSTOP)
    resume = threading.Timer(PAUSE_SECONDS, program.send_signal, (signal.SIGCONT,))
    start = time.monotonic()
    resume.start()

    found = send(order)

    # A load that counts from the sending sees one slow request of a thousand, on one connection.
    assert found.p999_ms >= found.p99_ms > SHOWN_MS
    assert time.monotonic() - start > PAUSE_SECONDS


def test_every_request_is_answered_and_counted(server: tuple[Program, Order]) -> None:
    order = replace(server[1], count=300, connections=8)

    found = run(order, cores=EVERYWHERE)

    assert found.count == 300
    assert 0 < found.p50_ms <= found.p99_ms <= found.p999_ms <= found.most_ms
    assert found.rate <= order.rate * 1.2  # never before they are due


def test_requests_that_are_all_due_at_once_wait_for_each_other(
    server: tuple[Program, Order],
) -> None:
    program, order = server
    program.send_signal(signal.SIGSTOP)
    resume = threading.Timer(PAUSE_SECONDS, program.send_signal, (signal.SIGCONT,))
    resume.start()

    found = send(replace(order, rate=ALL_AT_ONCE, count=200))

    # None can be answered before the pause has ended, and each waits for those before it.
    assert SHOWN_MS < found.p50_ms < found.p99_ms <= found.most_ms <= found.seconds * 1e3


def test_a_wrong_answer_ends_the_run(server: tuple[Program, Order]) -> None:
    order = replace(server[1], request="no HTTP\r\n\r\n")

    with pytest.raises(BenchError, match="closed"):
        send(order)


def test_a_process_of_its_own_that_fails_says_why(server: tuple[Program, Order]) -> None:
    order = replace(server[1], request="no HTTP\r\n\r\n")

    with pytest.raises(BenchError, match="closed"):
        run(order, cores=EVERYWHERE)
