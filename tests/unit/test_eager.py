"""An eager task resumes inside the call that sets its wakeup; otherwise it is like any task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sidecar.eager import EagerTask, Wakeup
from tests.in_process import on_uvloop


class Run:
    """An eager task under test, a wakeup for it to wait for, and what became of it."""

    def __init__(self, body: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.get_running_loop()
        self.wakeup = Wakeup(loop)
        self.log: list[str] = []
        self.ends: list[BaseException | None] = []
        self.task = EagerTask(loop, body(self), self.ends.append)

    async def outside(self, call: Callable[[], object]) -> None:
        """Call as a transport would: while no task is current."""
        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0)


async def wait_twice(run: Run) -> None:
    for number in (1, 2):
        await run.wakeup
        run.log.append(f"after {number}")


@on_uvloop
async def test_it_resumes_inside_the_call_that_sets_the_wakeup() -> None:
    """No iteration of the loop lies between ``set`` and the coroutine's next step."""
    run = Run(wait_twice)
    await asyncio.sleep(0)
    seen: list[list[str]] = []

    def set_wakeup() -> None:
        run.wakeup.set()
        seen.append([*run.log])

    await run.outside(set_wakeup)
    await run.outside(set_wakeup)
    assert seen == [["after 1"], ["after 1", "after 2"]]
    assert run.ends == [None]


@on_uvloop
async def test_a_wakeup_set_by_a_running_task_resumes_it_an_iteration_later() -> None:
    """Two tasks cannot be current at once, and the wakeup is not lost."""
    run = Run(wait_twice)
    await asyncio.sleep(0)
    run.wakeup.set()
    assert run.log == []
    await asyncio.sleep(0)
    assert run.log == ["after 1"]


@on_uvloop
async def test_a_wakeup_set_while_nobody_waits_is_lost() -> None:
    """A coroutine checks its condition first; an early wakeup resumes nobody later."""
    run = Run(wait_twice)
    run.wakeup.set()
    await asyncio.sleep(0)
    assert run.log == []
    assert repr(run.wakeup) == "<Wakeup awaited>"


@on_uvloop
async def test_it_is_the_current_task_while_it_runs() -> None:
    """``asyncio.timeout`` works in it, and times out."""

    async def body(run: Run) -> None:
        current: object = asyncio.current_task()
        assert current is run.task
        try:
            async with asyncio.timeout(0.01):
                await run.wakeup
        except TimeoutError:
            run.log.append("timed out")
        await asyncio.sleep(0)
        run.log.append(f"cancelling {run.task.cancelling()}")

    run = Run(body)
    while not run.task.done():
        await asyncio.sleep(0.005)
    assert run.log == ["timed out", "cancelling 0"]
    assert run.ends == [None]


@on_uvloop
async def test_it_awaits_futures_and_their_exceptions() -> None:
    """A result is returned, and an exception is raised, where the future is awaited."""
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()

    async def body(run: Run) -> None:
        run.log.append(await good)
        with pytest.raises(OSError, match="gone"):
            await bad
        run.log.append("heard")

    run = Run(body)
    await asyncio.sleep(0)
    good.set_result("value")
    bad.set_exception(OSError("gone"))
    while not run.task.done():
        await asyncio.sleep(0)
    assert run.log == ["value", "heard"]


async def wait_for_wakeup(run: Run) -> None:
    await run.wakeup


async def wait_for_future(run: Run) -> None:
    await asyncio.get_running_loop().create_future()


async def wait_for_turn(run: Run) -> None:
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", [wait_for_wakeup, wait_for_future, wait_for_turn])
@pytest.mark.parametrize("turns", [0, 1])
def test_it_can_be_cancelled_wherever_it_waits(
    body: Callable[[Run], Coroutine[Any, Any, None]], turns: int
) -> None:
    """Even before it starts; it ends with ``CancelledError``, once."""

    @on_uvloop
    async def check() -> None:
        run = Run(body)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert run.task.cancel()
        run.task.cancel()
        run.wakeup.set()
        for _ in range(3):
            await asyncio.sleep(0)
        assert [type(end) for end in run.ends] == [asyncio.CancelledError]
        assert not run.task.cancel()

    check()


@on_uvloop
async def test_its_exception_goes_to_on_end_and_no_task_stays_current() -> None:
    """``on_end`` gets the exception; the caller of ``set`` does not."""

    async def body(run: Run) -> None:
        await run.wakeup
        raise ValueError("broken")

    run = Run(body)
    await asyncio.sleep(0)
    current: list[object] = []

    def set_wakeup() -> None:
        run.wakeup.set()
        current.append(asyncio.current_task())

    await run.outside(set_wakeup)
    assert [type(end) for end in run.ends] == [ValueError]
    assert current == [None]


@on_uvloop
async def test_an_asyncio_task_can_await_a_wakeup() -> None:
    """A plain task resumes after ``set``, and can be cancelled while it waits."""
    wakeup = Wakeup(asyncio.get_running_loop())

    async def wait() -> str:
        await wakeup
        return "went on"

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    wakeup.set()
    assert await task == "went on"
    cancelled = asyncio.create_task(wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
