"""A budget is spent only by a loop that had the time to look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from sidecar.store.budgets import TICKS, Budget, ended, limit

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
NewLoop = Callable[[], asyncio.AbstractEventLoop]
SECONDS = 0.02


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


def test_work_of_many_turns_ends_though_each_of_them_takes_longer_than_the_budget(
    runner: asyncio.Runner,
) -> None:
    async def work() -> str:
        async with limit(SECONDS):
            for _ in range(2 * TICKS):
                time.sleep(SECONDS * 1.5)
                await asyncio.sleep(0)
        return "done"

    assert runner.run(work()) == "done"


def test_what_never_comes_is_a_time_out_on_a_busy_loop_too(runner: asyncio.Runner) -> None:
    async def main() -> None:
        busy = asyncio.create_task(keep_busy())
        with pytest.raises(TimeoutError):
            async with limit(SECONDS):
                await asyncio.Event().wait()
        busy.cancel()

    runner.run(main())


def test_a_free_loop_spends_the_budget_and_no_less(runner: asyncio.Runner) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        began, spent = loop.time(), asyncio.Event()
        Budget(loop, SECONDS, spent.set)
        await spent.wait()
        return loop.time() - began

    assert runner.run(main()) >= SECONDS - 0.001


def test_a_budget_that_is_cancelled_is_never_spent(runner: asyncio.Runner) -> None:
    async def main() -> list[str]:
        calls: list[str] = []
        loop = asyncio.get_running_loop()
        budget = Budget(loop, SECONDS, lambda: calls.append("spent"))
        await asyncio.sleep(SECONDS / 2)
        budget.cancel()
        await asyncio.sleep(SECONDS * 2)
        return calls

    assert runner.run(main()) == []


def test_those_who_ended_in_time_are_told_from_the_others_and_none_is_cancelled(
    runner: asyncio.Runner,
) -> None:
    async def main() -> None:
        quick, slow = map(asyncio.create_task, (asyncio.sleep(0, "quick"), asyncio.sleep(60)))
        done, late = await ended([quick, slow], SECONDS)
        assert (done, late, slow.cancelling()) == ({quick}, {slow}, 0)
        slow.cancel()

    runner.run(main())


async def keep_busy() -> None:
    while True:
        time.sleep(SECONDS)
        await asyncio.sleep(0)
