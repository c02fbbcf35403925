"""The families of metrics, and how the snapshots of several processes become one (``merge``).

A ``Snapshot`` consists of plain values, so that a worker can send it to its supervisor.
``FAMILIES`` lists all metrics, and whether to add the values of several processes or to take the
largest or smallest. ``docs/reference/metrics.md`` shows the same table; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SampleValue = float | list[float]
"""A number; for a histogram, the count of each bucket, the count beyond them, and the sum."""
Snapshot = dict[str, dict[tuple[str, ...], SampleValue]]
"""Values by metric, then by the values of its labels. ``marshal`` can serialise it."""

REQUEST_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
STORE_BOUNDS: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


class MetricType(StrEnum):
    """The type of a metric, as Prometheus defines it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Aggregation(StrEnum):
    """How the values of several processes become one."""

    ADDED = "added"
    LARGEST = "largest"
    SMALLEST = "smallest"


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """A metric: its name as exposed, its type, its labels, and a sentence of help.

    ``bounds`` are the upper bounds of a histogram's buckets.
    """

    name: str
    type: MetricType
    labels: tuple[str, ...]
    help: str
    aggregation: Aggregation = Aggregation.ADDED
    bounds: tuple[float, ...] = ()


def _counter(
    name: str, help: str, *labels: str, aggregation: Aggregation = Aggregation.ADDED
) -> MetricFamily:
    return MetricFamily(name, MetricType.COUNTER, labels, help, aggregation)


def _gauge(
    name: str, help: str, *labels: str, aggregation: Aggregation = Aggregation.ADDED
) -> MetricFamily:
    return MetricFamily(name, MetricType.GAUGE, labels, help, aggregation)


def _histogram(name: str, help: str, bounds: tuple[float, ...], *labels: str) -> MetricFamily:
    return MetricFamily(name, MetricType.HISTOGRAM, labels, help, bounds=bounds)


FAMILIES: Final = (
    _counter(
        "sidecar_requests_total",
        "Requests answered, including decisions.",
        *("route", "method", "status", "code"),
    ),
    _counter("sidecar_denials_total", "Requests refused or failed, by code.", "code", "form"),
    _histogram(
        "sidecar_request_duration_seconds",
        "Time from the head of a request to the end of its answer.",
        REQUEST_BOUNDS,
        "route",
    ),
    _histogram(
        "sidecar_upstream_duration_seconds",
        "Time from the head of a request to the head of the upstream's answer.",
        REQUEST_BOUNDS,
        "route",
    ),
    _counter("sidecar_received_bytes_total", "Bytes of request bodies.", "route"),
    _counter("sidecar_sent_bytes_total", "Bytes of the bodies of relayed answers.", "route"),
    _gauge("sidecar_connections", "Connections of callers to the proxy."),
    _gauge(
        "sidecar_live_streams",
        "Running tunnels and long answers that end when the caller loses access.",
    ),
    _gauge(
        "sidecar_upstream_connections",
        "Connections to upstreams, open and idle, and requests that wait for one.",
        *("upstream", "state"),
    ),
    _counter(
        "sidecar_upstream_connections_opened_total", "Connections opened to upstreams.", "upstream"
    ),
    _counter(
        "sidecar_upstream_retries_total",
        "Requests sent again because the upstream had closed a kept connection.",
        "upstream",
    ),
    _counter("sidecar_cache_hits_total", "Look-ups answered by the cache of tokens."),
    _counter("sidecar_cache_misses_total", "Look-ups sent to the store."),
    _counter("sidecar_cache_invalidations_total", "Changes of tokens that the store announced."),
    _gauge("sidecar_cache_entries", "Tokens in the cache, both known and unknown."),
    _gauge(
        "sidecar_tokens_ending",
        "Tokens in the cache that expire within the time of the label.",
        "within",
        aggregation=Aggregation.LARGEST,
    ),
    _gauge(
        "sidecar_store_watching",
        "1 while the store announces changes, so that the cache can be trusted.",
        aggregation=Aggregation.SMALLEST,
    ),
    _gauge(
        "sidecar_store_up",
        "1 if the store answers reads and accepts writes.",
        aggregation=Aggregation.SMALLEST,
    ),
    _histogram("sidecar_store_lookup_seconds", "Duration of look-ups in the store.", STORE_BOUNDS),
    _counter("sidecar_store_failures_total", "Look-ups that the store did not answer."),
    _gauge(
        "sidecar_bans_in_force",
        "Networks and accounts that are currently banned.",
        aggregation=Aggregation.LARGEST,
    ),
    _counter("sidecar_bans_total", "Bans imposed by this process.", "subject"),
    _counter(
        "sidecar_access_log_dropped_total",
        "Lines of the access log dropped because its writer fell behind.",
    ),
    _counter("sidecar_spans_total", "Spans for the collector, by result.", "result"),
    _gauge(
        "sidecar_configuration_generation",
        "1 at the start; each applied change adds one.",
        aggregation=Aggregation.SMALLEST,
    ),
    _gauge(
        "sidecar_configuration_valid",
        "0 while the file is invalid and an older configuration is in force.",
        aggregation=Aggregation.SMALLEST,
    ),
    _gauge(
        "sidecar_configuration_loaded_timestamp_seconds",
        "Time at which the configuration in force was loaded, in Unix seconds.",
        aggregation=Aggregation.SMALLEST,
    ),
    _gauge(
        "sidecar_configuration_awaits_restart",
        "Keys that have changed in the file and need a restart.",
        aggregation=Aggregation.LARGEST,
    ),
    _counter(
        "sidecar_configuration_refused_total",
        "Invalid files that were refused.",
        aggregation=Aggregation.LARGEST,
    ),
    _gauge("sidecar_workers", "Workers that are ready."),
    _counter("sidecar_worker_restarts_total", "Workers that ended unexpectedly and were replaced."),
    _gauge(
        "sidecar_build_info",
        "Always 1.",
        *("version", "python", "compiled"),
        aggregation=Aggregation.LARGEST,
    ),
    _counter("process_cpu_seconds_total", "User and system time."),
    _gauge("process_resident_memory_bytes", "Resident memory."),
    _gauge("process_virtual_memory_bytes", "Virtual memory."),
    _gauge("process_open_fds", "Open file descriptors."),
    _gauge(
        "process_max_fds",
        "Limit of open file descriptors of one process.",
        aggregation=Aggregation.SMALLEST,
    ),
    _gauge(
        "process_start_time_seconds",
        "Start time of the process, in Unix seconds.",
        aggregation=Aggregation.SMALLEST,
    ),
)
_AGGREGATIONS: Final = {family.name: family.aggregation for family in FAMILIES}


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the snapshot of several processes together, without changing those passed in."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, samples in snapshot.items():
            into = total.setdefault(name, {})
            for labels, value in samples.items():
                known = into.get(labels)
                into[labels] = (
                    value if known is None else _combine(_AGGREGATIONS[name], known, value)
                )
    return total


def _combine(how: Aggregation, one: SampleValue, other: SampleValue) -> SampleValue:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert not isinstance(one, list)
    assert not isinstance(other, list)
    if how is Aggregation.ADDED:
        return one + other
    return max(one, other) if how is Aggregation.LARGEST else min(one, other)
