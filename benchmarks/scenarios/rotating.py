"""A load that never sends a token again before as many others as the caches hold were sent.

The sidecar writes a token's last use up to five seconds after it: that is waited for and counted
here, or it would be found in the figure of whoever's turn comes next.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measure import Sample
from benchmarks.peers import Running
from benchmarks.stage import Stage
from benchmarks.wrk import Load


class Rotation:
    """A load whose every span goes on with the token after the last one sent."""

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
        # Those under way at the end were sent as well, though nobody counted them.
        self._next += result.requests + load.connections
        return sample
