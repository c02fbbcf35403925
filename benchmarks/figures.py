"""What is said about several runs: the median, with the least and the most seen.

A ratio is formed within each round and only then summed up, so that a slow minute of the machine,
which slows both sides, leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


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


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Return ours over theirs, round by round; ``None`` when no round has both."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=False) if b > 0]
    return Spread.of([a / b for a, b in pairs]) if pairs else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a ``share`` (0 to 1) does not exceed, by nearest rank."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 10_000) // 10_000))
    return ordered[rank - 1]
