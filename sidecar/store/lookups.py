"""Look-ups that wait at the same moment share one round trip; none waits longer than its budget.

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
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import Any, Protocol

import hiredis

from sidecar.core.errors import StoreUnavailable
from sidecar.store.faults import describe
from sidecar.turns import Signal

RETRY_SECONDS = 0.1
HEARTBEAT_SECONDS = 1.0
MOST_IN_BATCH = 256
MOST_WAITING = 16_384

STALL_SECONDS = 0.02  # a timer this late says that this process slept, not that Redis did


class Source(Protocol):
    """What a batch is sent on: a ``sidecar.store.link.Link`` or the like of it for a Cluster."""

    @property
    def is_closed(self) -> bool:
        """Tell whether ``fetch`` has become pointless."""

    def fetch(self, keys: Sequence[bytes]) -> asyncio.Future[Any]:
        """Return a future of the values (``None``: no such key), in the order of ``keys``."""

    def abort(self) -> None:
        """Close at once; the future of a batch in flight fails or is cancelled."""


class Lookup(Signal):
    """A key that is wanted: await it for the value. One waits, and goes on when the batch lands."""

    __slots__ = ("_reason", "_value", "asked_at", "is_left", "is_over", "key")

    def __init__(self, loop: asyncio.AbstractEventLoop, key: bytes, asked_at: float) -> None:
        """``asked_at`` is the loop's time, or that of one that has waited longer."""
        super().__init__(loop)
        self.key = key
        self.asked_at = asked_at
        self.is_over = False
        self.is_left = False
        """Whether its caller has gone: nobody wants the value."""
        self._value: Any = None
        self._reason: str | None = None

    def __await__(self) -> Generator[Signal, None, Any]:
        if not self.is_over:
            self._asyncio_future_blocking = True
            try:
                yield self
            except BaseException:
                self.is_left = True
                raise
        if self._reason is not None:
            raise StoreUnavailable(self._reason)
        return self._value

    def land(self, value: Any) -> None:
        """Give the value to who waits; no task may be running."""
        self._value = value
        self.is_over = True
        self.give_freely()

    def fail(self, reason: str) -> None:
        """Have who waits raise ``StoreUnavailable``."""
        self._reason = reason
        self.is_over = True
        self.give()


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
        self._source: Source | None = None
        self._opening: asyncio.Task[None] | None = None
        self._away: str | None = None
        self._waiting: list[Lookup] = []
        self._flight: list[Lookup] = []
        self._is_flush_due = False
        self._has_resent = False
        self._has_stalled = False
        self._deadline: asyncio.TimerHandle | None = None
        self._heartbeat_key = heartbeat_key
        self._heartbeat: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return (
            f"<Lookups {self.state}, {len(self._waiting)} waiting, {len(self._flight)} in flight>"
        )

    @property
    def state(self) -> str:
        """``open``, ``opening`` or ``away``, as the module describes them."""
        if self._away is not None:
            return "away"
        return "opening" if self._source is None or self._source.is_closed else "open"

    def get(self, key: bytes) -> Lookup:
        """Ask for the value at ``key``: to be awaited, at once; ``None`` when there is none.

        A Cluster's node may give an error reply instead, which says where else to ask. Awaiting
        raises ``StoreUnavailable`` within the budget; at once if Redis is away or the queue full.
        """
        if self._away is None and len(self._waiting) < MOST_WAITING:
            return self._ask(key)
        loop = asyncio.get_running_loop()
        lookup = Lookup(loop, key, loop.time())
        full = f"more than {MOST_WAITING} look-ups are waiting for Redis"
        lookup.fail(full if self._away is None else self._away)
        return lookup

    def _ask(self, key: bytes) -> Lookup:
        loop = self._loop
        if loop is None:  # to look for it costs a system call each time
            loop = self._loop = asyncio.get_running_loop()
        # Who waits with others has waited as long: the first one's time is everybody's end.
        asked_at = self._waiting[-1].asked_at if self._waiting else loop.time()
        lookup = Lookup(loop, key, asked_at)
        self._waiting.append(lookup)
        if not self._flight and not self._is_flush_due:
            self._is_flush_due = True
            loop.call_soon(self._flush)
        if self._deadline is None:
            self._deadline = loop.call_later(self._budget_seconds, self._check_deadline)
        if self._heartbeat is None and self._heartbeat_key is not None:
            self._heartbeat = loop.call_later(HEARTBEAT_SECONDS, self._beat, self._heartbeat_key)
        return lookup

    def _beat(self, key: bytes) -> None:
        self._heartbeat = None
        if self._away is None and not self._flight and not self._waiting:
            self._ask(key)  # what comes of it is for this queue alone
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
        for timer in (self._deadline, self._heartbeat):
            if timer is not None:
                timer.cancel()
        self._deadline = self._heartbeat = None

    def _flush(self) -> None:
        """Send what waits, up to a batch, unless a batch is in flight or no link is up."""
        self._is_flush_due = False
        if self._flight or self._away is not None:
            return
        if self._source is None or self._source.is_closed:
            self._start_opening()
            return
        batch = self._next_batch()
        if batch:
            self._flight = batch
            answer = self._source.fetch([lookup.key for lookup in batch])
            answer.add_done_callback(partial(self._land, batch))

    def _next_batch(self) -> list[Lookup]:
        batch: list[Lookup] = []
        while self._waiting and not batch:
            taken = self._waiting[:MOST_IN_BATCH]
            self._waiting = self._waiting[MOST_IN_BATCH:]
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
        self._has_resent = self._has_stalled = False
        if self._waiting:  # first: what it asks is under way while these go on
            self._flush()
        values: list[Any] = answer.result()
        for lookup, value in zip(batch, values, strict=True):
            lookup.land(value)

    def _crash(self, fault: BaseException) -> None:
        """Take a batch's failure: once a lost connection is made anew, all else means *away*."""
        if not isinstance(fault, OSError) or self._has_resent:
            self._go_away(describe(fault))
            return
        self._has_resent = True
        self._waiting = self._flight + self._waiting
        self._flight = []
        self._drop_source()
        self._start_opening()

    def _check_deadline(self) -> None:
        """Go away if the oldest look-up has had its budget, else look again when it will have."""
        self._deadline = None
        oldest = self._flight or self._waiting
        if not oldest:
            return
        loop = asyncio.get_running_loop()
        due = oldest[0].asked_at + self._budget_seconds
        late = loop.time() - due
        if late > STALL_SECONDS and not self._has_stalled:
            self._has_stalled = True  # the answer may be in the socket already: read that first
            due += late + STALL_SECONDS
        elif late > -0.001:
            self._go_away(f"Redis did not answer within {self._budget_seconds * 1000:.0f} ms")
            return
        self._deadline = loop.call_at(due, self._check_deadline)

    def _go_away(self, reason: str) -> None:
        self._away = reason
        self._fail_all(reason)
        self._start_opening()

    def _fail_all(self, reason: str) -> None:
        failed = [*self._flight, *self._waiting]
        self._flight = []
        self._waiting.clear()
        self._drop_source()
        for lookup in failed:
            lookup.fail(reason)

    def _drop_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.abort()

    def _start_opening(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._keep_opening())

    async def _keep_opening(self) -> None:
        """Try for a link, each attempt within the budget, until one is up."""
        while True:
            try:
                async with asyncio.timeout(self._budget_seconds):
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
