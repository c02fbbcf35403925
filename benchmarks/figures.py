"""Summaries of several runs: the median, with the extremes or the quartiles.

A ratio is computed within each round and summarised afterwards: a slow minute of the machine slows
both sides and does not change their ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The median of ``count`` values, and the quartiles that enclose the middle half."""

    count: int
    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """Sum up at least one value."""
        if len(values) == 1:
            return cls(1, values[0], values[0], values[0])
        lower, middle, upper = quantiles(values, n=4, method="inclusive")
        return cls(len(values), middle, lower, upper)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours ÷ theirs for each round that has both."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if b > 0]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a ``share`` (0 to 1) does not exceed, by nearest rank."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 10_000) // 10_000))
    return ordered[rank - 1]
