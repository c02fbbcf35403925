"""Batches, budgets and states of look-ups, on a source that does what the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import hiredis
import pytest

from sidecar.core.errors import Overloaded, StoreUnavailable
from sidecar.eager import EagerTask
from sidecar.store import lookups
from sidecar.store.lookups import Lookups

BUDGET_SECONDS = 0.1


class ScriptedSource:
    """Remembers batches; answers when told to."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.answers: list[asyncio.Future[Any]] = []
        self.is_closed = False

    def fetch(self, keys: Sequence[bytes]) -> asyncio.Future[Any]:
        self.batches.append(list(keys))
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    def abort(self) -> None:
        self.is_closed = True

    async def answer(self) -> None:
        """Answer the last batch: each key's value is the key, ``none`` has none."""
        values = [None if key == b"none" else key for key in self.batches[-1]]
        self.answers[-1].set_result(values)
        await settle()


class Opener:
    """Opens scripted sources, or fails as told."""

    def __init__(self) -> None:
        self.sources: list[ScriptedSource] = []
        self.fault: Exception | None = None

    async def __call__(self) -> ScriptedSource:
        if self.fault is not None:
            raise self.fault
        self.sources.append(ScriptedSource())
        return self.sources[-1]

    @property
    def source(self) -> ScriptedSource:
        return self.sources[-1]


