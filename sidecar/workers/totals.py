"""The sum of what all workers count; no counter decreases when a worker ends.

The last known counters of a worker that has ended stay in the sum; its gauges do not.
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
    """The sum over all workers. ``gone`` is the sum of those that ended before this program."""

    def __init__(self, gone: Snapshot | None = None) -> None:
        self.gone = _known_metrics(gone or {})
        self._known: dict[Hashable, Snapshot] = {}

    def learn(self, worker: Hashable, snapshot: Snapshot) -> None:
        """Record a worker's counts; metrics that it leaves out are unchanged."""
        self._known[worker] = {**self._known.get(worker, {}), **_known_metrics(snapshot)}

    def forget(self, worker: Hashable) -> None:
        """Note that a worker has ended."""
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
        """Return the counts of the workers that have ended, plus ``more``, for a new ``Totals``."""
        return merge([self.gone, counters_of(more)])


def counters_of(snapshot: Snapshot) -> Snapshot:
    """Return the counters and histograms."""
    return {name: samples for name, samples in snapshot.items() if name in _COUNTED}


def _known_metrics(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot without metrics that this version lacks, or has with other buckets."""
    return {
        name: {labels: value for labels, value in samples.items() if _fits(name, value)}
        for name, samples in snapshot.items()
        if name in _BUCKETS
    }


def _fits(name: str, value: SampleValue) -> bool:
    return (len(value) if isinstance(value, list) else 0) == _BUCKETS[name]
