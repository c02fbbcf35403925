"""How a TCP connection to a host is opened: resolve its name, and try its addresses.

The addresses of a name share one budget, the time to connect, and are raced as RFC 8305 describes
("Happy Eyeballs"): an address that drops packets costs a quarter of a second, and costs it once
rather than for every caller. Addresses that failed or were slow within the last minute are tried
after the others.

The event loop could do it, but resolves names in libuv's four threads: four names whose resolver
hangs would stop every other one.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AbstractAsyncContextManager
from itertools import zip_longest
from typing import Final

from sidecar.outgoing.racing import Race
from sidecar.outgoing.resolver import CachingResolver, Clock, ResolvedAddress, ResolvedAddresses
from sidecar.timeouts import timeout

_HEAD_START_SECONDS: Final = 0.25  # RFC 8305 section 8: the recommended delay,
_LEAST_HEAD_START_SECONDS: Final = 0.01  # and the least
_RESOLVER_PATIENCE_SECONDS: Final = 0.1  # after which the last good answer is used instead
_REMEMBERED_SECONDS: Final = 60.0
_MOST_REMEMBERED: Final = 1024


class Connector:
    """Connects sockets, and remembers which names and addresses work."""

    def __init__(
        self, resolver: CachingResolver | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._resolver = resolver or CachingResolver()
        self._clock = clock
        self._history = _AddressHistory(clock)

    def budget(self, seconds: float) -> Budget:
        """Return a budget for one connection and what follows on it."""
        return Budget(seconds, self._clock)

    async def connect(
        self, host: str, port: int, budget: Budget
    ) -> tuple[socket.socket, ResolvedAddress]:
        """Return a socket connected to one of the host's addresses, and that address.

        Raises ``TimeoutError``, or another ``OSError``.
        """
        patience_seconds = min(_RESOLVER_PATIENCE_SECONDS, budget.left_seconds / 4)
        async with budget.step():
            found = await self._resolver.find(host, patience_seconds)
        race = Race(
            asyncio.get_running_loop(),
            self._history.order(interleave(found), port),
            port,
            head_start_seconds(budget.left_seconds, len(found)),
            lambda address: self._history.note_late(address, port),
        )
        try:
            async with budget.step():
                return await race.run()
        except OSError:
            self._resolver.refresh_soon(host)
            raise

    def note_late(self, address: ResolvedAddress, port: int) -> None:
        """Try this address after the others for a while: it accepts, and then does not answer."""
        self._history.note_late(address, port)

    def note_good(self, address: ResolvedAddress, port: int) -> None:
        """Try this address in its turn again."""
        self._history.note_good(address, port)


class Budget:
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
        """What is left of the budget; 0 or more."""
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
