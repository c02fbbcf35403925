"""Time limits that a busy event loop cannot trip by itself.

A timer that fires only says that time has passed. If this process was busy or asleep, the awaited
bytes may have arrived in the meantime and lie unread in a socket; to report a time-out then would
blame a healthy peer for our own delay. So a limit counts here only once the loop has polled its
sockets after the limit was due, and has delivered what they held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


def call_after_poll(
    loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object
) -> None:
    """Run ``callback`` once the loop has polled its sockets and delivered what they held.

    What a timer schedules with ``call_soon`` may still run before the next poll; what that callback
    schedules in turn does not, in uvloop and asyncio alike. Hence two steps.
    """
    loop.call_soon(loop.call_soon, callback, *args)


class DueCall:
    """A callback that runs ``seconds`` from now, after one more poll of the sockets; see
    ``cancel``.
    """

    __slots__ = ("_callback", "_handle", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, callback: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._callback: Callable[[], object] | None = callback
        self._handle: asyncio.Handle = (
            loop.call_later(seconds, self._poll) if seconds > 0 else loop.call_soon(self._poll)
        )

    def cancel(self) -> None:
        """Never run the callback; has no effect once it has run."""
        self._handle.cancel()
        self._callback = None

    def _poll(self) -> None:
        call_after_poll(self._loop, self._run)

    def _run(self) -> None:
        if self._callback is not None:
            self._callback()


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[None]:
    """Raise ``TimeoutError`` unless the body ends within ``seconds``, as ``asyncio.timeout`` does,
    but only after one more poll of the sockets.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as bound:
        due = DueCall(loop, seconds, lambda: bound.reschedule(loop.time()))
        try:
            yield
        finally:
            due.cancel()
