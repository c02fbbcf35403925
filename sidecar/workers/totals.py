"""The sum of what all workers count; a counter never decreases when a worker ends.

The counters of a worker that has ended keep their last known value; its gauges go with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from sidecar.observability.metric_families import FAMILIES, MetricType, SampleValue, Snapshot, merge

_COUNTED: Final = frozenset(
    family.name for family in FAMILIES if family.type is not MetricType.GAUGE
)
_BUCKETS: Final = {
    family.name: len(family.bounds) + 2 if family.type is MetricType.HISTOGRAM else 0
    for family in FAMILIES
}


class Totals:
    """The sum over all workers. ``gone`` is the sum of those that ended before this one began."""

    def __init__(self, gone: Snapshot | None = None) -> None:
        self.gone = _understood(gone or {})
        self._known: dict[Hashable, Snapshot] = {}

    def learn(self, worker: Hashable, snapshot: Snapshot) -> None:
        """Take a worker's counts; what it leaves out is unchanged."""
        self._known[worker] = {**self._known.get(worker, {}), **_understood(snapshot)}

    def forget(self, worker: Hashable) -> None:
        """Note that a worker has gone."""
        last = self._known.pop(worker, {})
        self.gone = merge([self.gone, counters_of(last)])

    def largest(self, name: str) -> float:
        """Return the largest value of a metric without labels over all workers."""
        values = [known.get(name, {}).get((), 0.0) for known in (self.gone, *self._known.values())]
        return max(value for value in values if not isinstance(value, list))

    def sum(self, more: Iterable[Snapshot] = ()) -> Snapshot:
        """Return the sum of all workers and ``more``."""
        return merge([self.gone, *self._known.values(), *more])

    def known(self, worker: Hashable) -> Snapshot:
        """Return a worker's last known counts."""
        return self._known.get(worker, {})

    def gone_with(self, more: Snapshot) -> Snapshot:
        """Return the counts of workers that have ended, and ``more``, for a new ``Totals``."""
        return merge([self.gone, counters_of(more)])


def counters_of(snapshot: Snapshot) -> Snapshot:
    """Return the counters and histograms."""
    return {name: samples for name, samples in snapshot.items() if name in _COUNTED}


def _understood(snapshot: Snapshot) -> Snapshot:
    """Drop metrics that this version does not have, or has in other buckets."""
    return {
        name: {labels: value for labels, value in samples.items() if _fits(name, value)}
        for name, samples in snapshot.items()
        if name in _BUCKETS
    }


def _fits(name: str, value: SampleValue) -> bool:
    return (len(value) if isinstance(value, list) else 0) == _BUCKETS[name]
