"""The listening side: which sockets are open, which connections live, and how all of it comes to
an end.

Draining: accepting stops, idle connections close, every running exchange may finish and says
``Connection: close``; what is left when the time is up is cut.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sidecar.core.errors import UsageError
from sidecar.wire.client import ClientConnection
from sidecar.wire.deadlines import Deadlines
from sidecar.wire.requests import FieldMemory, RequestLimits

_BACKLOG: Final = 4096
_HANDSHAKE_SECONDS: Final = 10.0
_CUT_SECONDS: Final = 1.0  # a cut connection ends in the loop's next turns


class ProxyServer:
    """The client connections of one process; implements ``wire.client.Host``.

    ``too_many`` is the whole response for a connection above ``max_connections``. The limits and
    time-outs can be replaced while it runs: counts and times hold at once, the limits of requests
    for connections that come after.
    """

    def __init__(
        self,
        handle: Callable[[ClientConnection], Awaitable[None]],
        *,
        limits: RequestLimits,
        max_connections: int,
        header_timeout_seconds: float,
        idle_timeout_seconds: float,
        shortest_timeout_seconds: float,
        too_many: Callable[[], bytes],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self._too_many = too_many
        self._servers: list[asyncio.Server] = []
        self._connections: set[ClientConnection] = set()
        self._served = 0
        self._all_ended: asyncio.Event = asyncio.Event()
        self.use_limits(limits)
        self.max_connections = max_connections
        self.header_timeout_seconds = header_timeout_seconds
        self.idle_timeout_seconds = idle_timeout_seconds
        self.is_draining = False
        self.deadlines = Deadlines(self._loop, shortest_timeout_seconds)

    def __repr__(self) -> str:
        return f"<ProxyServer connections={len(self._connections)} draining={self.is_draining}>"

    @property
    def open_connections(self) -> int:
        """How many callers are connected."""
        return len(self._connections)

    def use_limits(self, limits: RequestLimits) -> None:
        """Judge new connections' requests by these; what was remembered passed by others."""
        self.limits = limits
        self.memory = FieldMemory()

    async def listen(
        self, host: str, port: int, unix_path: str | None, tls: ssl.SSLContext | None
    ) -> None:
        """Open the listening socket. Raises ``UsageError`` if that can't be done."""
        handshake = _HANDSHAKE_SECONDS if tls else None
        try:
            if unix_path is not None:
                server: asyncio.Server = await self._loop.create_unix_server(
                    self._new_connection,
                    sock=_unix_socket(unix_path),
                    backlog=_BACKLOG,
                    ssl=tls,
                    ssl_handshake_timeout=handshake,
                )
            else:
                server = await self._loop.create_server(
                    self._new_connection,
                    host,
                    port,
                    backlog=_BACKLOG,
                    ssl=tls,
                    ssl_handshake_timeout=handshake,
                )
        except OSError as error:
            where = unix_path or f"{host}:{port}"
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else str(error)
            raise UsageError(f"can't listen on {where}: {reason}") from None
        self._servers.append(server)

    async def drain(self, timeout_seconds: float) -> None:
        """Stop accepting; wait for what runs, at most so long; cut the rest and let it be noted."""
        self.is_draining = True
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        if not await self._has_ended_within(timeout_seconds):
            for connection in list(self._connections):
                connection.abort()
            await self._has_ended_within(_CUT_SECONDS)

    async def _has_ended_within(self, seconds: float) -> bool:
        self._note_end()
        try:
            await asyncio.wait_for(self._all_ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _note_end(self) -> None:
        if self.is_draining and not self._connections and not self._served:
            self._all_ended.set()

    # What a client connection asks of its host.

    async def serve(self, connection: ClientConnection) -> None:
        self._served += 1
        try:
            await self._handle(connection)
        finally:
            self._served -= 1
            self._note_end()

    def on_opened(self, connection: ClientConnection) -> bool:
        if len(self._connections) >= self.max_connections:
            connection.write(self._too_many())
            connection.close()
            return False
        self._connections.add(connection)
        self.deadlines.watch(connection)
        return True

    def on_closed(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self.deadlines.forget(connection)
        self._note_end()

    def _new_connection(self) -> ClientConnection:
        return ClientConnection(self._loop, self)


def _unix_socket(path: str) -> socket.socket:
    """Bind a unix socket; one left behind by a process that has gone is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
            listener.close()
            raise
        Path(path).unlink()
        listener.bind(path)
    return listener


def _is_abandoned(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return Path(path).is_socket()
        except OSError:
            return False
    return False
