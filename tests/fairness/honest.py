"""The honest caller, and who asks for the proxy's health: a process of its own, with a clock.

``python -m tests.fairness.honest PORT OPERATIONS_PORT TOKEN [tls]`` asks until its input ends, then
prints all that it saw as JSON. Each asker puts its questions at fixed moments. Those that fall due
while it still waits for an answer are not put, but counted as if they had been, and answered
together with that one: a proxy that stands still for ten seconds has failed all the questions of
these ten seconds, not one. Moments are of the machine's monotonic clock, so that another process
can tell before, during and after.

Its source address is its own, in a network that no attacker is in.
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
"""A connection that is kept; a new one for each request; ``/healthz``, likewise."""
A_SECOND = {KEPT: 100, NEW: 20, HEALTH: 10}
LONGEST_WAIT_SECONDS = 30.0
FAILED = 0
"""Stands for a status where there was no answer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One question: when it was due, how long its answer took from then on, and its status."""

    due: float
    seconds: float
    status: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What one asker saw in a stretch of time."""

    seen: tuple[Seen, ...] = field(repr=False)

    @property
    def statuses(self) -> dict[int, int]:
        return dict(Counter(one.status for one in self.seen))

    def percentile(self, share: float) -> float:
        """Return the seconds within which so many were answered."""
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
    """All that the honest process saw, by asker."""

    askers: dict[str, list[Seen]]

    def between(self, asker: str, first: float, last: float) -> Figures:
        """Return what was due in a stretch of the monotonic clock."""
        return Figures(tuple(one for one in self.askers[asker] if first <= one.due < last))

    @classmethod
    def read(cls, text: str) -> Testimony:
        seen: dict[str, list[Any]] = json.loads(text)
        return cls({asker: [Seen(*one) for one in listed] for asker, listed in seen.items()})


class _Connection:
    """A socket that is opened when it is needed."""

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
        asked = time.monotonic()  # how late this process woke up is not the proxy's doing
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
    """Ask until the input ends."""
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
    gc.disable()  # its own pauses are not the proxy's
    noted = watch(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], is_tls="tls" in sys.argv[4:])
    print(json.dumps({asker: _plain(seen) for asker, seen in noted.items()}))
