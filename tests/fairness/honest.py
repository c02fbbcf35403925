"""An honest caller and a health check, in a process of their own.

``python -m tests.fairness.honest PORT OPERATIONS_PORT TOKEN [tls]`` sends requests until its input
ends, then prints everything it saw as JSON. Each asker sends its requests at fixed times. A request
that falls due while the asker still waits for an answer is not sent, but is counted as if it had
been answered together with the one before: a proxy that stalls for ten seconds fails all requests
of these ten seconds, not just one. Times are of the machine's monotonic clock, so that another
process can tell before, during and after.

Its source address is in a network without attackers.
"""

from __future__ import annotations

import gc
import json
import math
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

ADDRESS = "127.1.0.1"
TARGET = "/v1/dynamic/listener/honest"
KEPT, NEW, HEALTH = "kept", "new", "health"
"""A kept-alive connection; a new one for each request; ``/healthz`` over a new one."""
A_SECOND = {KEPT: 100, NEW: 20, HEALTH: 10}
LONGEST_WAIT_SECONDS = 30.0
FAILED = 0
"""The status of a request without an answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it was due, how long its answer took from then on, and its status."""

    due: float
    seconds: float
    status: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What one asker saw in a period."""

    seen: tuple[Seen, ...] = field(repr=False)

    @property
    def statuses(self) -> dict[int, int]:
        return dict(Counter(one.status for one in self.seen))

    def percentile(self, share: float) -> float:
        """Return the seconds within which this share of requests was answered."""
        times = sorted(one.seconds for one in self.seen)
        return times[max(0, math.ceil(len(times) * share) - 1)] if times else math.inf

    @property
    def p50(self) -> float:
        return self.percentile(0.50)

    @property
    def p99(self) -> float:
        return self.percentile(0.99)

    @property
    def longest(self) -> float:
        return self.percentile(1.0)


@dataclass(frozen=True, slots=True)
class Testimony:
    """Everything that the honest process saw, by asker."""

    askers: dict[str, list[Seen]]

    def between(self, asker: str, first: float, last: float) -> Figures:
        """Return the requests that were due in a period of the monotonic clock."""
        return Figures(tuple(one for one in self.askers[asker] if first <= one.due < last))

    @classmethod
    def read(cls, text: str) -> Testimony:
        seen: dict[str, list[Any]] = json.loads(text)
        return cls({asker: [Seen(*one) for one in listed] for asker, listed in seen.items()})


class _Connection:
    """A connection that is opened when it is needed."""

    def __init__(
        self, port: int, request: bytes, tls: ssl.SSLContext | None, *, is_kept: bool
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._request = request
        self._tls = tls
        self._is_kept = is_kept
        self._socket: socket.socket | None = None

    def ask(self) -> int:
        """Return the status of one answer; ``FAILED`` if there was none."""
        try:
            if self._socket is None:
                self._socket = self._open()
            self._socket.sendall(self._request)
            status = _read_answer(self._socket)
        except OSError:
            status = FAILED
        if status != 200 or not self._is_kept:
            self.close()
        return status

    def _open(self) -> socket.socket:
        plain = socket.create_connection(self._address, LONGEST_WAIT_SECONDS, (ADDRESS, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(plain) if self._tls else plain

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _read_answer(sock: socket.socket) -> int:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r", 1)[0])
    while len(body) < length:
        body += _receive(sock)
    return int(head[9:12])


def _receive(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    if not piece:
        raise ConnectionResetError
    return piece


def _ask(connection: _Connection, a_second: int, ended: threading.Event, seen: list[Seen]) -> None:
    due = time.monotonic()
    while not ended.wait(max(0.0, due - time.monotonic())):
        asked = time.monotonic()  # the proxy is not to blame if this process wakes up late
        status, answered = connection.ask(), time.monotonic()
        seen.append(Seen(due, answered - asked, status))
        due += 1.0 / a_second
        while due < answered:
            seen.append(Seen(due, answered - due, status))
            due += 1.0 / a_second
    connection.close()


def _request(target: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: a", *lines, "", "")).encode()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def watch(port: int, operations_port: int, token: str, *, is_tls: bool) -> dict[str, list[Seen]]:
    """Send requests until the input ends."""
    tls = _trusting() if is_tls else None
    request = _request(TARGET, f"Authorization: Bearer {token}")
    connections = {
        KEPT: _Connection(port, request, tls, is_kept=True),
        NEW: _Connection(port, request, tls, is_kept=False),
        HEALTH: _Connection(operations_port, _request("/healthz"), None, is_kept=False),
    }
    ended, askers = threading.Event(), {name: list[Seen]() for name in connections}
    threads = [
        threading.Thread(target=_ask, args=(one, A_SECOND[name], ended, askers[name]))
        for name, one in connections.items()
    ]
    for thread in threads:
        thread.start()
    with suppress(KeyboardInterrupt):
        sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    return askers


def _plain(seen: Iterable[Seen]) -> list[tuple[float, float, int]]:
    return [(one.due, one.seconds, one.status) for one in seen]


if __name__ == "__main__":
    gc.disable()  # pauses of this process must not count against the proxy
    noted = watch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], is_tls="tls" in sys.argv[4:])
    print(json.dumps({asker: _plain(seen) for asker, seen in noted.items()}))
