"""What the bench says about several runs."""

from __future__ import annotations

import pytest

from benchmarks.figures import Quartiles, Spread, percentile, ratios


def test_a_spread_is_the_median_with_the_extremes() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_a_ratio_is_formed_in_each_round_so_that_a_slow_round_does_not_count() -> None:
    ours, theirs = [10.0, 30.0, 10.0], [20.0, 60.0, 20.0]

    assert ratios(ours, theirs) == [0.5, 0.5, 0.5]


def test_rounds_that_only_one_side_has_form_no_ratio() -> None:
    assert ratios([10.0, 90.0], [20.0]) == [0.5]


@pytest.mark.parametrize("theirs", [[], [0.0]])
def test_there_is_no_ratio_to_nothing(theirs: list[float]) -> None:
    assert ratios([1.0], theirs) == []


def test_half_of_the_values_lie_between_the_quartiles() -> None:
    assert Quartiles.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Quartiles(5, 3.0, 2.0, 4.0)


def test_one_value_is_all_of_its_quartiles() -> None:
    assert Quartiles.of([2.0]) == Quartiles(1, 2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)]
)
def test_a_percentile_is_the_value_that_such_a_share_does_not_exceed(
    share: float, expected: int
) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0
