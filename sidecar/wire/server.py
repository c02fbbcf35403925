"""The listening side: which connections live, and how they come to an end.

Draining: nothing is accepted any more, every running exchange may finish and says ``Connection:
close``, and so does whatever still arrives on a connection that was kept alive; those that bring
nothing for a second are closed. What is left when the time is up is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from sidecar.wire.client import LAST_CHANCE_SECONDS, ClientConnection
from sidecar.wire.deadlines import Deadlines
from sidecar.wire.requests import FieldMemory, RequestLimits

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
        credential_headers: Iterable[str] = (),
        max_connections: int,
        header_timeout_seconds: float,
        idle_timeout_seconds: float,
        shortest_timeout_seconds: float,
        too_many: Callable[[], bytes],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self._too_many = too_many
        self._connections: set[ClientConnection] = set()
        self._served = 0
        self._all_ended: asyncio.Event = asyncio.Event()
        self.use_limits(limits, credential_headers)
        self.max_connections = max_connections
        self.header_timeout_seconds = header_timeout_seconds
        self.idle_timeout_seconds = idle_timeout_seconds
        self.is_draining = False
        self.is_closing = False
        self.deadlines = Deadlines(self._loop, shortest_timeout_seconds)

    def __repr__(self) -> str:
        return f"<ProxyServer connections={len(self._connections)} draining={self.is_draining}>"

    @property
    def open_connections(self) -> int:
        """How many callers are connected."""
        return len(self._connections)

    def use_limits(self, limits: RequestLimits, credential_headers: Iterable[str] = ()) -> None:
        """Judge new connections' requests by these; what was remembered passed by others.

        ``credential_headers`` are the headers, beside ``Authorization``, that hold tokens.
        """
        self.limits = limits
        self.memory = FieldMemory(credential_headers)

    def announce_end(self) -> None:
        """Let every answer from now on be its connection's last; nothing is closed yet."""
        self.is_draining = True

    async def drain(self, timeout_seconds: float, *, has_tls: bool = False) -> None:
        """Wait for what runs, at most so long; cut the rest and let it be noted.

        Nothing may be accepted any more. With ``has_tls`` callers get a moment to end a handshake,
        of which nothing is known here until it is through.
        """
        self.is_draining = self.is_closing = True
        shortest = self.deadlines.shortest_timeout_seconds
        self.deadlines.shortest_timeout_seconds = min(shortest, LAST_CHANCE_SECONDS)
        for connection in list(self._connections):
            connection.drain()
        if has_tls:
            await asyncio.sleep(min(LAST_CHANCE_SECONDS, timeout_seconds))
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
        if self.is_closing and not self._connections and not self._served:
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

    def new_connection(self) -> ClientConnection:
        """Return the protocol of a connection that is being accepted."""
        return ClientConnection(self._loop, self)
