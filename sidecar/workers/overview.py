"""The status of all workers together: ready only if every one is, with the sum of their counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.observability.metric_families import Snapshot

ConfigurationStatus = Mapping[str, Any]
"""What ``runtime.reload.ReloadState.describe`` returns: the configuration in force and its file."""


class WorkerReport(NamedTuple):
    """The status of one worker: what it counts, why it is not ready, its configuration."""

    snapshot: Snapshot
    reasons: Sequence[str]
    configuration: ConfigurationStatus | None


class Overview(NamedTuple):
    """The status of all workers. ``reasons`` is empty when all are ready."""

    snapshot: Snapshot
    reasons: Sequence[str]
    configuration: ConfigurationStatus | None
    ready: int
    """How many workers are ready."""
    wanted: int
    """How many there should be."""


def join_reasons(by_worker: Mapping[int, Sequence[str]]) -> list[str]:
    """Return why not all workers are ready: reasons that all give stand once, others with the
    numbers of the workers that give them.
    """
    said = list(dict.fromkeys(reason for reasons in by_worker.values() for reason in reasons))
    joined = []
    for reason in said:
        who = [number for number, reasons in by_worker.items() if reason in reasons]
        prefix = "" if len(who) == len(by_worker) else f"worker {', '.join(map(str, who))}: "
        joined.append(prefix + reason)
    return joined


def join_configurations(told: Sequence[ConfigurationStatus | None]) -> ConfigurationStatus | None:
    """Return the one to report: a faulty one if there is any, else the oldest."""
    known = [one for one in told if one is not None]
    return min(known, key=lambda one: (one["valid"], one["generation"]), default=None)
