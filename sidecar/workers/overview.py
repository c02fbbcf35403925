"""The status of all workers as one: ready only if every worker is, with the sum of their counts."""

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
    """Return why not all workers are ready, each reason once.

    A reason that only some workers give is prefixed with their numbers.
    """
    distinct = list(dict.fromkeys(reason for reasons in by_worker.values() for reason in reasons))
    joined = []
    for reason in distinct:
        numbers = [number for number, reasons in by_worker.items() if reason in reasons]
        is_shared = len(numbers) == len(by_worker)
        prefix = "" if is_shared else f"worker {', '.join(map(str, numbers))}: "
        joined.append(prefix + reason)
    return joined


def join_configurations(
    reported: Sequence[ConfigurationStatus | None],
) -> ConfigurationStatus | None:
    """Return the status to show: of a worker that has an invalid file, else the oldest."""
    known = [one for one in reported if one is not None]
    return min(known, key=lambda one: (one["valid"], one["generation"]), default=None)
