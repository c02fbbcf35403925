"""A load that repeats a token only after more others than the caches hold.

The sidecar writes the last use of a token up to five seconds later. The measurement waits for these
writes and counts them here; otherwise they would distort the next case.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.stage import Stage
from benchmarks.wrk import Load


class Rotation:
    """A load in which each run continues with the token after the last one sent."""

    def __init__(self, stage: Stage, running: Running, load: Load, count: int) -> None:
        self._stage = stage
        self._running = running
        self._load = load
        self._count = count
        self._next = 0

    def __call__(self, seconds: int) -> Sample:
        """Put the load on the peer for whole seconds."""
        load = replace(self._load, first_token=self._next % self._count + 1)
        settle_seconds = 0.0 if load.is_refused else self._stage.settings.settle_seconds
        sample, result = self._stage.load(self._running, load, seconds, settle_seconds)
        # Requests in flight at the end used up tokens, too, though wrk did not count them.
        self._next += result.requests + load.connections
        return sample
