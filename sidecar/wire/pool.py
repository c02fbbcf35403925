"""Which connection to an upstream serves an exchange: the most recently used idle one, else a new
one.

A pool never has more than ``max_connections``. A request that finds none waits for at most the
connect time-out; ``shares`` decides which waiting request is served next, and whether an exchange
is ended to make room. An idle connection that closes or sends unsolicited bytes is dropped at once;
one whose last response has declared a body that must not follow rests before it is lent again.
One that has been idle for longer than upstreams commonly allow is not reused, nor is one that has
reached its maximum age: so a name that moves to another address is followed even under constant
load.

A connection that may be authenticated as one caller (``core.connection_auth``) is *bound*: it is
lent only to the client connection that it was first lent to, for the same account and address. It
is closed with that client connection, or when a waiting request could use its place.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf
from random import getrandbits  # seeded anew after a fork
from typing import Final

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from sidecar.core.os_errors import reason_of
from sidecar.outgoing.racing import EXHAUSTED
from sidecar.timeouts import timeout
from sidecar.wire.destination import Destination
from sidecar.wire.dialing import Dialer
from sidecar.wire.responses import HeadMemory
from sidecar.wire.shares import RESERVED_SHARE, Shares, Waiter
from sidecar.wire.upstream import Borrower, UpstreamConnection

_IDLE_SECONDS: Final = 4.0  # Node.js and uvicorn close idle connections after 5
_BOUND_IDLE_SECONDS: Final = 60.0  # longer: a new one has to be authenticated again
_SHARES_IDLE_SECONDS: Final = 1.0  # after which unused shares are discarded
_SETTLE_SECONDS: Final = 0.1  # a body behind its head comes within a round trip
_SOON_SECONDS: Final = 0.005  # so that one retry serves many waiting requests


class Nobody:
    """A borrower of which nothing is known."""

    account = ""
    client = ""
    token_id = ""


NOBODY: Final = Nobody()
_AGE_JITTER: Final = 0.2  # so that connections opened together do not all expire together


Opener = Callable[
    [Destination, asyncio.AbstractEventLoop, Callable[[], UpstreamConnection]],
    Awaitable[UpstreamConnection],
]
"""Opens a connection to a destination, with a protocol from the given factory.

