"""Which metrics there are, and how what several processes say of one becomes one.

A ``Snapshot`` is plain values, so that a worker can send it to whoever sums up (``merge``).
``FAMILIES`` says for each metric whether values are added, or the largest or the smallest stands
for all. ``docs/metrics.md`` shows the same table, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Value = float | list[float]
"""A number; of a histogram the count of each bucket, of what is beyond, and the sum."""
Snapshot = dict[str, dict[tuple[str, ...], Value]]
"""Values by metric and by its labels' values. ``marshal`` and ``pickle`` take it."""

REQUEST_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
STORE_BOUNDS: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Sum(StrEnum):
    """What stands for all processes together."""

    ADDED = "added"
    LARGEST = "largest"
    SMALLEST = "smallest"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name as it is exposed, its labels, and a sentence on what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    says: str
    sum: Sum = Sum.ADDED
    bounds: tuple[float, ...] = ()


def _counter(name: str, says: str, *labels: str, sum: Sum = Sum.ADDED) -> Family:
    return Family(name, Kind.COUNTER, labels, says, sum)


def _gauge(name: str, says: str, *labels: str, sum: Sum = Sum.ADDED) -> Family:
    return Family(name, Kind.GAUGE, labels, says, sum)


def _histogram(name: str, says: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family(name, Kind.HISTOGRAM, labels, says, bounds=bounds)


FAMILIES: Final = (
    _counter(
        "sidecar_requests_total",
        "Requests answered, decisions included.",
        *("route", "method", "status", "code"),
    ),
    _counter("sidecar_denials_total", "Requests refused or failed, by code.", "code", "form"),
    _histogram(
        "sidecar_request_duration_seconds",
        "From a request's head to the end of its answer.",
        REQUEST_BOUNDS,
        "route",
    ),
    _histogram(
        "sidecar_upstream_duration_seconds",
        "From a request's head to the head of the upstream's answer.",
        REQUEST_BOUNDS,
        "route",
    ),
    _counter("sidecar_received_bytes_total", "Bytes of request bodies.", "route"),
    _counter("sidecar_sent_bytes_total", "Bytes of relayed answers' bodies.", "route"),
    _gauge("sidecar_connections", "Callers connected to the proxy."),
    _gauge(
        "sidecar_live_streams", "Tunnels and long answers under way that need a caller's right."
    ),
    _gauge(
        "sidecar_upstream_connections",
        "Connections to upstreams: open, of these idle; and requests that wait for one.",
        *("upstream", "state"),
    ),
    _counter(
        "sidecar_upstream_connections_opened_total", "Connections opened to upstreams.", "upstream"
    ),
    _counter(
        "sidecar_upstream_retries_total",
        "Requests sent once more, as the upstream had closed a kept connection.",
        "upstream",
    ),
    _counter("sidecar_cache_hits_total", "Look-ups that the cache of tokens answered."),
    _counter("sidecar_cache_misses_total", "Look-ups that went to the store."),
    _counter("sidecar_cache_invalidations_total", "Changes to tokens that the store told of."),
    _gauge("sidecar_cache_entries", "Tokens in the cache, known and unknown ones."),
    _gauge(
        "sidecar_tokens_ending",
        "Tokens in the cache that end within the time that the label says.",
        "within",
        sum=Sum.LARGEST,
    ),
    _gauge(
        "sidecar_store_watching",
        "1 while the store tells of changes, so that the cache may be believed.",
        sum=Sum.SMALLEST,
    ),
    _gauge("sidecar_store_up", "1 if the store answers reads and takes writes.", sum=Sum.SMALLEST),
    _histogram("sidecar_store_lookup_seconds", "Look-ups in the store.", STORE_BOUNDS),
    _counter("sidecar_store_failures_total", "Look-ups that the store did not answer."),
    _gauge("sidecar_bans_in_force", "Networks and accounts that are banned now.", sum=Sum.LARGEST),
    _counter("sidecar_bans_total", "Bans that this process has set.", "subject"),
    _counter("sidecar_access_log_dropped_total", "Lines dropped because the log fell behind."),
    _counter("sidecar_spans_total", "Spans for the collector, by what became of them.", "result"),
    _gauge(
        "sidecar_configuration_generation",
        "1 at the start, one more with each change that was applied.",
        sum=Sum.SMALLEST,
    ),
    _gauge(
        "sidecar_configuration_valid",
        "0 while the file on disk is faulty and an older one is in force.",
        sum=Sum.SMALLEST,
    ),
    _gauge(
        "sidecar_configuration_loaded_timestamp_seconds",
        "When the configuration in force was loaded, in Unix seconds.",
        sum=Sum.SMALLEST,
    ),
    _gauge(
        "sidecar_configuration_awaits_restart",
        "Keys that the file has otherwise and that wait for a restart.",
        sum=Sum.LARGEST,
    ),
    _counter(
        "sidecar_configuration_refused_total",
        "Faulty files that were not applied.",
        sum=Sum.LARGEST,
    ),
    _gauge("sidecar_workers", "Workers that are ready."),
    _counter("sidecar_worker_restarts_total", "Workers that ended unasked, and were replaced."),
    _gauge("sidecar_build_info", "Always 1.", *("version", "python"), sum=Sum.LARGEST),
    _counter("process_cpu_seconds_total", "User and system time."),
    _gauge("process_resident_memory_bytes", "Resident memory."),
    _gauge("process_virtual_memory_bytes", "Virtual memory."),
    _gauge("process_open_fds", "Open file descriptors."),
    _gauge("process_max_fds", "Most open file descriptors of one process.", sum=Sum.SMALLEST),
    _gauge(
        "process_start_time_seconds",
        "When the process was started, in Unix seconds.",
        sum=Sum.SMALLEST,
    ),
)
_SUMS: Final = {family.name: family.sum for family in FAMILIES}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return what several processes say together. What is put in is not changed."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, samples in snapshot.items():
            into = total.setdefault(name, {})
            for labels, value in samples.items():
                known = into.get(labels)
                into[labels] = value if known is None else _combine(_SUMS[name], known, value)
    return total


def _combine(how: Sum, one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert not isinstance(one, list)
    assert not isinstance(other, list)
    if how is Sum.ADDED:
        return one + other
    return max(one, other) if how is Sum.LARGEST else min(one, other)
