"""The listening side: which connections live, and how they come to an end.

Draining: nothing is accepted any more, every running exchange may finish and says ``Connection:
close``, and so does whatever still arrives on a connection that was kept alive; those that bring
nothing for a second are closed. What is left when the time is up is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from sidecar.wire.buffers import BufferBudget
from sidecar.wire.client import LAST_CHANCE_SECONDS, ClientConnection
from sidecar.wire.deadlines import Deadlines
from sidecar.wire.fields import FieldMemory
from sidecar.wire.requests import RequestLimits
from sidecar.wire.turn_queue import TurnQueue

if TYPE_CHECKING:
    from sidecar.wire.accepting import Unready

_CUT_SECONDS: Final = 1.0  # a cut connection ends in the loop's next turns


class ProxyServer:
    """The client connections of one process; implements ``wire.client.Host`` and
    ``wire.accepting.Guests``.

    ``too_many`` is the whole response for a connection above ``max_connections``, or above
    ``max_connections_per_address`` (0: no such bound) from one network. The limits and
    time-outs can be replaced while it runs: counts and times hold at once, the limits of requests
    for connections that come after.
    """

    def __init__(  # noqa: PLR0913 - the settings of a listener, each named at the one call
        self,
        handle: Callable[[ClientConnection], Awaitable[None]],
        *,
        limits: RequestLimits,
        credential_headers: Iterable[str] = (),
        max_connections: int,
        max_connections_per_address: int = 0,
        header_timeout_seconds: float,
        idle_timeout_seconds: float,
        shortest_timeout_seconds: float,
        too_many: Callable[[], bytes],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle = handle
        self.too_many = too_many
        self._admitted = 0
        self._admitted_from: dict[str, int] = {}
        self._connections: set[ClientConnection] = set()
        self._served = 0
        self._all_ended: asyncio.Event = asyncio.Event()
        self.use_limits(limits, credential_headers)
        self.max_connections = max_connections
        self.max_connections_per_address = max_connections_per_address
        self.header_timeout_seconds = header_timeout_seconds
        self.idle_timeout_seconds = idle_timeout_seconds
        self.is_draining = False
        self.is_closing = False
        self.deadlines = Deadlines(self._loop, shortest_timeout_seconds)
        self.handshakes: set[Unready] = set()
        self.turns = TurnQueue(self._loop)
        self.buffers = BufferBudget()

    def __repr__(self) -> str:
        return f"<ProxyServer connections={len(self._connections)} draining={self.is_draining}>"

    @property
    def open_connections(self) -> int:
        """How many callers are connected, those whose TLS handshake is under way included."""
        return self._admitted

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

        Nothing may be accepted any more. With ``has_tls`` callers get a moment to end a handshake.
        """
        self.is_draining = self.is_closing = True
        shortest = self.deadlines.shortest_timeout_seconds
        self.deadlines.shortest_timeout_seconds = min(shortest, LAST_CHANCE_SECONDS)
        for connection in list(self._connections):
            connection.drain()
        if has_tls:
            await asyncio.sleep(min(LAST_CHANCE_SECONDS, timeout_seconds))
        for handshake in list(self.handshakes):
            handshake.give_up()
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
        if self.is_closing and self._admitted <= 0 and not self._served:
            self._all_ended.set()

    # What a client connection asks of its host.

    async def serve(self, connection: ClientConnection) -> None:
        self._served += 1
        try:
            await self._handle(connection)
        finally:
            self._served -= 1
            self._note_end()

    def on_opened(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        self.deadlines.watch(connection)

    def on_closed(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self.deadlines.forget(connection)
        self.dismiss(connection.network)

    # What an acceptor asks of the guests' host.

    def admit(self, network: str) -> bool:
        most = self.max_connections_per_address
        fellows = self._admitted_from.get(network, 0)
        if self._admitted >= self.max_connections or (network and 0 < most <= fellows):
            return False
        self._admitted += 1
        self._admitted_from[network] = fellows + 1
        return True

    def dismiss(self, network: str) -> None:
        self._admitted -= 1
        fellows = self._admitted_from.get(network, 0) - 1
        if fellows > 0:
            self._admitted_from[network] = fellows
        else:
            self._admitted_from.pop(network, None)
        self._note_end()

    def new_connection(self, network: str = "") -> ClientConnection:
        """Return the protocol of a connection that was admitted from ``network``."""
        return ClientConnection(self._loop, self, network)
