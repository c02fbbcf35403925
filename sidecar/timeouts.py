"""Time limits that a busy event loop cannot fake.

A timer that fires says only that time has passed. When this process was busy or asleep, what was
waited for may have arrived meanwhile and lie unread in a socket, and calling that a time-out would
blame a healthy peer for our own delay. So a limit here is up only if the loop has looked at its
sockets, and delivered what they held, since the limit was due.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class DueCall:
    """A callback that runs ``seconds`` from now, after one more look at the sockets; see
    ``cancel``.

    Both uvloop and asyncio poll at least once between a callback and one that it schedules with
    ``call_soon`` from a callback scheduled likewise: hence two steps.
    """

    __slots__ = ("_callback", "_handle", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.Handle = (
            loop.call_later(seconds, self._look) if seconds > 0 else loop.call_soon(self._look)
        )

    def cancel(self) -> None:
        """Never run the callback; without effect once it has run."""
        self._handle.cancel()

    def _look(self) -> None:
        self._handle = self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        self._handle = self._loop.call_soon(self._callback)


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """Raise ``TimeoutError`` unless what runs inside ends within ``seconds``, as
    ``asyncio.timeout`` does, but only after one more look at the sockets.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as bound:
        due = DueCall(loop, seconds, lambda: bound.reschedule(loop.time()))
        try:
            yield
        finally:
            due.cancel()
