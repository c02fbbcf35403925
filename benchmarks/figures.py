"""What is said about several runs: the median, with the least and the most seen or the quartiles.

A ratio is formed within each round and only then summed up, so that a slow minute of the machine,
which slows both sides, leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its extremes."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The median of ``count`` values, and between which two the middle half of them lies."""

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
    """Return ours over theirs, of each round that has both."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if b > 0]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a ``share`` (0 to 1) does not exceed, by nearest rank."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 10_000) // 10_000))
    return ordered[rank - 1]