Raises ``TimeoutError`` once the connect time-out is over, or another ``OSError``.
"""


class Pool:
    """The connections to one upstream."""

    def __init__(
        self,
        destination: Destination,
        loop: asyncio.AbstractEventLoop,
        open_connection: Opener | None = None,
    ) -> None:
        self.destination = destination
        self._open_connection = open_connection or Dialer().open
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._opening: list[Borrower] = []
        self._bound: dict[UpstreamConnection, None] = {}
        self._shares: Shares | None = None
        self._unreserved = (
            destination.max_connections - destination.max_connections // RESERVED_SHARE
        )
        self._asked_at = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._memory = HeadMemory()
        self.opened = 0
        """How many connections were opened since the start."""
        self.retries = 0
        """How many requests were sent a second time, because a kept connection had gone stale."""

    def __repr__(self) -> str:
        state = f"open={len(self._open)} idle={len(self._idle)} waiting={self.waiting_count}"
        return f"<Pool {self.destination.name} {state}>"

    @property
    def open_count(self) -> int:
        """How many connections are open or being opened."""
        return len(self._open) + len(self._opening)

    @property
    def idle_count(self) -> int:
        """How many connections are idle."""
        return len(self._idle) + len(self._bound)

    @property
    def waiting_count(self) -> int:
        """How many exchanges wait for a connection."""
        return 0 if self._shares is None else self._shares.waiting_count

    def take_idle(
        self, borrower: Borrower = NOBODY, bound: Sequence[UpstreamConnection] = ()
    ) -> UpstreamConnection | None:
        """Lend a kept connection if one is usable: one ``bound`` to the client's connection, else
        one that is free for anyone.
        """
        if bound and (own := self._take_bound(borrower, bound)) is not None:
            return own
        if len(self._open) > self._unreserved and not self._may_lend(borrower):
            return None
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open and _is_fresh(connection, self._loop.time()):
                connection.borrower = borrower
                if self._shares is not None:
                    self._shares.hold(borrower)
                return connection
            connection.abort()
        return None

    async def connect(self, borrower: Borrower = NOBODY) -> UpstreamConnection:
        """Lend a new connection.

        Raises ``UpstreamUnreachable``, ``UpstreamTimeout``, or ``Overloaded`` if all places that
        the borrower may have (``shares``) are taken, and none is freed within the connect time-out,
        or if the process has run out of descriptors.
        """
        if self.open_count < self.destination.max_connections and self._may_lend(borrower):
            self._opening.append(borrower)
            if self._shares is not None:
                self._shares.hold(borrower)
        else:
            kept = await self._wait_for_place(borrower)
            if kept is not None:
                return kept
        connection: UpstreamConnection | None = None
        try:
            connection = await self._open_connection(
                self.destination, self._loop, self._make_connection
            )
            self.opened += 1
            connection.borrower = borrower
            connection.expires_at = self._choose_expiry()
            if connection.transport is not None:
                self._open.add(connection)
            return connection
        except TimeoutError:
            raise UpstreamTimeout(f"no connection to {self.destination.address} in time") from None
        except (OSError, ssl.SSLError) as error:
            if error.errno in EXHAUSTED:
                raise Overloaded(
                    f"no file descriptor is left to connect to {self.destination.address}"
                ) from None
            raise UpstreamUnreachable(
                f"no connection to {self.destination.address}: {_reason_of(error)}"
            ) from None
        finally:
            self._opening.remove(borrower)
            if connection is None and self._shares is not None:
                self._shares.release(borrower)
            self._admit_next()

    def bind(self, connection: UpstreamConnection, bound: list[UpstreamConnection]) -> None:
        """Reserve a lent connection for its borrower, and add it to the client connection's
        ``bound``.
        """
        borrower = connection.borrower
        if borrower is not None and connection.bound_to is None:
            connection.bound_to = (borrower.account, borrower.client)
            bound[:] = [other for other in bound if other.is_open]
            bound.append(connection)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Take a lent connection back, and keep it if no byte of its exchange can leak into the
        next one; otherwise close it.
        """
        connection.sink = None
        borrower, connection.borrower = connection.borrower, None
        if self._shares is not None and borrower is not None:
            self._shares.release(borrower)
        if connection.is_reusable and not self._is_closed:
            connection.set_reading(
                True
            )  # a slow client may have paused it; and a close must be seen
            if connection.may_get_late_bytes and connection.bound_to is None:
                self._let_settle(connection)
            else:
                self._keep(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close idle connections now, and lent ones when they are given back."""
        self._is_closed = True
        for connection in self._bound:
            connection.abort()
        while self._idle:
            self._idle.pop().abort()

    def drop_idle(self) -> None:
        """Close connections that are kept for anyone: another upstream needs their descriptors."""
        while self._idle:
            self._idle.pop().abort()

    def drop_stale(self) -> None:
        """Close connections that have been idle for too long or are too old; call periodically."""
        now = self._loop.time()
        stale = [connection for connection in self._idle if not _is_fresh(connection, now)]
        self._idle = [connection for connection in self._idle if _is_fresh(connection, now)]
        stale += [c for c in self._bound if c.idle_since < now - _BOUND_IDLE_SECONDS]
        for connection in stale:
            connection.abort()
        shares = self._shares
        if shares is not None and shares.is_idle and now - self._asked_at > _SHARES_IDLE_SECONDS:
            self._shares = None

    def _make_connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._loop, self.destination.address, self._forget, self._memory)

    def _choose_expiry(self) -> float:
        """Return the loop time after which a connection that opens now is too old to be kept."""
        greatest = self.destination.max_age_seconds
        if greatest == 0:
            return inf
        return self._loop.time() + greatest * (1.0 - _AGE_JITTER * getrandbits(16) / 0xFFFF)

    # Lending.

    def _may_lend(self, borrower: Borrower) -> bool:
        """Tell whether a borrower may take one of the free places."""
        lent = self.open_count - self.idle_count
        return lent < self._unreserved or self._count_shares().may_hold_more(borrower)

    def _count_shares(self) -> Shares:
        """Return the record of who holds how many places, started now if there is none."""
        shares = self._shares
        if shares is None:
            lent = [c.borrower for c in self._open if c.borrower is not None]
            shares = Shares(self.destination.max_connections, lent + self._opening)
            self._shares = shares
        self._asked_at = self._loop.time()
        return shares

    def _take_bound(
        self, borrower: Borrower, bound: Iterable[UpstreamConnection]
    ) -> UpstreamConnection | None:
        """Lend this pool's connection among ``bound``, unless the client now acts for another
        caller, as a proxy may.
        """
        for connection in bound:
            if connection not in self._bound:
                continue
            del self._bound[connection]
            is_same = connection.bound_to == (borrower.account, borrower.client)
            if is_same and connection.is_open:
                connection.borrower = borrower
                if self._shares is not None:
                    self._shares.hold(borrower)
                return connection
            connection.abort()
        return None

    def _let_settle(self, connection: UpstreamConnection) -> None:
        """Keep a connection for later, unless the body that its last response has declared and must
        not have (HEAD, 304) comes meanwhile: any byte closes it. If places are short, close it now.
        """
        if self.waiting_count or self.open_count >= self.destination.max_connections:
            connection.abort()
        else:
            self._loop.call_later(_SETTLE_SECONDS, self._keep_settled, connection)

    def _keep_settled(self, connection: UpstreamConnection) -> None:
        if self._is_closed:
            connection.abort()
        elif connection.is_open:
            self._keep(connection)

    def _keep(self, connection: UpstreamConnection) -> None:
        """Give a reusable connection to the next waiting request, or keep it idle."""
        if connection.bound_to is not None:
            self._keep_bound(connection)
            return
        now = self._loop.time()
        if now >= connection.expires_at:
            connection.abort()
            return
        waiter = self._next_waiter()
        if waiter is not None:
            connection.borrower = waiter.borrower
            waiter.future.set_result(connection)
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def _keep_bound(self, connection: UpstreamConnection) -> None:
        connection.idle_since = self._loop.time()
        self._bound[connection] = None
        if self.waiting_count:
            self._close_one_bound()

    def _close_one_bound(self) -> None:
        """Close the bound connection that has been idle for the longest, for a waiting request."""
        if self._bound:
            connection = next(iter(self._bound))
            del self._bound[connection]
            connection.abort()

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection not in self._open:
            return
        self._open.remove(connection)
        self._bound.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)
        borrower, connection.borrower = connection.borrower, None
        shares = self._shares
        if shares is not None and borrower is not None:
            shares.release(borrower)
        self._admit_next()
        if shares is not None:
            shares.forget(connection)

    # Waiting.

    async def _wait_for_place(self, borrower: Borrower) -> UpstreamConnection | None:
        """Wait for a kept connection, or for a place to open one: ``None``, counted in
        ``_opening``.
        """
        shares = self._count_shares()
        waiter = Waiter(borrower, self._loop.create_future())
        shares.join(waiter)
        self._close_one_bound()
        self._make_room(shares, [waiter])
        try:
            async with timeout(self.destination.connect_timeout_seconds):
                return await waiter.future
        except TimeoutError:
            self._cancel_wait(waiter)
            raise Overloaded(f"all connections to {self.destination.address} are in use") from None
        except asyncio.CancelledError:
            self._cancel_wait(waiter)
            raise

    def _make_room(self, shares: Shares, waiters: list[Waiter]) -> None:
        """End exchanges for requests whose owner is below its share; retry while any wait."""
        if not shares.seconds_to_survey():
            shares.survey(self._open)
        for waiter in waiters:
            while (connection := shares.choose_victim(waiter)) is not None:
                connection.fail(Overloaded("ended to make room: its client held it up"))
        if self._retry is None:
            wait = shares.seconds_to_survey() + _SOON_SECONDS
            self._retry = self._loop.call_later(wait, self._make_room_again)

    def _make_room_again(self) -> None:
        self._retry = None
        if self._shares is not None and self._shares.waiting_count:
            self._make_room(self._shares, self._shares.neediest_waiters())

    def _cancel_wait(self, waiter: Waiter) -> None:
        """Pass on what a waiting request received just before it was cancelled."""
        future = waiter.future
        if not future.done() or future.cancelled():
            if self._shares is not None:
                self._shares.leave(waiter)
        elif (connection := future.result()) is not None:
            self.give_back(connection)
        else:
            self._opening.remove(waiter.borrower)
            if self._shares is not None:
                self._shares.release(waiter.borrower)
            self._admit_next()

    def _admit_next(self) -> None:
        """Give a place that has become free to the next waiting request."""
        if self.open_count < self.destination.max_connections:
            waiter = self._next_waiter()
            if waiter is not None:
                self._opening.append(waiter.borrower)
                waiter.future.set_result(None)

    def _next_waiter(self) -> Waiter | None:
        return None if self._shares is None else self._shares.next_waiter()


def _is_fresh(connection: UpstreamConnection, now: float) -> bool:
    """Tell whether an idle connection may be lent again."""
    return now - connection.idle_since < _IDLE_SECONDS and now < connection.expires_at


def _reason_of(error: OSError) -> str:
    """Return why a connection failed; of several addresses, ``racing`` has told each reason."""
    if error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror
    return reason_of(error)
