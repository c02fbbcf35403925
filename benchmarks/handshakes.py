"""The load of new TLS connections: each makes one request, and closes.

``python -m benchmarks.handshakes`` reads one JSON object, ``Order``, from standard input, and
prints another, ``Handshakes``. Connections either resume the session of the one before (a ticket,
RFC 8446 section 2.2), or never do.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from benchmarks.own_process import carry_out, run_apart
from benchmarks.processes import BenchError

AT_ONCE: Final = 8

_OK: Final = b"HTTP/1.1 200 "
_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """For how many seconds to open connections to a loopback port, and the request of each; the
    server's certificate must be that in the file ``authority``.
    """

    port: int
    request: str
    authority: str
    seconds: int
    resumes: bool


@dataclass(frozen=True, slots=True)
class Handshakes:
    """How many connections were opened in that time, all of them answered with 200.

    The first connection of each thread can't resume; it is not counted in ``resumed``.
    """

    count: int
    resumed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Connections a second."""
        return self.count / self.seconds


def connect(order: Order) -> Handshakes:
    """Open connections from several threads. Raises ``BenchError`` unless each gets its answer, and
    resumes a session if, and only if, it should.
    """
    start = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        made = list(threads.map(lambda _: _connect_again(order, start), range(AT_ONCE)))
    count, resumed = sum(each[0] for each in made), sum(each[1] for each in made)
    if resumed != (count - AT_ONCE if order.resumes else 0):
        raise BenchError(f"of {count} TLS connections, {resumed} resumed a session")
    return Handshakes(count, resumed, time.monotonic() - start)


def _connect_again(order: Order, start: float) -> tuple[int, int]:
    context = ssl.create_default_context(cafile=order.authority)
    session: ssl.SSLSession | None = None
    count = resumed = 0
    while time.monotonic() - start < order.seconds or count < 2:
        with (
            socket.create_connection(("127.0.0.1", order.port), _TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
        ):
            connection.sendall(order.request.encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            if not answer.startswith(_OK):
                raise BenchError(f"a new TLS connection was answered {answer[:60]!r}")
            count += 1
            resumed += bool(connection.session_reused)
            session = connection.session if order.resumes else None
    return count, resumed


def run(order: Order, *, cores: str, environment: Mapping[str, str]) -> Handshakes:
    """``connect`` in a process of its own on the given processors. Raises ``BenchError``."""
    return Handshakes(**run_apart(__name__, order, cores, environment))


def main() -> int:
    """Carry out the order on standard input."""
    return carry_out(lambda fields: connect(Order(**fields)))


if __name__ == "__main__":
    sys.exit(main())
