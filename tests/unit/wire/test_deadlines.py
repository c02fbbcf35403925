"""A wait that takes too long is ended once, and one exception stops no other deadline."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic

import pytest

from sidecar.wire.deadlines import NEVER, Deadlines

SHORTEST_SECONDS = 0.25  # swept every 50 ms


class Waiting:
    """A connection that waits until ``deadline``."""

    def __init__(self, deadline: float, *, is_faulty: bool = False) -> None:
        self.deadline = deadline
        self.told = asyncio.Event()
        self.count = 0
        self._is_faulty = is_faulty

    def on_deadline(self) -> None:
        self.deadline = NEVER
        self.count += 1
        self.told.set()
        if self._is_faulty:
            raise RuntimeError("a fault in one connection")


@pytest.fixture
async def deadlines() -> Deadlines:
    return Deadlines(asyncio.get_running_loop(), SHORTEST_SECONDS)


async def test_on_deadline_is_called_once_after_the_deadline(deadlines: Deadlines) -> None:
    late, patient = Waiting(monotonic()), Waiting(monotonic() + 3600)
    deadlines.watch(late)
    deadlines.watch(patient)
    await asyncio.wait_for(late.told.wait(), 20)
    await asyncio.sleep(0.15)
    assert (late.count, patient.count) == (1, 0)


async def test_a_deadline_set_after_watching_began_is_kept(deadlines: Deadlines) -> None:
    waiting = Waiting(NEVER)
    deadlines.watch(waiting)
    await asyncio.sleep(0.1)
    waiting.deadline = monotonic()
    await asyncio.wait_for(waiting.told.wait(), 20)


async def test_a_forgotten_connection_is_not_called(deadlines: Deadlines) -> None:
    gone, other = Waiting(monotonic()), Waiting(monotonic())
    deadlines.watch(gone)
    deadlines.watch(other)
    deadlines.forget(gone)
    deadlines.forget(gone)
    await asyncio.wait_for(other.told.wait(), 20)
    assert gone.count == 0
    assert len(deadlines) == 1


async def test_an_exception_in_one_connection_stops_no_other_deadline(deadlines: Deadlines) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    waiting = [Waiting(monotonic(), is_faulty=True) for _ in range(3)]
    for one in waiting:
        deadlines.watch(one)
    for one in waiting:
        await asyncio.wait_for(one.told.wait(), 20)


async def test_nothing_is_swept_while_no_connection_is_watched(deadlines: Deadlines) -> None:
    waiting = Waiting(NEVER)
    deadlines.watch(waiting)
    deadlines.forget(waiting)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waiting.told.wait(), 0.15)
    assert deadlines._timer is None
    deadlines.watch(waiting)
    waiting.deadline = monotonic()
    await asyncio.wait_for(waiting.told.wait(), 20)
