"""Look-ups that wait at the same moment share one round trip, and strangers wait for each other.

Callers put a ``Lookup`` into a queue and wait for it; the batch in flight belongs to nobody, so a
caller that leaves disturbs neither the batch nor the order of replies. Whatever goes wrong with a
batch, its connection is thrown away.

The way to Redis is in one of three states::

    open     a link is up; look-ups go out in batches, one batch in flight
    opening  a link is being made (the first one, or the last one was closed); look-ups wait
    away     making a link, or a batch, has failed; look-ups fail at once, and a link is tried
             every ``RETRY_SECONDS`` until one is up: then *open* again

A batch that loses its connection is sent once more on a new one, as reading twice does no harm;
that is what a restarted or failed-over Redis costs when it is back quickly.

**How long.** Redis has a budget for each batch, and the link has one to come up; both are measured
as ``budgets`` says. When a link takes longer, those who wait for it fail, and the opening goes on.

**Whose turn.** More than a batch is a crowd: it waits in a ``FairQueue``, by network, so that a
flood delays others by a batch or two. What finds no room there is ``Overloaded``.

**Handing out.** A value resumes its caller, who answers and perhaps asks again. A batch is handed
out ``MOST_AT_ONCE`` values to a turn of the loop, so that one answer of Redis never holds up all
other connections; meanwhile the next batch is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

import hiredis

from sidecar.core.errors import Fault, Overloaded, StoreUnavailable
from sidecar.eager import Wakeup
from sidecar.store.budgets import TICKS
from sidecar.store.fair_queue import FairQueue
from sidecar.store.faults import describe
from sidecar.timeouts import DueCall

RETRY_SECONDS = 0.1
HEARTBEAT_SECONDS = 1.0
MOST_IN_BATCH: Final = 256
MOST_WAITING = 16_384
MOST_OF_NETWORK: Final = 4096
MOST_AT_ONCE: Final = 32
_AT_ONCE_SECONDS: Final = 0.005  # and no more values in a turn once these are over
_FLIGHT_TICKS: Final = 5  # a batch needs a turn to be written and one to be read
_CLOCK_SECONDS: Final = 0.001  # timers may be early by as much


class Source(Protocol):
    """What a batch is sent on: a ``sidecar.store.link.Link`` or the like of it for a Cluster."""

    @property
    def is_closed(self) -> bool:
        """Tell whether ``fetch`` has become pointless."""

    def fetch(self, keys: Sequence[bytes]) -> asyncio.Future[Any]:
        """Return a future of the values (``None``: no such key), in the order of ``keys``."""

    def abort(self) -> None:
        """Close at once; the future of a batch in flight fails or is cancelled."""


class Lookup(Wakeup):
    """A key that is wanted: await it for the value. One waits, and goes on when it is woken."""

    __slots__ = ("_fault", "_reason", "_value", "is_left", "is_over", "key")

    def __init__(self, loop: asyncio.AbstractEventLoop, key: bytes) -> None:
        super().__init__(loop)
        self.key = key
        self.is_over = False
        self.is_left = False
        """Whether its caller has gone: nobody wants the value."""
        self._value: Any = None
        self._fault: type[Fault] = StoreUnavailable
        self._reason: str | None = None

    def __await__(self) -> Generator[Wakeup, None, Any]:
        if not self.is_over:
            self._asyncio_future_blocking = True
            try:
                yield self
            except BaseException:
                self.is_left = True
                raise
        if self._reason is not None:
            raise self._fault(self._reason)
        return self._value

    def land(self, value: Any) -> None:
        """Let the caller go on with the value; no task may be running."""
        self._value = value
        self.is_over = True
        self.set_now()

    def settle(self, value: Any) -> None:
        """Say what the value is; ``wake`` lets the caller go on with it."""
        self._value = value
        self.is_over = True

    def fail(self, fault: type[Fault], reason: str) -> None:
        """Say that there will be no value: awaiting raises ``fault``."""
        self._fault = fault
        self._reason = reason
        self.is_over = True

    def wake(self) -> None:
        """Let the caller go on, now that it is over; no task may be running."""
        self.set_now()


class Lookups:
    """Values by key from Redis, many callers at once. Belongs to one event loop."""

    def __init__(
        self,
        open_source: Callable[[], Awaitable[Source]],
        budget_seconds: float,
        heartbeat_key: bytes | None = None,
    ) -> None:
        """With ``heartbeat_key``, that key is read once a second while nobody else asks.

        So a link that died without a word is known to be dead after a second and a budget.
        """
        self._open_source = open_source
        self._loop: asyncio.AbstractEventLoop | None = None
        self._budget_seconds = budget_seconds
        self._tick_seconds = budget_seconds / TICKS
        self._source: Source | None = None
        self._opening: asyncio.Task[None] | None = None
        self._away: str | None = None
        self._next: list[Lookup] = []  # a batch, unless more wait: those are in the queue
        self._queue: FairQueue[Lookup] = FairQueue(MOST_WAITING, MOST_OF_NETWORK)
        self._flight: list[Lookup] = []
        self._settled: deque[Lookup] = deque()  # to be woken, a few in a turn
        self._is_flush_due = False
        self._is_waking = False
        self._has_resent = False
        self._due: DueCall | None = None
        self._since = 0.0  # when Redis was last asked for a batch or a link
        self._ticks = 0  # that passed since then
        self._heartbeat_key = heartbeat_key
        self._heartbeat: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Lookups {self.state}, {self._waiting} waiting, {len(self._flight)} in flight>"

    @property
    def state(self) -> str:
        """``open``, ``opening`` or ``away``, as the module describes them."""
        if self._away is not None:
            return "away"
        return "opening" if self._source is None or self._source.is_closed else "open"

    @property
    def _waiting(self) -> int:
        return len(self._next) + len(self._queue)

    def get(self, key: bytes, asker: str = "") -> Lookup:
        """Ask for the value at ``key``: to be awaited, at once; ``None`` when there is none.

        ``asker`` is who waits behind its own look-ups (``FairQueue``). A Cluster's node may give an
        error reply instead, which says where else to ask. Awaiting raises ``StoreUnavailable`` if
        Redis does not answer within the budget, at once if it is away, and ``Overloaded`` at once
        if too many look-ups wait already.
        """
        loop = self._loop
        if loop is None:  # to look for it costs a system call each time
            loop = self._loop = asyncio.get_running_loop()
        lookup = Lookup(loop, key)
        if self._away is not None:
            lookup.fail(StoreUnavailable, self._away)
            return lookup
        if not self._flight and not self._next:
            self._begin_to_wait(loop)
        if len(self._next) < MOST_IN_BATCH and not len(self._queue):
            self._next.append(lookup)
        elif not self._queue.put(asker, lookup):
            lookup.fail(Overloaded, "too many look-ups are waiting for Redis")
            return lookup
        if not self._flight and not self._is_flush_due:
            self._is_flush_due = True
            loop.call_soon(self._flush)
        return lookup

    def _begin_to_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the time from now on, and see that the heart beats."""
        self._since, self._ticks = loop.time(), 0
        if self._due is None:
            self._due = DueCall(loop, self._tick_seconds, self._tick)
        if self._heartbeat is None and self._heartbeat_key is not None:
            self._heartbeat = loop.call_later(HEARTBEAT_SECONDS, self._beat, self._heartbeat_key)

    def _beat(self, key: bytes) -> None:
        self._heartbeat = None
        if self._away is None and not self._flight and not self._waiting:
            self.get(key)  # what comes of it is for this queue alone
        elif self._heartbeat is None:
            loop = asyncio.get_running_loop()
            self._heartbeat = loop.call_later(HEARTBEAT_SECONDS, self._beat, key)

    def open(self) -> None:
        """Make a link now, and not only when first asked, unless one is up or being made."""
        if self.state == "opening":
            self._start_opening()

    async def close(self) -> None:
        """Fail what waits and close the connection. Idempotent; a later ``get`` opens a new one."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        self._fail_all("the store was closed")
        self._away = None
        if self._due is not None:
            self._due.cancel()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._due = self._heartbeat = None

    def _flush(self) -> None:
        """Send what waits, up to a batch, unless a batch is in flight or no link is up."""
        self._is_flush_due = False
        if self._flight or self._away is not None:
            return
        if self._source is None or self._source.is_closed:
            self._start_opening()
            return
        if len(self._settled) >= MOST_IN_BATCH:
            return  # enough answers are here: _wake goes on
        batch = self._next_batch()
        if batch and self._loop is not None:
            self._flight = batch
            self._since, self._ticks = self._loop.time(), 0
            answer = self._source.fetch([lookup.key for lookup in batch])
            answer.add_done_callback(partial(self._land, batch))

    def _next_batch(self) -> list[Lookup]:
        batch: list[Lookup] = []
        while self._waiting and not batch:
            if self._next:
                taken, self._next = self._next[:MOST_IN_BATCH], self._next[MOST_IN_BATCH:]
            else:
                taken = self._queue.take(MOST_IN_BATCH)
            batch = [lookup for lookup in taken if not lookup.is_left]
        return batch

    def _land(self, batch: list[Lookup], answer: asyncio.Future[Any]) -> None:
        """Hand out a batch's values; ``batch`` may have been given up before they came."""
        if self._flight is not batch:
            return
        fault = _fault_of(answer, len(batch))
        if fault is not None:
            self._crash(fault)
            return
        self._flight = []
        self._has_resent = False
        if self._waiting:  # first: what it asks is under way while these go on
            self._flush()
        values: list[Any] = answer.result()
        if len(batch) <= MOST_AT_ONCE and not self._settled:
            for lookup, value in zip(batch, values, strict=True):
                lookup.land(value)
            return
        for lookup, value in zip(batch, values, strict=True):
            lookup.settle(value)
        self._settled.extend(batch)
        if not self._is_waking:
            self._wake()

    def _wake(self) -> None:
        """Let some of those go on whose look-up is over, and the others in the turns to come."""
        self._is_waking = True  # also while they go on, and perhaps ask again
        until = perf_counter() + _AT_ONCE_SECONDS
        for _ in range(min(MOST_AT_ONCE, len(self._settled))):
            self._settled.popleft().wake()
            if perf_counter() >= until:
                break
        self._is_waking = bool(self._settled)
        if self._is_waking:
            asyncio.get_running_loop().call_soon(self._wake)
        if self._waiting:
            self._flush()

    def _crash(self, fault: BaseException) -> None:
        """Take a batch's failure: once a lost connection is made anew, all else means *away*."""
        if not isinstance(fault, OSError) or self._has_resent:
            self._go_away(describe(fault))
            return
        self._has_resent = True
        self._next = self._flight + self._next
        self._flight = []
        self._drop_source()
        self._start_opening()

    def _tick(self) -> None:
        """Go away once Redis has had its budget for the batch in flight, or for the link.

        Runs while somebody waits, and only after the loop has looked at its sockets.
        """
        self._due = None
        if not self._flight and not self._waiting:
            return
        loop = asyncio.get_running_loop()
        left = self._since + self._budget_seconds - loop.time()
        self._ticks += 1
        if self._ticks >= (_FLIGHT_TICKS if self._flight else TICKS) and left < _CLOCK_SECONDS:
            if self._flight or self.state == "opening":
                self._go_away(f"Redis did not answer within {self._budget_seconds * 1000:.0f} ms")
                return
            self._since, self._ticks = loop.time(), 0  # it is our turn to go on, not Redis's
        pause = min(self._tick_seconds, left) if left > 0 else self._tick_seconds
        self._due = DueCall(loop, pause, self._tick)

    def _go_away(self, reason: str) -> None:
        self._away = reason
        self._fail_all(reason)
        self._start_opening()

    def _fail_all(self, reason: str) -> None:
        failed = [*self._flight, *self._next, *self._queue.take(len(self._queue))]
        self._flight = []
        self._next = []
        self._drop_source()
        for lookup in failed:
            lookup.fail(StoreUnavailable, reason)
        self._settled.extend(failed)
        if failed and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _drop_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.abort()

    def _start_opening(self) -> None:
        if self._opening is None:
            loop = asyncio.get_running_loop()
            self._since, self._ticks = loop.time(), 0
            self._opening = loop.create_task(self._keep_opening())

    async def _keep_opening(self) -> None:
        """Try for a link until one is up. An attempt bounds its steps itself, and is let end."""
        while True:
            try:
                self._source = await self._open_source()
                break
            except Exception as error:  # whatever it is, trying must not end
                self._away = describe(error)
                self._fail_all(self._away)
            await asyncio.sleep(RETRY_SECONDS)
        self._opening = None
        self._away = None
        self._flush()


def _fault_of(answer: asyncio.Future[Any], expected: int) -> BaseException | None:
    """Return what is wrong with an answer: an error, an error reply, no list of that length."""
    if answer.cancelled():
        return ConnectionAbortedError("the batch was given up")
    error = answer.exception()
    if error is not None:
        return error
    values = answer.result()
    if isinstance(values, hiredis.ReplyError):
        return values
    if not isinstance(values, list) or len(values) != expected:
        return hiredis.ProtocolError("not the answer to what was asked")
    return None
