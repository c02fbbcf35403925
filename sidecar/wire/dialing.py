"""How a connection to an upstream is opened: resolve its name, try its addresses, negotiate TLS.

The addresses of a name share one budget, the connect time-out, and are raced as RFC 8305 describes
("Happy Eyeballs"): an address that drops packets costs a quarter of a second, and costs it once
rather than for every caller. Addresses that failed or were slow within the last minute are tried
after the others.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import zip_longest
from typing import Final

from sidecar.outgoing.racing import Race
from sidecar.outgoing.resolver import CachingResolver, Clock, ResolvedAddress, ResolvedAddresses
from sidecar.timeouts import timeout
from sidecar.wire.destination import Destination
from sidecar.wire.upstream import UpstreamConnection

_HEAD_START_SECONDS: Final = 0.25  # RFC 8305 section 8: the recommended delay,
_LEAST_HEAD_START_SECONDS: Final = 0.01  # and the least
_RESOLVER_PATIENCE_SECONDS: Final = 0.1  # after which the last good answer is used instead
_REMEMBERED_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1024


class Dialer:
    """Opens connections, and remembers which names and addresses work; one per process."""

    def __init__(
        self, resolver: CachingResolver | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._resolver = resolver or CachingResolver()
        self._clock = clock
        self._history = _AddressHistory(clock)

    async def open(
        self,
        destination: Destination,
        loop: asyncio.AbstractEventLoop,
        make_connection: Callable[[], UpstreamConnection],
    ) -> UpstreamConnection:
        """Open a connection, including TLS, within the destination's connect time-out.

        Raises ``TimeoutError``, or another ``OSError`` (``ssl.SSLError`` is one).
        """
        budget = _Budget(destination.connect_timeout_seconds, self._clock)
        server_name = destination.host if destination.tls else None
        if destination.unix_path:
            async with budget.step():
                _, connection = await loop.create_unix_connection(
                    make_connection,
                    destination.unix_path,
                    ssl=destination.tls,
                    server_hostname=server_name,
                )
            return connection
        connected, address = await self._connect(destination, loop, budget)
        try:
            async with budget.step():
                _, connection = await loop.create_connection(
                    make_connection,
                    sock=connected,
                    ssl=destination.tls,
                    server_hostname=server_name,
                )
        except OSError:  # TimeoutError is one
            self._history.note_late(address, destination.port)
            raise
        self._history.note_good(address, destination.port)
        return connection

    async def _connect(
        self, destination: Destination, loop: asyncio.AbstractEventLoop, budget: _Budget
    ) -> tuple[socket.socket, ResolvedAddress]:
        """Return a socket connected to one of the destination's addresses, and that address."""
        patience_seconds = min(_RESOLVER_PATIENCE_SECONDS, destination.connect_timeout_seconds / 4)
        async with budget.step():
            found = await self._resolver.find(destination.host, patience_seconds)
        race = Race(
            loop,
            self._history.order(interleave(found), destination.port),
            destination.port,
            head_start_seconds(budget.left_seconds, len(found)),
            lambda address: self._history.note_late(address, destination.port),
        )
        try:
            async with budget.step():
                return await race.run()
        except OSError:
            self._resolver.refresh_soon(destination.host)
            raise


class _Budget:
    """The time that the steps of opening one connection share.

    Each step has its own time-out, so that its sockets are polled at least once, even if a busy
    loop starts the step when the budget is used up.
    """

    __slots__ = ("_clock", "_end")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left_seconds(self) -> float:
        return max(0.0, self._end - self._clock())

    def step(self) -> AbstractAsyncContextManager[None]:
        """Return a context that raises ``TimeoutError`` once the rest of the budget is used up."""
        return timeout(self.left_seconds)


def interleave(addresses: ResolvedAddresses) -> list[ResolvedAddress]:
    """Alternate between the address families, the resolver's preferred one first (RFC 8305 section
    4).
    """
    preferred = addresses[0].family
    first = [address for address in addresses if address.family == preferred]
    second = [address for address in addresses if address.family != preferred]
    return [one for pair in zip_longest(first, second) for one in pair if one is not None]


def head_start_seconds(budget_seconds: float, count: int) -> float:
    """Return how long each of ``count`` addresses is tried before the next one starts.

    It is short enough to leave half of the budget to the last address.
    """
    fair = budget_seconds / (2 * count)
    return min(_HEAD_START_SECONDS, max(_LEAST_HEAD_START_SECONDS, fair))


class _AddressHistory:
    """Which addresses failed or were slow recently, the most recent last; bounded."""

    __slots__ = ("_clock", "_late_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late_at: dict[tuple[ResolvedAddress, int], float] = {}

    def note_late(self, address: ResolvedAddress, port: int) -> None:
        self._late_at.pop((address, port), None)
        self._late_at[address, port] = self._clock()
        if len(self._late_at) > _MOST_REMEMBERED:
            del self._late_at[next(iter(self._late_at))]

    def note_good(self, address: ResolvedAddress, port: int) -> None:
        self._late_at.pop((address, port), None)

    def order(self, addresses: list[ResolvedAddress], port: int) -> list[ResolvedAddress]:
        """Sort late addresses behind the others, the most recently late one last."""
        since = self._clock() - _REMEMBERED_SECONDS

        def late_at(address: ResolvedAddress) -> float:
            return max(since, self._late_at.get((address, port), since))

        return sorted(addresses, key=late_at)
