"""Look-ups that are pending at the same time share one round trip; networks take turns.

A caller queues a ``Lookup`` and awaits it. No caller owns the batch in flight, so a caller that is
cancelled disturbs neither the batch nor the order of replies. If anything goes wrong with a batch,
its connection is closed.

The connection to Redis is in one of three states::

    open     a link is up; look-ups go out in batches, one batch in flight
    opening  a link is being opened (the first one, or the last one was closed); look-ups wait
    away     opening a link, or a batch, has failed; look-ups fail at once, and every
             ``RETRY_SECONDS`` a link is tried, until one is up: then *open* again

A batch that loses its connection is sent once more on a new one, as reading twice is harmless. So a
Redis that restarts or fails over quickly causes a delay and no error.

**Time.** Redis has a budget for each batch, and a link has one to come up; both are measured as
``budgets`` says. When a link takes longer, the waiting look-ups fail, and the opening goes on.

**Fairness.** Look-ups beyond one batch wait in a ``FairQueue``, by network, so that a flood delays
others by a batch or two. A look-up that finds no room there fails with ``Overloaded``.

**Delivery.** A value resumes its caller, which answers and perhaps asks again. A batch resumes
``MOST_AT_ONCE`` callers in one iteration of the loop, so that one reply of Redis does not hold up
all other connections; meanwhile the next batch is under way.
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
_AT_ONCE_SECONDS: Final = 0.005  # and no more in one iteration after this time
_FLIGHT_TICKS: Final = 5  # a batch needs one iteration to be written and one to be read
_CLOCK_SECONDS: Final = 0.001  # timers may be early by as much


class Source(Protocol):
    """What a batch is sent on: a ``RedisLink``, or a ``NodeLink`` of a Cluster."""

    @property
    def is_closed(self) -> bool:
        """Whether ``fetch`` can no longer succeed."""

    def fetch(self, keys: Sequence[bytes]) -> asyncio.Future[Any]:
        """Return a future of the values (``None``: no such key), in the order of ``keys``."""

    def abort(self) -> None:
        """Close at once; the future of a batch in flight fails or is cancelled."""


class Lookup(Wakeup):
    """A look-up of one key: await it for the value. One coroutine may wait."""

    __slots__ = ("_fault", "_reason", "_value", "is_abandoned", "is_over", "key")

    def __init__(self, loop: asyncio.AbstractEventLoop, key: bytes) -> None:
        super().__init__(loop)
        self.key = key
        self.is_over = False
        self.is_abandoned = False
        """Whether the caller has stopped waiting."""
        self._value: Any = None
        self._fault: type[Fault] = StoreUnavailable
        self._reason: str | None = None

    def __await__(self) -> Generator[Wakeup, None, Any]:
        if not self.is_over:
            self._asyncio_future_blocking = True
            try:
                yield self
            except BaseException:
                self.is_abandoned = True
                raise
        if self._reason is not None:
            raise self._fault(self._reason)
        return self._value

    def deliver(self, value: Any) -> None:
        """Resume the caller with the value; no task may be running."""
        self._value = value
        self.is_over = True
        self.set_now()

    def settle(self, value: Any) -> None:
        """Set the value; ``wake`` resumes the caller."""
        self._value = value
        self.is_over = True

    def fail(self, fault: type[Fault], reason: str) -> None:
        """Set a failure: awaiting raises ``fault``. ``wake`` resumes the caller."""
        self._fault = fault
        self._reason = reason
        self.is_over = True

    def wake(self) -> None:
        """Resume the caller after ``settle`` or ``fail``; no task may be running."""
        self.set_now()


class Lookups:
    """Fetches values by key for many callers at once. Belongs to one event loop."""

    def __init__(
        self,
        open_source: Callable[[], Awaitable[Source]],
        budget_seconds: float,
        heartbeat_key: bytes | None = None,
    ) -> None:
        """With ``heartbeat_key``, that key is read once a second while there are no look-ups.

        A link that died silently is then found dead after a second and a budget.
        """
        self._open_source = open_source
        self._loop: asyncio.AbstractEventLoop | None = None
        self._budget_seconds = budget_seconds
        self._tick_seconds = budget_seconds / TICKS
        self._source: Source | None = None
        self._opening: asyncio.Task[None] | None = None
        self._away: str | None = None
        self._next: list[Lookup] = []  # the next batch; look-ups beyond it are in the queue
        self._queue: FairQueue[Lookup] = FairQueue(MOST_WAITING, MOST_OF_NETWORK)
        self._flight: list[Lookup] = []
        self._settled: deque[Lookup] = deque()  # to be woken, a few in each iteration
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
        """Return a look-up of ``key``, to be awaited at once; its value is ``None`` if absent.

        ``asker`` is the network whose look-ups share a line (``FairQueue``). With a Cluster the
        value may be an error reply, which says where else to ask. Awaiting raises
        ``StoreUnavailable`` if Redis does not answer within the budget, or at once while it is
        away, and ``Overloaded`` at once if too many look-ups wait already.
        """
        loop = self._loop
        if loop is None:  # finding the loop costs a system call each time
            loop = self._loop = asyncio.get_running_loop()
        lookup = Lookup(loop, key)
        if self._away is not None:
            lookup.fail(StoreUnavailable, self._away)
            return lookup
        if not self._flight and not self._next:
            self._start_timers(loop)
        if len(self._next) < MOST_IN_BATCH and not len(self._queue):
            self._next.append(lookup)
        elif not self._queue.put(asker, lookup):
            lookup.fail(Overloaded, "too many look-ups are waiting for Redis")
            return lookup
        if not self._flight and not self._is_flush_due:
            self._is_flush_due = True
            loop.call_soon(self._flush)
        return lookup

    def _start_timers(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the timer of the budget, and the heartbeat."""
        self._since, self._ticks = loop.time(), 0
        if self._due is None:
            self._due = DueCall(loop, self._tick_seconds, self._tick)
        if self._heartbeat is None and self._heartbeat_key is not None:
            self._heartbeat = loop.call_later(HEARTBEAT_SECONDS, self._beat, self._heartbeat_key)

    def _beat(self, key: bytes) -> None:
        self._heartbeat = None
        if self._away is None and not self._flight and not self._waiting:
            self.get(key)  # its outcome matters to this queue alone
        elif self._heartbeat is None:
            loop = asyncio.get_running_loop()
            self._heartbeat = loop.call_later(HEARTBEAT_SECONDS, self._beat, key)

    def open(self) -> None:
        """Open a link now instead of on the first look-up, unless there is one."""
        if self.state == "opening":
            self._start_opening()

    async def close(self) -> None:
        """Fail waiting look-ups and close the link. Idempotent; a later ``get`` opens a new one."""
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
        """Send the next batch, unless one is in flight or no link is up."""
        self._is_flush_due = False
        if self._flight or self._away is not None:
            return
        if self._source is None or self._source.is_closed:
            self._start_opening()
            return
        if len(self._settled) >= MOST_IN_BATCH:
            return  # enough values wait to be delivered: _wake goes on
        batch = self._next_batch()
        if batch and self._loop is not None:
            self._flight = batch
            self._since, self._ticks = self._loop.time(), 0
            answer = self._source.fetch([lookup.key for lookup in batch])
            answer.add_done_callback(partial(self._on_answer, batch))

    def _next_batch(self) -> list[Lookup]:
        batch: list[Lookup] = []
        while self._waiting and not batch:
            if self._next:
                taken, self._next = self._next[:MOST_IN_BATCH], self._next[MOST_IN_BATCH:]
            else:
                taken = self._queue.take(MOST_IN_BATCH)
            batch = [lookup for lookup in taken if not lookup.is_abandoned]
        return batch

    def _on_answer(self, batch: list[Lookup], answer: asyncio.Future[Any]) -> None:
        """Deliver a batch's values, unless the batch was given up before they came."""
        if self._flight is not batch:
            return
        fault = _fault_of(answer, len(batch))
        if fault is not None:
            self._on_batch_failed(fault)
            return
        self._flight = []
        self._has_resent = False
        if self._waiting:  # first: the next batch is under way while these callers run
            self._flush()
        values: list[Any] = answer.result()
        if len(batch) <= MOST_AT_ONCE and not self._settled:
            for lookup, value in zip(batch, values, strict=True):
                lookup.deliver(value)
            return
        for lookup, value in zip(batch, values, strict=True):
            lookup.settle(value)
        self._settled.extend(batch)
        if not self._is_waking:
            self._wake()

    def _wake(self) -> None:
        """Resume some callers whose look-up is over; the others in later iterations."""
        self._is_waking = True  # even while they run, and perhaps ask again
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

    def _on_batch_failed(self, fault: BaseException) -> None:
        """Send a batch again if its connection was lost, but only once; otherwise go *away*."""
        if not isinstance(fault, OSError) or self._has_resent:
            self._go_away(describe(fault))
            return
        self._has_resent = True
        self._next = self._flight + self._next
        self._flight = []
        self._drop_source()
        self._start_opening()

    def _tick(self) -> None:
        """Go *away* once the budget for the batch in flight, or for the link, is spent.

        Runs while a look-up is pending, and only after the loop has polled its sockets.
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
            self._since, self._ticks = loop.time(), 0  # the delay is ours, not that of Redis
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
        """Try to open a link until one is up. Each attempt limits its own time."""
        while True:
            try:
                self._source = await self._open_source()
                break
            except Exception as error:  # no error may end the attempts
                self._away = describe(error)
                self._fail_all(self._away)
            await asyncio.sleep(RETRY_SECONDS)
        self._opening = None
        self._away = None
        self._flush()


def _fault_of(answer: asyncio.Future[Any], expected: int) -> BaseException | None:
    """Return the fault of an answer: an error, an error reply, a reply of another form."""
    if answer.cancelled():
        return ConnectionAbortedError("the batch was given up")
    error = answer.exception()
    if error is not None:
        return error
    values = answer.result()
    if isinstance(values, hiredis.ReplyError):
        return values
    if not isinstance(values, list) or len(values) != expected:
        return hiredis.ProtocolError("a reply of another form than the question")
    return None
