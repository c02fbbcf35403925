"""Which connection to an upstream serves an exchange: the one idle for the shortest time, else a
new one.

A pool never has more than ``max_connections``; who finds none waits in order, for at most the
connect time-out. An idle connection that closes or speaks out of turn is forgotten at once; one
that was idle for longer than upstreams commonly keep them is not used again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from sidecar.wire.responses import HeadMemory
from sidecar.wire.upstream import UpstreamConnection

_IDLE_SECONDS: Final = 4.0  # Node.js and uvicorn close theirs after 5


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream listens and how to get there. ``unix_path`` goes before host and port.

    ``host`` and ``port`` also make the ``Host`` field when the caller's is not preserved.
    """

    name: str
    host: str
    port: int
    unix_path: str | None = None
    tls: ssl.SSLContext | None = None
    connect_timeout_seconds: float = 3.0
    max_connections: int = 512

    @property
    def address(self) -> str:
        """The address as logs show it."""
        return f"unix:{self.unix_path}" if self.unix_path else f"{self.host}:{self.port}"


Opener = Callable[
    [Origin, asyncio.AbstractEventLoop, Callable[[], UpstreamConnection]],
    Awaitable[UpstreamConnection],
]
"""Makes a connection to an origin, with the protocol that is made by what it is given."""


class Pool:
    """The connections to one upstream."""

    def __init__(
        self, origin: Origin, loop: asyncio.AbstractEventLoop, open_connection: Opener | None = None
    ) -> None:
        self.origin = origin
        self._open_connection = open_connection or _open_connection
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._is_closed = False
        self._memory = HeadMemory()
        self.opened = 0
        """How many connections were opened since the start."""
        self.retries = 0
        """How many requests were sent a second time, as a kept connection had gone stale."""

    def __repr__(self) -> str:
        state = f"open={len(self._open)} idle={len(self._idle)} waiting={len(self._waiters)}"
        return f"<Pool {self.origin.name} {state}>"

    @property
    def open_count(self) -> int:
        """How many connections are open or being opened."""
        return len(self._open) + self._opening

    @property
    def idle_count(self) -> int:
        """How many of them wait for an exchange."""
        return len(self._idle)

    @property
    def waiting_count(self) -> int:
        """How many exchanges wait for a connection."""
        return len(self._waiters)

    def take_idle(self) -> UpstreamConnection | None:
        """Lend a kept connection, if there is a usable one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open and self._loop.time() - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def connect(self) -> UpstreamConnection:
        """Lend a new connection.

        Raises ``UpstreamUnreachable``, ``UpstreamTimeout``, or ``Overloaded`` when all
        ``max_connections`` are lent and none comes back within the connect time-out.
        """
        self._opening += 1
        if len(self._open) + self._opening > self.origin.max_connections:
            self._opening -= 1
            kept = await self._wait_in_line()
            if kept is not None:
                return kept
        try:
            async with asyncio.timeout(self.origin.connect_timeout_seconds):
                connection = await self._open_connection(
                    self.origin, self._loop, self._make_connection
                )
            self.opened += 1
            if connection.transport is not None:
                self._open.add(connection)
            return connection
        except TimeoutError:
            raise UpstreamTimeout(f"no connection to {self.origin.address} in time") from None
        except (OSError, ssl.SSLError) as error:
            raise UpstreamUnreachable(f"no connection to {self.origin.address}: {error}") from None
        finally:
            self._opening -= 1
            self._let_one_in()

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a lent connection back: to keep, if nothing of its exchange can reach the next;
        else to close.
        """
        connection.sink = None
        if connection.is_reusable and not self._is_closed:
            connection.pace(True)  # the last reader may have been slow; and an end must be heard
            self._keep(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close what is idle now, and what is lent as it comes back."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().abort()

    def drop_stale(self) -> None:
        """Close connections that were idle for too long; called now and then."""
        oldest = self._loop.time() - _IDLE_SECONDS
        stale = [connection for connection in self._idle if connection.idle_since < oldest]
        self._idle = [connection for connection in self._idle if connection.idle_since >= oldest]
        for connection in stale:
            connection.abort()

    def _make_connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._loop, self.origin.address, self._forget, self._memory)

    def _keep(self, connection: UpstreamConnection) -> None:
        """Hand a fit connection to whoever waits the longest, else keep it for later."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        else:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)

    async def _wait_in_line(self) -> UpstreamConnection | None:
        """Wait for a kept connection, or ``None``: a place, counted in ``_opening``, to open one.

        Nobody who comes later is served before.
        """
        waiter: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.origin.connect_timeout_seconds):
                return await waiter
        except TimeoutError:
            self._take_back(waiter)
            raise Overloaded(f"all connections to {self.origin.address} are in use") from None
        except asyncio.CancelledError:
            self._take_back(waiter)
            raise

    def _take_back(self, waiter: asyncio.Future[UpstreamConnection | None]) -> None:
        """Pass on what was handed to one that has left meanwhile."""
        if not waiter.done() or waiter.cancelled():
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        elif (connection := waiter.result()) is not None:
            self.give_back(connection)
        else:
            self._opening -= 1
            self._let_one_in()

    def _let_one_in(self) -> None:
        """Give a place that has become free to whoever waits the longest."""
        if len(self._open) + self._opening < self.origin.max_connections:
            waiter = self._next_waiter()
            if waiter is not None:
                self._opening += 1
                waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[UpstreamConnection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._let_one_in()


async def _open_connection(
    origin: Origin,
    loop: asyncio.AbstractEventLoop,
    make_connection: Callable[[], UpstreamConnection],
) -> UpstreamConnection:
    server_name = origin.host if origin.tls else None
    if origin.unix_path:
        _, connection = await loop.create_unix_connection(
            make_connection, origin.unix_path, ssl=origin.tls, server_hostname=server_name
        )
    else:
        _, connection = await loop.create_connection(
            make_connection, origin.host, origin.port, ssl=origin.tls, server_hostname=server_name
        )
    return connection
