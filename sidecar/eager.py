"""Resume a waiting coroutine synchronously, inside the callback that delivers its data.

An ``asyncio.Task`` resumes in a later iteration of the event loop, which costs a future, a handle
and often a system call for each wait. A connection waits twice per request, so an ``EagerTask``
runs its coroutine straight from ``data_received``. In every other respect it is a task:
``asyncio.current_task`` returns it while it runs, it can be cancelled, and it can await any future
(asyncio supports third-party tasks: see "Extending" in its documentation).
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task, current_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

OnEnd = Callable[[BaseException | None], None]
"""Called once, when a coroutine ends: with ``None``, or with the exception that it raised."""


class Wakeup:
    """An awaitable that can be awaited again and again; ``set`` resumes the coroutine that waits.

    One coroutine waits at a time. Unlike an ``asyncio.Event``, it has no state: a ``set`` while
    nobody waits is lost, so check the condition before you await. An ``asyncio.Task`` can await it
    as well, as if it were a future.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_is_cancelled",
        "_loop",
        "waiter",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._is_cancelled = False
        self._callback: Callable[[Wakeup], object] | None = None
        self._context: Context | None = None
        self.waiter: EagerTask | None = None
        """The ``EagerTask`` that waits, if any."""

    def __repr__(self) -> str:
        is_awaited = self.waiter is not None or self._callback is not None
        return f"<Wakeup {'awaited' if is_awaited else 'idle'}>"

    def __await__(self) -> Generator[Wakeup, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def set(self) -> None:
        """Resume the coroutine that waits, if any: now, or in the loop's next iteration if a task
        is running.
        """
        task = self.waiter
        if task is None or current_task(self._loop) is None:
            self.set_now()
        else:
            self.waiter = None
            task.step_soon()

    def set_now(self) -> None:
        """Resume the coroutine that waits, if any. The caller must know that no task is running;
        it saves the check, 0.1 µs.
        """
        task = self.waiter
        if task is not None:
            self.waiter = None
            task.step()
        elif self._callback is not None:
            self._call_back()

    # The part of asyncio.Future's interface that an asyncio.Task needs.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """See ``asyncio.Future``."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Wakeup], object], *, context: Context | None = None
    ) -> None:
        """See ``asyncio.Future``; keeps one callback, which runs once."""
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:
        """Make the waiting task raise ``CancelledError``."""
        self._is_cancelled = True
        self._call_back()
        return True

    def result(self) -> None:
        """Raise ``CancelledError`` after ``cancel``."""
        if self._is_cancelled:
            self._is_cancelled = False
            raise asyncio.CancelledError

    def _call_back(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._loop.call_soon(callback, self, context=self._context)


class EagerTask:
    """Runs a coroutine, starting in the loop's next iteration; calls ``on_end`` when it ends.

    A ``Wakeup`` that is set while a task runs (this one or another) resumes the coroutine in the
    loop's next iteration: there can be only one current task.
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
        self._waited: Wakeup | asyncio.Future[Any] | None = None
        self._cancels = 0
        self._must_cancel = False
        self._is_ended = False
        loop.call_soon(self.step)

    def __repr__(self) -> str:
        state = "ended" if self._is_ended else f"waiting for {self._waited!r}"
        return f"<EagerTask {state}>"

    def done(self) -> bool:
        """Return whether the coroutine has ended."""
        return self._is_ended

    def step_soon(self) -> None:
        """Resume the coroutine in the loop's next iteration."""
        self._waited = None
        self._loop.call_soon(self.step)

    def cancel(self, msg: object = None) -> bool:
        """Make the coroutine raise ``CancelledError`` where it waits, in the loop's next iteration.

        Returns ``False`` if it has ended.
        """
        if self._is_ended:
            return False
        self._cancels += 1
        waited = self._waited
        if isinstance(waited, Wakeup):
            waited.waiter = self._waited = None
            self._must_cancel = True
            self._loop.call_soon(self.step)
        elif waited is None or not waited.cancel():
            self._must_cancel = True
        return True

    def cancel_now(self) -> None:
        """Cancel, and run the coroutine at once. The caller must know that no task is running."""
        waited = self._waited
        if self._is_ended or not isinstance(waited, Wakeup):
            self.cancel()
            return
        self._cancels += 1
        waited.waiter = self._waited = None
        self.step(asyncio.CancelledError())

    def cancelling(self) -> int:
        """Return the number of cancellations less those taken back; ``asyncio.timeout`` asks."""
        return self._cancels

    def uncancel(self) -> int:
        """Take back one cancellation; return how many are left."""
        self._cancels = max(0, self._cancels - 1)
        return self._cancels

    def step(self, error: BaseException | None = None) -> None:
        """Run the coroutine until it waits again or ends. No task may be running."""
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
            if isinstance(waited, Wakeup) and not self._must_cancel:
                self._waited = waited
                waited.waiter = self
            else:
                self._wait_for(waited)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]

    def _wait_for(self, waited: Wakeup | asyncio.Future[Any] | None) -> None:
        """Wait for a future; ``None``, or a ``Wakeup`` after a cancellation: step again soon."""
        if waited is None or isinstance(waited, Wakeup):
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
