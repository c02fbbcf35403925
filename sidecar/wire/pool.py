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
from dataclasses import dataclass
from typing import Final

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
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


class Pool:
    """The connections to one upstream."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._open = 0
        self._is_closed = False

    def __repr__(self) -> str:
        state = f"open={self._open} idle={len(self._idle)} waiting={len(self._waiters)}"
        return f"<Pool {self.origin.name} {state}>"

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
        while self._open >= self.origin.max_connections:
            kept = await self._wait_for_place()
            if kept is not None:
                return kept
        self._open += 1
        connection: UpstreamConnection | None = None
        try:
            async with asyncio.timeout(self.origin.connect_timeout_seconds):
                connection = await self._open_connection()
            return connection
        except TimeoutError:
            raise UpstreamTimeout(f"no connection to {self.origin.address} in time") from None
        except (OSError, ssl.SSLError) as error:
            raise UpstreamUnreachable(f"no connection to {self.origin.address}: {error}") from None
        finally:
            if connection is None:
                self._open -= 1
                self._let_one_in()

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a lent connection back: to keep, if nothing of its exchange can reach the next;
        else to close.
        """
        connection.sink = None
        if connection.is_reusable and not self._is_closed:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            self._let_one_in()
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

    async def _open_connection(self) -> UpstreamConnection:
        origin, loop = self.origin, self._loop

        def protocol() -> UpstreamConnection:
            return UpstreamConnection(loop, origin.address, self._forget)

        server_name = origin.host if origin.tls else None
        if origin.unix_path:
            _, connection = await loop.create_unix_connection(
                protocol, origin.unix_path, ssl=origin.tls, server_hostname=server_name
            )
        else:
            _, connection = await loop.create_connection(
                protocol, origin.host, origin.port, ssl=origin.tls, server_hostname=server_name
            )
        return connection

    async def _wait_for_place(self) -> UpstreamConnection | None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.origin.connect_timeout_seconds):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._let_one_in()  # the place was offered to one that has left
            if isinstance(error, TimeoutError):
                raise Overloaded(f"all connections to {self.origin.address} are in use") from None
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return self.take_idle()

    def _let_one_in(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _forget(self, connection: UpstreamConnection) -> None:
        self._open -= 1
        if connection.sink is None and connection in self._idle:
            self._idle.remove(connection)
        self._let_one_in()
