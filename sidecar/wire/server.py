"""The client connections of one process: how many there may be, and how they end.

Draining: no connection is accepted any more. Running exchanges may finish, and their responses say
``Connection: close``; so do the responses to requests that still arrive on a kept-alive connection.
A connection that is idle for a second is closed. Whatever is left when time is up is aborted.

Connections end in the same way, but for the last step, while callers wait because the process has
no descriptors left for them (``wire.descriptors``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from sidecar.wire.accepting import PendingHandshake
from sidecar.wire.buffers import BufferBudget
from sidecar.wire.client import LAST_CHANCE_SECONDS, ClientConnection
from sidecar.wire.deadlines import Deadlines
from sidecar.wire.requests import HeadCache, RequestLimits
from sidecar.wire.turn_queue import TurnQueue

_log = logging.getLogger("sidecar")

_UNBOUNDED: Final = 1 << 30
_PRUNE_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 60.0  # between two warnings of one kind
_CUT_SECONDS: Final = 1.0  # an aborted connection ends within the next iterations of the loop


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections are admitted, and how long they may wait, in seconds.

    ``max_connections_per_address`` is a limit for each client network; 0: no such limit.
    ``shortest_timeout_seconds`` is the shortest of all time-outs that ``Deadlines`` must keep.
    """

    max_connections: int
    max_connections_per_address: int
    header_timeout_seconds: float
    idle_timeout_seconds: float
    shortest_timeout_seconds: float


class ProxyServer:
    """The client connections of one process; implements ``wire.client.ConnectionOwner`` and
    ``wire.accepting.AcceptingServer``.

    ``too_many`` returns the complete response for a connection above a limit. Limits can be
    replaced while the server runs: those of connections apply at once, those of requests to new
    connections.
    """

    def __init__(
        self,
        handle: Callable[[ClientConnection], Coroutine[Any, Any, None]],
        *,
        limits: RequestLimits,
        new_head_cache: Callable[[], HeadCache] = HeadCache,
        connection_limits: ConnectionLimits,
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
        self.closes_after_answers = False
        """Each answer is its connection's last: draining, or short of descriptors."""
        self.is_draining = False
        self.is_closing = False
        self._room = _UNBOUNDED
        self._waiting_for_room: list[Callable[[], None]] = []
        self._pruned_at = self._warned_at = -_SILENT_SECONDS
        self.deadlines = Deadlines(self._loop, connection_limits.shortest_timeout_seconds)
        self.handshakes: set[PendingHandshake] = set()
        self.turns = TurnQueue(self._loop)
        self.buffers = BufferBudget()
        self.use_limits(limits, new_head_cache)
        self.use_connection_limits(connection_limits)

    def __repr__(self) -> str:
        return f"<ProxyServer connections={len(self._connections)} draining={self.is_draining}>"

    @property
    def open_connections(self) -> int:
        """How many callers are connected, including those whose TLS handshake is unfinished."""
        return self._admitted

    def use_connection_limits(self, limits: ConnectionLimits) -> None:
        """Apply these limits from now on, to connections that are open too."""
        self.max_connections = limits.max_connections
        self.max_connections_per_address = limits.max_connections_per_address
        self.header_timeout_seconds = limits.header_timeout_seconds
        self.idle_timeout_seconds = limits.idle_timeout_seconds
        self.deadlines.shortest_timeout_seconds = limits.shortest_timeout_seconds

    def use_room(self, callers: int) -> None:
        """Let so many connections be open at once, as there are descriptors for them; others wait
        to be accepted.
        """
        self._room = callers
        self._resume_accepting()

    def use_limits(
        self, limits: RequestLimits, new_head_cache: Callable[[], HeadCache] = HeadCache
    ) -> None:
        """Apply these limits to new connections.

        Heads were cached under the former limits, so new connections need another cache as well.
        """
        self.limits = limits
        self._new_head_cache = new_head_cache

    def announce_end(self) -> None:
        """Make every response from now on the last of its connection; close nothing yet."""
        self.is_draining = self.closes_after_answers = True

    async def drain(self, timeout_seconds: float, *, has_preamble: bool = False) -> None:
        """Wait for running exchanges, at most ``timeout_seconds``; then abort the others, and let
        them be logged.

        The caller has closed the listeners. With ``has_preamble``, callers get a moment to
        finish a handshake or a PROXY header.
        """
        self.is_draining = self.closes_after_answers = self.is_closing = True
        shortest = self.deadlines.shortest_timeout_seconds
        self.deadlines.shortest_timeout_seconds = min(shortest, LAST_CHANCE_SECONDS)
        for connection in list(self._connections):
            connection.drain()
        if has_preamble:
            await asyncio.sleep(min(LAST_CHANCE_SECONDS, timeout_seconds))
        for handshake in list(self.handshakes):
            handshake.abort()
        if not await self._has_ended_within(timeout_seconds):
            for connection in list(self._connections):
                connection.abort()
            await self._has_ended_within(_CUT_SECONDS)

    async def _has_ended_within(self, seconds: float) -> bool:
        self._check_ended()
        try:
            await asyncio.wait_for(self._all_ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _check_ended(self) -> None:
        if self.is_closing and self._admitted <= 0 and not self._served:
            self._all_ended.set()

    # wire.client.ConnectionOwner

    def new_head_cache(self) -> HeadCache:
        return self._new_head_cache()

    def serve(self, connection: ClientConnection) -> Coroutine[Any, Any, None]:
        self._served += 1
        return self._handle(connection)

    def on_served(self, connection: ClientConnection) -> None:
        self._served -= 1
        self._check_ended()

    def on_opened(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        self.deadlines.watch(connection)

    def on_closed(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self.deadlines.forget(connection)
        self.release(connection.network)

    # wire.accepting.AcceptingServer

    def has_room(self) -> bool:
        return self._admitted < self._room

    def wait_for_room(self, resume: Callable[[], None]) -> None:
        self._waiting_for_room.append(resume)
        self.closes_after_answers = True
        now = self._loop.time()
        if now - self._pruned_at >= _PRUNE_SECONDS:
            self._pruned_at = now
            for connection in list(self._connections):
                connection.drain()
        if now - self._warned_at >= _SILENT_SECONDS:
            self._warned_at = now
            _log.warning(
                "%d callers are connected, and no file descriptors are left for more: others wait. "
                "Raise the limit of open files (ulimit -n, LimitNOFILE=)",
                self._admitted,
            )

    def _resume_accepting(self) -> None:
        if self._waiting_for_room and self.has_room():
            self.closes_after_answers = self.is_draining
            waiting, self._waiting_for_room = self._waiting_for_room, []
            for resume in waiting:
                resume()

    def admit(self, network: str) -> bool:
        most = self.max_connections_per_address
        siblings = self._admitted_from.get(network, 0)
        if self._admitted >= self.max_connections or (network and 0 < most <= siblings):
            return False
        self._admitted += 1
        self._admitted_from[network] = siblings + 1
        return True

    def release(self, network: str) -> None:
        self._admitted -= 1
        siblings = self._admitted_from.get(network, 0) - 1
        if siblings > 0:
            self._admitted_from[network] = siblings
        else:
            self._admitted_from.pop(network, None)
        if self._waiting_for_room:
            self._resume_accepting()
        self._check_ended()

    def new_connection(self, network: str = "", peer: str = "") -> ClientConnection:
        """Return the protocol of a connection admitted from ``network``."""
        return ClientConnection(self._loop, self, network, peer)
