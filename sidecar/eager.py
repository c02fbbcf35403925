"""Who waits goes on at once: within the call that brings what was waited for.

An ``asyncio.Task`` goes on in a later turn of the event loop, which costs a future, a handle and
often a system call for each wait. A connection waits twice for each request, so a ``PromptTask``
runs its coroutine straight from ``data_received``. In all else it is a task: it is the current one
while it runs, it can be cancelled, and it may wait for whatever a task may ("Extending", in the
documentation of asyncio, provides for tasks of a third party).
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task, current_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

OnEnd = Callable[[BaseException | None], None]
"""Told once how a coroutine ended: by itself (``None``), or by what it raised."""


class Signal:
    """Something to wait for again and again; who waits goes on when it is given.

    One waits at a time. Nothing is kept for who comes later: look first whether what is waited for
    is there already. To an ``asyncio.Task`` it looks like a future.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_is_cancelled",
        "_loop",
        "prompt_task",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._is_cancelled = False
        self._callback: Callable[[Signal], object] | None = None
        self._context: Context | None = None
        self.prompt_task: PromptTask | None = None
        """Who waits, if it is one of ours."""

    def __repr__(self) -> str:
        is_awaited = self.prompt_task is not None or self._callback is not None
        return f"<Signal {'awaited' if is_awaited else 'idle'}>"

    def __await__(self) -> Generator[Signal, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def give(self) -> None:
        """Let who waits go on; nobody may."""
        task = self.prompt_task
        if task is None or current_task(self._loop) is None:
            self.give_freely()
        else:
            self.prompt_task = None
            task.step_soon()

    def give_freely(self) -> None:
        """Do as ``give``, for who knows that no task is running: to look costs 0.1 µs."""
        task = self.prompt_task
        if task is not None:
            self.prompt_task = None
            task.step()
        elif self._callback is not None:
            self._tell_task()

    # What an asyncio.Task asks of what it waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """See ``asyncio.Future``."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Signal], object], *, context: Context | None = None
    ) -> None:
        """See ``asyncio.Future``; one is told, once."""
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:
        """Have who waits raise ``CancelledError``."""
        self._is_cancelled = True
        self._tell_task()
        return True

    def result(self) -> None:
        """Raise ``CancelledError`` if that was asked for."""
        if self._is_cancelled:
            self._is_cancelled = False
            raise asyncio.CancelledError

    def _tell_task(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)


class PromptTask:
    """Runs a coroutine, at first from the next turn of the loop on; ``on_end`` is told of its end.

    When something is given while another task runs (or this one), it goes on in the loop's next
    turn after all: two can't be current.
    """

    __slots__ = (
        "_cancels",
        "_coroutine",
        "_is_ended",
        "_loop",
        "_must_cancel",
        "_on_end",
        "_send",
        "_waited",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, None],
        on_end: OnEnd,
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._send = coroutine.send
        self._on_end = on_end
        self._waited: Signal | asyncio.Future[Any] | None = None
        self._cancels = 0
        self._must_cancel = False
        self._is_ended = False
        loop.call_soon(self.step)

    def __repr__(self) -> str:
        state = "ended" if self._is_ended else f"waiting for {self._waited!r}"
        return f"<PromptTask {state}>"

    def done(self) -> bool:
        """Tell whether the coroutine has ended."""
        return self._is_ended

    def step_soon(self) -> None:
        """Run the coroutine on in the loop's next turn."""
        self._waited = None
        self._loop.call_soon(self.step)

    def cancel(self, msg: object = None) -> bool:
        """Have the coroutine raise ``CancelledError`` where it waits, in the loop's next turn."""
        if self._is_ended:
            return False
        self._cancels += 1
        waited = self._waited
        if isinstance(waited, Signal):
            waited.prompt_task = self._waited = None
            self._must_cancel = True
            self._loop.call_soon(self.step)
        elif waited is None or not waited.cancel():
            self._must_cancel = True
        return True

    def cancel_freely(self) -> None:
        """Do as ``cancel``, but at once, for a caller that knows that no task is running."""
        waited = self._waited
        if self._is_ended or not isinstance(waited, Signal):
            self.cancel()
            return
        self._cancels += 1
        waited.prompt_task = self._waited = None
        self.step(asyncio.CancelledError())

    def cancelling(self) -> int:
        """Return how often it was cancelled, less what was taken back (``asyncio.timeout``)."""
        return self._cancels

    def uncancel(self) -> int:
        """Take one cancellation back; return how many are left."""
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def step(self, error: BaseException | None = None) -> None:
        """Run the coroutine up to where it waits next; no task may be running."""
        if self._must_cancel:
            self._must_cancel = False
            error = asyncio.CancelledError()
        self._waited = None
        loop = self._loop
        _enter_task(loop, self)  # type: ignore[arg-type]  # a task by its behaviour
        try:
            waited = self._send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self._end(None)
        except (KeyboardInterrupt, SystemExit) as raised:
            self._end(raised)
            raise
        except BaseException as raised:
            self._end(raised)
        else:
            if isinstance(waited, Signal) and not self._must_cancel:
                self._waited = waited
                waited.prompt_task = self
            else:
                self._wait_otherwise(waited)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]

    def _wait_otherwise(self, waited: Signal | asyncio.Future[Any] | None) -> None:
        """Wait for a future, for the loop's next turn (``None``), or not at all: cancelled."""
        if waited is None or isinstance(waited, Signal):
            self._loop.call_soon(self.step)
            return
        waited._asyncio_future_blocking = False
        waited.add_done_callback(self._on_future)
        self._waited = waited
        if self._must_cancel and waited.cancel():
            self._must_cancel = False

    def _on_future(self, future: asyncio.Future[Any]) -> None:
        try:
            future.result()
        except BaseException as error:
            self.step(error)
        else:
            self.step()

    def _end(self, error: BaseException | None) -> None:
        self._is_ended = True
        self._on_end(error)
