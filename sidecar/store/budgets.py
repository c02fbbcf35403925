"""How long a step towards Redis may take, so that a busy loop never passes for a dead Redis.

A step needs several iterations of the event loop: to connect, resume a task, write a command, read
its reply. A loop whose iterations take as long as the budget never gets that far, and a timer that
fires says nothing about Redis. So a budget is spent in ``TICKS`` equal parts, and a part is spent
only once its time is up *and* the loop has polled its sockets since (``timeouts``). On an idle loop
that makes no difference. On a busy one a step gets some ``3 * TICKS`` iterations, however long they
take: twice as many as the longest step needs (redis-py signing in to a Sentinel over TLS).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from sidecar.timeouts import DueCall

TICKS: Final = 20


class Budget:
    """Calls ``on_spent`` once ``seconds`` are spent, unless cancelled."""

    __slots__ = ("_due", "_left", "_loop", "_on_spent", "_tick_seconds")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, on_spent: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._tick_seconds = seconds / TICKS
        self._left = TICKS
        self._on_spent = on_spent
        self._due = DueCall(loop, self._tick_seconds, self._tick)

    def cancel(self) -> None:
        """Do not call ``on_spent``; no effect once it was called."""
        self._due.cancel()

    def _tick(self) -> None:
        self._left -= 1
        if self._left:
            self._due = DueCall(self._loop, self._tick_seconds, self._tick)
        else:
            self._on_spent()


@asynccontextmanager
async def limit(seconds: float) -> AsyncIterator[None]:
    """Raise ``TimeoutError`` if the budget is spent before the body ends."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as bound:
        budget = Budget(loop, seconds, lambda: bound.reschedule(loop.time()))
        try:
            yield
        finally:
            budget.cancel()


async def ended(
    tasks: Iterable[asyncio.Task[Any]], seconds: float
) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
    """Wait for all tasks until the budget is spent; return those that ended, and the others.

    Like ``asyncio.wait``, it cancels none.
    """
    awaited = {*tasks}
    with suppress(TimeoutError):
        async with limit(seconds):
            await asyncio.wait(awaited)
    done = {task for task in awaited if task.done()}
    return done, awaited - done
