"""Whose turn is next, and how many may wait."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from sidecar.store.fair_queue import FairQueue

ASKERS = st.sampled_from(["", "a", "b", "c", "d"])
STEPS = st.lists(st.one_of(ASKERS, st.integers(1, 5)), max_size=80)


def filled(queue: FairQueue[str], **counts: int) -> None:
    for asker, count in counts.items():
        for number in range(count):
            assert queue.put(asker, f"{asker}{number}")


def test_askers_take_turns_and_each_is_served_in_its_own_order() -> None:
    queue: FairQueue[str] = FairQueue(100, 50)
    filled(queue, a=4, b=1, c=2)
    assert queue.take(4) == ["a0", "b0", "c0", "a1"]
    assert queue.take(10) == ["c1", "a2", "a3"]
    assert (queue.take(1), len(queue)) == ([], 0)


def test_who_comes_late_is_served_with_the_next_batch() -> None:
    queue: FairQueue[str] = FairQueue(1000, 1000)
    filled(queue, a=500, b=3)
    assert queue.take(2) == ["a0", "b0"]
    filled(queue, c=1)
    assert "c0" in queue.take(3)


def test_one_asker_may_have_only_so_many_waiting_and_the_sidecar_itself_more() -> None:
    queue: FairQueue[str] = FairQueue(10, 3)
    filled(queue, a=3)
    assert not queue.put("a", "a3")
    assert all(queue.put("", f"{number}") for number in range(7))


def test_a_full_queue_takes_in_a_newcomer_and_nothing_of_who_has_its_share() -> None:
    queue: FairQueue[str] = FairQueue(10, 8)
    filled(queue, a=8, b=2)
    assert not queue.put("a", "a8")
    assert queue.put("b", "b2")
    assert queue.put("c", "c0")


def test_however_many_askers_there_are_the_queue_is_bounded() -> None:
    queue: FairQueue[int] = FairQueue(50, 20)
    for number in range(10_000):
        queue.put(f"{number % 400}", number)
    assert len(queue) <= 100
    queue.take(1000)
    assert (len(queue), queue._lines, [*queue._ring]) == (0, {}, [])


@given(steps=STEPS)
def test_nobody_waits_for_more_than_one_item_of_each_other(steps: list[str | int]) -> None:
    """A model: a line for each asker; an item is served within as many rounds as stood before."""
    queue: FairQueue[tuple[str, int]] = FairQueue(40, 20)
    lines: dict[str, deque[int]] = {}
    served_since: Counter[str] = Counter()  # of others, since the head of a line stands there
    for number, step in enumerate(steps):
        if isinstance(step, str):
            if queue.put(step, (step, number)):
                lines.setdefault(step, deque()).append(number)
            continue
        for asker, item in queue.take(step):
            assert lines[asker].popleft() == item
            for other in lines:
                if other != asker and lines[other]:
                    served_since[other] += 1
                    assert served_since[other] <= 5
            served_since[asker] = 0
    assert len(queue) == sum(map(len, lines.values()))
