"""Accounts and networks alternate, and each of them gets one connection served at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.turn_queue import MOST_READERS, UNWATCHED_WORK, TurnQueue


@dataclass(eq=False)
class Waiting:
    account: str
    network: str
    served: list[str]
    then: Callable[[], None] | None = None
    name: str = field(default="")
    reads: bool = False

    def take_turn(self) -> bool:
        self.served.append(self.name or self.account or self.network)
        if self.then is not None:
            self.then()
        return self.reads


async def served(queue: TurnQueue, who: list[Waiting]) -> list[str]:
    for one in who:
        queue.enqueue(one)
    while len(queue):
        await asyncio.sleep(0)
    return who[0].served


async def test_an_owner_with_one_connection_waits_for_one_of_each_other() -> None:
    queue = TurnQueue(asyncio.get_running_loop())
    order: list[str] = []
    flood = [Waiting("flood", "n", order) for _ in range(50)]
    strangers = [Waiting("", network, order) for network in ("x", "x", "y", "x") * 10]
    honest = Waiting("honest", "n", order)
    assert (await served(queue, [*flood, *strangers, honest]))[:4].count("honest") == 1


async def test_strangers_of_a_thousand_networks_hold_an_account_up_for_one_turn_each() -> None:
    queue = TurnQueue(asyncio.get_running_loop())
    order: list[str] = []
    strangers = [Waiting("", f"n{number}", order) for number in range(1000)]
    honest = Waiting("honest", "n", order)
    assert "honest" in (await served(queue, [*strangers, honest]))[:2]


async def test_a_slice_ends_so_that_the_loop_can_poll_its_sockets() -> None:
    queue = TurnQueue(asyncio.get_running_loop(), turn_seconds=0.0)
    order: list[str] = []
    for number in range(3):
        queue.enqueue(Waiting("", f"n{number}", order))
    seen = []
    while len(queue):
        await asyncio.sleep(0)
        seen.append(len(order))
    assert seen == [1, 2, 3]


async def test_a_slice_resumes_few_readers_as_their_bytes_arrive_at_once() -> None:
    queue = TurnQueue(asyncio.get_running_loop(), turn_seconds=60.0)
    order: list[str] = []
    for number in range(3 * MOST_READERS):
        queue.enqueue(Waiting("", f"n{number}", order, reads=True))
    seen = []
    while len(queue):
        await asyncio.sleep(0)
        seen.append(len(order))
    assert seen == [MOST_READERS, 2 * MOST_READERS, 3 * MOST_READERS]


async def test_a_connection_that_requeues_itself_gets_one_turn_per_turn_of_the_loop() -> None:
    queue = TurnQueue(asyncio.get_running_loop(), turn_seconds=0.0)
    order: list[str] = []
    again = Waiting("", "a", order)
    again.then = lambda: queue.enqueue(again)
    queue.enqueue(again)
    for turns in range(1, 20):
        await asyncio.sleep(0)
        assert len(order) == turns
    again.then = None
    await asyncio.sleep(0)


async def test_a_connection_that_requeues_itself_waits_behind_the_others() -> None:
    queue = TurnQueue(asyncio.get_running_loop())
    order: list[str] = []
    again = Waiting("", "a", order)
    left = [2]

    def enter_again() -> None:
        if left[0]:
            left[0] -= 1
            queue.enqueue(again)

    again.then = enter_again
    assert await served(queue, [again, Waiting("", "b", order)]) == ["a", "b", "a", "a"]


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from("xyz")), max_size=30))
def test_everybody_is_served_once_and_an_owner_in_order(who: list[tuple[str, str]]) -> None:
    order: list[str] = []

    async def run() -> None:
        queue = TurnQueue(asyncio.get_running_loop())
        waiting = [
            Waiting(account, network, order, name=f"{account or network}{number}")
            for number, (account, network) in enumerate(who)
        ]
        if waiting:
            await served(queue, waiting)
        expected = [one.name for one in waiting]
        assert sorted(order) == sorted(expected)
        for owner in {name[0] for name in expected}:
            assert [n for n in order if n[0] == owner] == [n for n in expected if n[0] == owner]

    asyncio.run(run())


async def test_a_turn_is_over_some_time_after_much_work_was_begun_in_it() -> None:
    queue = TurnQueue(asyncio.get_running_loop(), turn_seconds=0.0)
    begun = [queue.is_turn_over() for _ in range(UNWATCHED_WORK + 1)]
    assert begun == [False] * UNWATCHED_WORK + [True]
    await asyncio.sleep(0)
    assert not queue.is_turn_over()


async def test_a_turn_that_has_begun_much_work_is_not_over_at_once() -> None:
    queue = TurnQueue(asyncio.get_running_loop(), turn_seconds=60.0)
    assert not any(queue.is_turn_over(UNWATCHED_WORK) for _ in range(10))


async def test_new_work_is_not_served_before_work_that_is_queued() -> None:
    queue = TurnQueue(asyncio.get_running_loop())
    assert not queue.is_turn_over()
    queue.enqueue(Waiting("", "a", []))
    assert queue.is_turn_over()
    await asyncio.sleep(0)
    assert not queue.is_turn_over()
