"""The load with a fixed rate: a request is due every so often, whether or not answers come.

A latency counts from when the request was *due*. A request that waits because every connection is
busy has waited all the same, so a peer that stops for a moment is slow for all requests that were
due meanwhile, not for one a connection ("coordinated omission"). ``python -m benchmarks.arrivals``
reads one JSON object, ``Order``, from standard input, and prints another, ``Arrivals``.

Why this is ours: a closed loop (wrk) sends nothing while it waits. ``h2load --rps`` wakes up every
10 ms at best, sends what is due since then in a burst, and counts from the sending. What measures
from the due time (wrk2, Nighthawk) is not packaged, and vegeta's goroutine a request takes more
processor time than the peers do.
"""

from __future__ import annotations

import ctypes
import gc
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from benchmarks.figures import percentile
from benchmarks.own_process import carry_out, run_apart
from benchmarks.processes import BenchError

CONNECTIONS: Final = 64
ALL_AT_ONCE: Final = 0.0
"""A rate at which all requests are due at the start: how many a second can a peer answer?"""

_OK: Final = b"HTTP/1.1 200 "
_HEAD_START_SECONDS: Final = 0.05
_MOST_SECONDS: Final = 120.0
_PR_SET_TIMERSLACK: Final = 29


@dataclass(frozen=True, slots=True)
class Order:
    """What to send to a loopback port: ``count`` requests, ``rate`` a second, each answered with
    200 and a body that ends with ``ending``.
    """

    port: int
    request: str
    ending: str
    rate: float
    count: int
    connections: int = CONNECTIONS


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How the answers came: from when each request was due, in milliseconds.

    ``late_ms`` is what the load itself was late by, at the 99th percentile of the requests for
    which a connection was free: where it is not far below the latencies, they are its own.
    """

    count: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    most_ms: float
    late_ms: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.seconds


class _Connection:
    """One kept-alive connection, and when the request on it was due (nanoseconds)."""

    __slots__ = ("begun", "due", "receive", "send", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.send, self.receive = self.socket.send, self.socket.recv
        self.due = 0
        self.begun = b""

    def has_answer(self, ending: bytes) -> bool:
        """Read, and tell whether the answer is whole. Raises ``BenchError`` for a wrong one."""
        data = self.receive(65536)
        if self.begun:
            data = self.begun + data
        if not data.startswith(_OK) and len(data) >= len(_OK):
            raise BenchError(f"a request of the fixed rate was answered {data[:60]!r}")
        if data.endswith(ending):
            self.begun = b""
            return True
        if data == self.begun:
            raise BenchError("a connection was closed under the fixed rate")
        self.begun = data
        return False


def send(order: Order) -> Arrivals:
    """Send the requests when they are due; return once all are answered.

    Raises ``BenchError`` for a wrong answer, or if it takes minutes.
    """
    connections = [_Connection(order.port) for _ in range(order.connections)]
    poller = select.epoll()
    by_number = {each.socket.fileno(): each for each in connections}
    for number in by_number:
        poller.register(number, select.EPOLLIN)
    try:
        return _Sending(order, connections).run(poller, by_number)
    finally:
        poller.close()
        for each in connections:
            each.socket.close()


class _Sending:
    """One run: which request is next, and what came of those before."""

    def __init__(self, order: Order, connections: list[_Connection]) -> None:
        self._order = order
        self._request = order.request.encode()
        self._ending = order.ending.encode()
        self._gap_ns = 1e9 / order.rate if order.rate else 0.0
        self._free = deque(connections)
        self._sent = 0
        self._is_starved = False
        self._latencies: list[int] = []
        self._lateness: list[int] = [0]
        self._start_ns = time.monotonic_ns() + int(_HEAD_START_SECONDS * 1e9)

    def run(self, poller: select.epoll, by_number: dict[int, _Connection]) -> Arrivals:
        """See ``send``."""
        count, ending, free = self._order.count, self._ending, self._free
        latencies, clock, waiting = self._latencies, time.monotonic_ns, [poller.fileno()]
        ends_by = clock() + int(_MOST_SECONDS * 1e9)
        while len(latencies) < count:
            now = clock()
            if now > ends_by:
                raise BenchError(f"only {len(latencies)} of {count} requests were answered in time")
            # ``select`` waits for microseconds, ``epoll`` for whole milliseconds.
            if select.select(waiting, (), (), self._send_due(now))[0]:
                for number, _ in poller.poll(0):
                    connection = by_number[number]
                    if connection.has_answer(ending):
                        latencies.append(clock() - connection.due)
                        free.append(connection)
        return self._arrivals((clock() - self._start_ns) / 1e9)

    def _send_due(self, now: int) -> float:
        """Send what is due and has a free connection; return how many seconds until the next."""
        order, free, gap_ns, start_ns = self._order, self._free, self._gap_ns, self._start_ns
        sent = self._sent
        while sent < order.count:
            due = start_ns + int(sent * gap_ns)
            if due > now:
                self._is_starved = False
                break
            if not free:
                self._is_starved = True
                break
            if not self._is_starved:
                self._lateness.append(now - due)
            connection = free.popleft()
            connection.due = due
            connection.send(self._request)
            sent += 1
        self._sent = sent
        if sent >= order.count or self._is_starved:
            return _MOST_SECONDS
        return max(0.0, (start_ns + sent * gap_ns - time.monotonic_ns()) / 1e9)

    def _arrivals(self, seconds: float) -> Arrivals:
        found = sorted(self._latencies)
        p50, p99, p999 = (percentile(found, share) / 1e6 for share in (0.5, 0.99, 0.999))
        late = percentile(self._lateness, 0.99) / 1e6
        return Arrivals(len(found), seconds, p50, p99, p999, found[-1] / 1e6, late)


def run(order: Order, *, cores: str) -> Arrivals:
    """``send`` in a process of its own on the given processors. Raises ``BenchError``."""
    return Arrivals(**run_apart(__name__, order, cores))


def main() -> int:
    """Carry out the order on standard input."""
    # Timers are otherwise late by 50 µs, so that the kernel can bundle them (prctl(2)).
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    gc.disable()
    return carry_out(lambda fields: send(Order(**fields)))


if __name__ == "__main__":
    sys.exit(main())
