"""How all workers are together: ready only if every one is, and with everything they count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sidecar.observability.metric_families import Snapshot

Configuration = Mapping[str, Any]
"""How a configuration in force relates to its file, as ``reload.State.describe`` says it."""


class Report(NamedTuple):
    """How one worker is: what it counts, why it is not ready, its configuration."""

    snapshot: Snapshot
    reasons: Sequence[str]
    configuration: Configuration | None


class Overview(NamedTuple):
    """How all are. ``reasons`` is empty when all are ready."""

    snapshot: Snapshot
    reasons: Sequence[str]
    configuration: Configuration | None
    ready: int
    """How many workers are ready."""
    wanted: int
    """Of how many."""


def join_reasons(by_worker: Mapping[int, Sequence[str]]) -> list[str]:
    """Return why not all workers are ready: once what all say, else with the worker's number."""
    said = list(dict.fromkeys(reason for reasons in by_worker.values() for reason in reasons))
    joined = []
    for reason in said:
        who = [number for number, reasons in by_worker.items() if reason in reasons]
        prefix = "" if len(who) == len(by_worker) else f"worker {', '.join(map(str, who))}: "
        joined.append(prefix + reason)
    return joined


def join_configurations(told: Sequence[Configuration | None]) -> Configuration | None:
    """Return what stands for all: a faulty one if there is any, else the one furthest behind."""
    known = [one for one in told if one is not None]
    return min(known, key=lambda one: (one["valid"], one["generation"]), default=None)