async def settle() -> None:
    """Let everything run that can without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
async def looked(opener: Opener) -> Lookups:
    return Lookups(opener, BUDGET_SECONDS)


def ask(
    looked: Lookups, *keys: bytes, asker: str = "192.0.2.1"
) -> list[asyncio.Task[bytes | None]]:
    async def want(key: bytes) -> bytes | None:
        value: bytes | None = await looked.get(key, asker)
        return value

    return [asyncio.create_task(want(key)) for key in keys]


async def test_what_waits_together_is_asked_together_and_one_batch_flies_at_a_time(
    looked: Lookups, opener: Opener
) -> None:
    first = ask(looked, b"a", b"none")
    await settle()
    second = ask(looked, b"c", b"d")
    await settle()
    assert opener.source.batches == [[b"a", b"none"]]
    await opener.source.answer()
    assert [task.result() for task in first] == [b"a", None]
    assert opener.source.batches[1:] == [[b"c", b"d"]]
    await opener.source.answer()
    assert [task.result() for task in second] == [b"c", b"d"]
    await looked.close()


async def test_a_batch_is_bounded(looked: Lookups, opener: Opener) -> None:
    tasks = ask(looked, *(b"%d" % number for number in range(600)))
    await settle()
    for _ in range(3):
        await opener.source.answer()
    assert [len(batch) for batch in opener.source.batches] == [256, 256, 88]
    assert [task.result() for task in tasks] == [b"%d" % number for number in range(600)]
    await looked.close()


async def test_who_leaves_disturbs_nobody_and_is_not_asked_for(
    looked: Lookups, opener: Opener
) -> None:
    ahead = ask(looked, b"x")
    await settle()
    tasks = ask(looked, b"a", b"b", b"c")
    await settle()
    tasks[0].cancel()
    await opener.source.answer()
    assert opener.source.batches[-1] == [b"b", b"c"]
    tasks[1].cancel()
    await opener.source.answer()
    assert tasks[2].result() == b"c"
    assert ahead[0].result() == b"x"
    await looked.close()


async def test_who_comes_behind_a_batch_of_those_who_left_is_asked_for(
    looked: Lookups, opener: Opener
) -> None:
    ask(looked, b"x")
    await settle()
    left, stays = ask(looked, *[b"a"] * lookups.MOST_IN_BATCH), ask(looked, b"b")
    await settle()
    for task in left:
        task.cancel()
    for _ in range(2):
        await opener.source.answer()
    assert stays[0].result() == b"b"
    await looked.close()


async def test_a_silent_redis_fails_all_that_wait_and_the_connection_is_thrown_away(
    looked: Lookups, opener: Opener
) -> None:
    tasks = ask(looked, b"a")
    await settle()
    tasks += ask(looked, b"b")
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert "did not answer within 100 ms" in str(outcomes[0])
    assert opener.sources[0].is_closed
    await looked.close()


async def test_an_answer_that_comes_too_late_is_for_nobody(looked: Lookups, opener: Opener) -> None:
    tasks = ask(looked, b"a")
    await asyncio.gather(*tasks, return_exceptions=True)
    late = opener.sources[0]
    await settle()
    again = ask(looked, b"b")
    await settle()
    await late.answer()
    assert not again[0].done()
    await opener.source.answer()
    assert again[0].result() == b"b"
    await looked.close()


async def test_away_is_told_at_once_and_ends_when_a_link_is_up(
    looked: Lookups, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "RETRY_SECONDS", 0.01)
    opener.fault = ConnectionRefusedError(111, "refused by ::1")
    with pytest.raises(StoreUnavailable, match="can't be reached: Connection refused"):
        await looked.get(b"a")
    assert looked.state == "away"
    (task,) = ask(looked, b"a")
    await asyncio.sleep(0)
    assert isinstance(task.exception(), StoreUnavailable)
    opener.fault = None
    await asyncio.sleep(0.05)
    assert looked.state == "open"
    await looked.close()


async def test_a_batch_that_loses_its_connection_is_asked_once_more_and_only_once(
    looked: Lookups, opener: Opener
) -> None:
    (task,) = ask(looked, b"a")
    await settle()
    opener.source.answers[-1].set_exception(ConnectionResetError())
    await settle()
    assert opener.source.batches == [[b"a"]]
    assert len(opener.sources) == 2
    opener.source.answers[-1].set_exception(ConnectionResetError())
    await settle()
    assert isinstance(task.exception(), StoreUnavailable)
    await looked.close()


@pytest.mark.parametrize(
    "odd",
    [hiredis.ReplyError("LOADING Redis is loading"), [b"a", b"b"], [], b"a", None, {b"a": b"a"}],
    ids=repr,
)
async def test_an_answer_that_does_not_fit_is_handed_to_nobody(
    looked: Lookups, opener: Opener, odd: object
) -> None:
    (task,) = ask(looked, b"a")
    await settle()
    opener.source.answers[-1].set_result(odd)
    await settle()
    assert isinstance(task.exception(), StoreUnavailable)
    assert opener.sources[0].is_closed
    await looked.close()


async def test_a_process_that_slept_reads_the_answer_before_it_blames_redis(
    looked: Lookups, opener: Opener
) -> None:
    (task,) = ask(looked, b"a")
    await settle()
    time.sleep(BUDGET_SECONDS * 2)
    asyncio.get_running_loop().call_later(0.005, opener.source.answers[-1].set_result, [b"a"])
    assert await task == b"a"
    await looked.close()


async def test_a_loop_whose_every_turn_is_longer_than_the_budget_blames_no_redis(
    looked: Lookups, opener: Opener
) -> None:
    (task,) = ask(looked, b"a")
    await settle()
    for turn in range(8):
        time.sleep(BUDGET_SECONDS * 1.5)
        await asyncio.sleep(0)
        if turn == 6:
            opener.source.answers[-1].set_result([b"a"])
    assert await task == b"a"
    assert len(opener.sources) == 1
    await looked.close()


async def test_who_waits_for_a_link_fails_in_time_and_the_opening_goes_on(
    opener: Opener,
) -> None:
    may_open, tries = asyncio.Event(), list[str]()

    async def open_slowly() -> ScriptedSource:
        tries.append("begun")
        await may_open.wait()
        return await opener()

    looked = Lookups(open_slowly, BUDGET_SECONDS)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await looked.get(b"a")
        await asyncio.sleep(BUDGET_SECONDS)
    may_open.set()
    await settle()
    assert (tries, looked.state) == (["begun"], "open")
    await looked.close()


async def test_a_flood_from_one_network_delays_another_by_a_batch_at_most(
    looked: Lookups, opener: Opener
) -> None:
    await ask_and_answer(looked, opener)
    flood = ask(looked, *(b"%d" % number for number in range(3000)))
    await settle()
    (stranger,) = ask(looked, b"mine", asker="198.51.100.7")
    await settle()
    await opener.source.answer()  # the batch under way when it came
    await opener.source.answer()  # the one that stood ready
    assert b"mine" in opener.source.batches[-1]
    await opener.source.answer()
    await settle()
    assert stranger.result() == b"mine"
    assert sum(task.done() for task in flood) <= 3 * lookups.MOST_IN_BATCH
    await looked.close()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_of_many_networks_each_has_its_share_of_a_batch(
    looked: Lookups, opener: Opener
) -> None:
    await ask_and_answer(looked, opener)
    tasks = [
        *ask(looked, *[b"ahead"] * 2 * lookups.MOST_IN_BATCH),
        *(task for n in range(64) for task in ask(looked, *[b"%d" % n] * 40, asker=f"2001:{n}::")),
    ]
    await settle()
    for _ in range(2):
        await opener.source.answer()
    batch = opener.source.batches[-1]
    assert len(batch) == lookups.MOST_IN_BATCH
    assert {batch.count(b"%d" % n) for n in range(64)} <= {3, 4}
    await looked.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_network_that_asks_for_too_much_is_told_that_we_are_busy_and_others_are_not(
    looked: Lookups, opener: Opener
) -> None:
    await ask_and_answer(looked, opener)
    tasks = ask(looked, *[b"a"] * (lookups.MOST_IN_BATCH + lookups.MOST_OF_NETWORK))
    await settle()
    with pytest.raises(Overloaded):
        await looked.get(b"a", "192.0.2.1")
    tasks += ask(looked, b"b", asker="198.51.100.7")
    await settle()
    assert not any(task.done() for task in tasks)
    await looked.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_batch_is_handed_out_in_parts_and_the_next_one_is_under_way_meanwhile(
    looked: Lookups, opener: Opener
) -> None:
    await ask_and_answer(looked, opener)
    woken: list[int] = []
    for number in range(2 * lookups.MOST_IN_BATCH):
        look = look_and_note(looked, woken, number)
        EagerTask(asyncio.get_running_loop(), look, lambda error: None)
    await settle()
    await opener.source.answer()
    opener.source.answers[-1].set_result([b""] * lookups.MOST_IN_BATCH)
    parts, before = list[int](), 0
    while len(woken) < lookups.MOST_IN_BATCH:
        parts.append(len(woken) - before)
        before = len(woken)
        await asyncio.sleep(0)
    assert max(parts) <= lookups.MOST_AT_ONCE
    assert len(opener.source.batches) == 4
    assert woken == [*range(lookups.MOST_IN_BATCH)]
    await looked.close()
    await settle()


async def test_those_who_wait_in_an_outage_are_told_in_parts(
    looked: Lookups, opener: Opener
) -> None:
    await ask_and_answer(looked, opener)
    tasks = ask(looked, *[b"a"] * 10 * lookups.MOST_AT_ONCE)
    await settle()
    opener.source.answers[-1].set_result(hiredis.ReplyError("LOADING Redis is loading"))
    told = [0]
    while told[-1] < len(tasks):
        await asyncio.sleep(0)
        told.append(sum(task.done() for task in tasks))
    assert max(after - before for before, after in pairwise(told)) <= lookups.MOST_AT_ONCE
    await looked.close()


async def ask_and_answer(looked: Lookups, opener: Opener) -> None:
    """Have a batch in flight, so that what comes has to wait."""
    ask(looked, b"first")
    await settle()
    assert opener.source.batches == [[b"first"]]
    await opener.source.answer()
    ask(looked, b"ahead")
    await settle()


async def look_and_note(looked: Lookups, woken: list[int], number: int) -> None:
    await looked.get(b"a", "192.0.2.1")
    woken.append(number)


async def test_a_connection_goes_on_within_the_call_that_brings_its_value(
    looked: Lookups, opener: Opener
) -> None:
    log: list[bytes] = []

    async def look_twice() -> None:
        log.append(await looked.get(b"a"))
        log.append(await looked.get(b"b"))

    ends: list[BaseException | None] = []
    EagerTask(asyncio.get_running_loop(), look_twice(), ends.append)
    (other,) = ask(looked, b"c")
    await settle()
    await opener.source.answer()
    assert log == [b"a"]
    assert opener.source.batches == [[b"a", b"c"], [b"b"]]
    await opener.source.answer()
    assert (log, ends, other.result()) == ([b"a", b"b"], [None], b"c")
    await looked.close()


async def test_a_connection_that_is_cut_while_it_waits_is_asked_for_no_more(
    looked: Lookups, opener: Opener
) -> None:
    (ahead,) = ask(looked, b"x")
    await settle()

    async def look() -> None:
        await looked.get(b"a")

    ends: list[BaseException | None] = []
    task = EagerTask(asyncio.get_running_loop(), look(), ends.append)
    await settle()
    task.cancel()
    await settle()
    assert [type(end) for end in ends] == [asyncio.CancelledError]
    await opener.source.answer()
    assert ahead.result() == b"x"
    assert opener.source.batches == [[b"x"]]
    await looked.close()


async def test_closing_fails_what_waits_and_can_be_done_twice(
    looked: Lookups, opener: Opener
) -> None:
    (task,) = ask(looked, b"a")
    await settle()
    await looked.close()
    await looked.close()
    await settle()
    assert isinstance(task.exception(), StoreUnavailable)
    assert repr(looked) == "<Lookups opening, 0 waiting, 0 in flight>"
    assert opener.source.is_closed
