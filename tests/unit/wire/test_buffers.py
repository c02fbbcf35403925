"""What callers leave with the process is limited in total; the largest and oldest goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.buffers import BufferBudget

KIB = 1024


class Caller:
    def __init__(self, name: str, budget: BufferBudget, lost: list[str]) -> None:
        self.name = name
        self._budget = budget
        self._lost = lost

    def shed(self) -> None:
        self._lost.append(self.name)
        self._budget.note(self, 0)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_largest_and_oldest_buffer_is_dropped_first() -> None:
    clock, lost = Clock(), list[str]()
    budget = BufferBudget(100 * KIB, clock)
    callers = {name: Caller(name, budget, lost) for name in ("old", "large", "small", "new")}
    budget.note(callers["old"], 40 * KIB)
    clock.seconds = 5.0
    budget.note(callers["large"], 45 * KIB)
    budget.note(callers["small"], 4 * KIB)
    clock.seconds = 6.0
    assert budget.note(callers["new"], 20 * KIB)
    assert lost == ["old"]
    assert budget.held_bytes == 69 * KIB


def test_shedding_frees_an_eighth_of_the_budget() -> None:
    lost: list[str] = []
    budget = BufferBudget(80 * KIB, Clock())
    for number in range(11):
        budget.note(Caller(str(number), budget, lost), 8 * KIB)
    assert budget.held_bytes <= 70 * KIB
    assert budget.shed_total == len(lost) == 3


def test_small_buffers_are_not_tracked_and_emptied_ones_are_forgotten() -> None:
    budget = BufferBudget()
    caller = Caller("a", budget, [])
    assert not budget.note(caller, KIB)
    assert budget.note(caller, 8 * KIB)
    assert not budget.note(caller, KIB)
    assert len(budget) == budget.held_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40 * KIB)), max_size=60))
def test_the_budget_is_kept_in_any_order_of_events(notes: list[tuple[int, int]]) -> None:
    clock, lost = Clock(), list[str]()
    budget = BufferBudget(100 * KIB, clock)
    callers = [Caller(str(number), budget, lost) for number in range(10)]
    for number, size in notes:
        clock.seconds += 0.1
        is_noted = budget.note(callers[number], size)
        assert is_noted == (callers[number] in budget)
        assert budget.held_bytes <= 100 * KIB
    for caller in callers:
        budget.note(caller, 0)
    assert budget.held_bytes == 0
