"""A prompt task goes on within the call that gives its signal, and is a task in all else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sidecar.eager import PromptTask, Signal
from tests.in_process import on_uvloop


class Run:
    """A prompt task under test, with a signal to wait for and what became of it."""

    def __init__(self, body: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.get_running_loop()
        self.signal = Signal(loop)
        self.log: list[str] = []
        self.ends: list[BaseException | None] = []
        self.task = PromptTask(loop, body(self), self.ends.append)

    async def outside(self, call: Callable[[], object]) -> None:
        """Call as a transport would: with no task being the current one."""
        asyncio.get_running_loop().call_soon(call)
        await asyncio.sleep(0)


async def wait_twice(run: Run) -> None:
    for number in (1, 2):
        await run.signal
        run.log.append(f"after {number}")


@on_uvloop
async def test_it_goes_on_within_the_call_that_gives_the_signal() -> None:
    """No turn of the loop lies between the giving and the going on."""
    run = Run(wait_twice)
    await asyncio.sleep(0)
    seen: list[list[str]] = []

    def give() -> None:
        run.signal.give()
        seen.append([*run.log])

    await run.outside(give)
    await run.outside(give)
    assert seen == [["after 1"], ["after 1", "after 2"]]
    assert run.ends == [None]


@on_uvloop
async def test_what_a_running_task_gives_is_taken_up_a_turn_later() -> None:
    """Two tasks can't be the current one, and nothing given is lost."""
    run = Run(wait_twice)
    await asyncio.sleep(0)
    run.signal.give()
    assert run.log == []
    await asyncio.sleep(0)
    assert run.log == ["after 1"]


@on_uvloop
async def test_a_signal_that_nobody_waits_for_is_not_kept() -> None:
    """Who waits looks first; a signal given too early wakes nobody later."""
    run = Run(wait_twice)
    run.signal.give()
    await asyncio.sleep(0)
    assert run.log == []
    assert repr(run.signal) == "<Signal awaited>"


@on_uvloop
async def test_it_is_the_current_task_while_it_runs() -> None:
    """``asyncio.timeout`` works in it, and times out."""

    async def body(run: Run) -> None:
        current: object = asyncio.current_task()
        assert current is run.task
        try:
            async with asyncio.timeout(0.01):
                await run.signal
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
async def test_it_waits_for_futures_and_hears_their_errors() -> None:
    """A value comes back, and an exception is raised where the future is awaited."""
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


async def wait_for_signal(run: Run) -> None:
    await run.signal


async def wait_for_future(run: Run) -> None:
    await asyncio.get_running_loop().create_future()


async def wait_for_turn(run: Run) -> None:
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", [wait_for_signal, wait_for_future, wait_for_turn])
@pytest.mark.parametrize("turns", [0, 1])
def test_it_can_be_cancelled_wherever_it_waits(
    body: Callable[[Run], Coroutine[Any, Any, None]], turns: int
) -> None:
    """Also before it has begun; it ends with ``CancelledError``, and once."""

    @on_uvloop
    async def check() -> None:
        run = Run(body)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert run.task.cancel()
        run.task.cancel()
        run.signal.give()
        for _ in range(3):
            await asyncio.sleep(0)
        assert [type(end) for end in run.ends] == [asyncio.CancelledError]
        assert not run.task.cancel()

    check()


@on_uvloop
async def test_what_it_raises_is_told_and_no_task_stays_current() -> None:
    """The end is told with the exception; who gave the signal hears nothing of it."""

    async def body(run: Run) -> None:
        await run.signal
        raise ValueError("broken")

    run = Run(body)
    await asyncio.sleep(0)
    current: list[object] = []

    def give() -> None:
        run.signal.give()
        current.append(asyncio.current_task())

    await run.outside(give)
    assert [type(end) for end in run.ends] == [ValueError]
    assert current == [None]


@on_uvloop
async def test_a_signal_serves_plain_tasks_as_well() -> None:
    """A plain task goes on once it is given, and can be cancelled while it waits."""
    signal = Signal(asyncio.get_running_loop())

    async def wait() -> str:
        await signal
        return "went on"

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    signal.give()
    assert await task == "went on"
    cancelled = asyncio.create_task(wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
