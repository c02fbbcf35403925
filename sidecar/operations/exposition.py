"""How a snapshot of metrics is written for Prometheus: as text 0.0.4, or OpenMetrics if asked for.

``prometheus_client`` writes the format but does not count: its locks and labels would cost each
request more than all of our counting does.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sidecar.observability.metric_families import (
    FAMILIES,
    MetricFamily,
    MetricType,
    SampleValue,
    Snapshot,
)

_PROCESS = ProcessCollector(registry=None)


def write_exposition(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """Return the page and its ``Content-Type`` for a request with this ``Accept``.

    It lists every metric family, even those that have no value yet.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Snapshot(snapshot)), content_type


def read_process() -> Snapshot:
    """Return what the operating system reports about this process; nothing without ``/proc``."""
    metrics = _PROCESS.collect()
    return {sample.name: {(): sample.value} for metric in metrics for sample in metric.samples}


class _Snapshot(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            yield _write_family(family, self._snapshot.get(family.name, {}))


def _write_family(family: MetricFamily, samples: dict[tuple[str, ...], SampleValue]) -> Metric:
    if family.type is MetricType.HISTOGRAM:
        return _write_histogram(family, samples)
    metric_class = CounterMetricFamily if family.type is MetricType.COUNTER else GaugeMetricFamily
    metric = metric_class(family.name, family.help, labels=family.labels)
    for labels, value in samples.items():
        assert not isinstance(value, list)
        metric.add_metric(labels, value)
    return metric


def _write_histogram(family: MetricFamily, samples: dict[tuple[str, ...], SampleValue]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    edges = [*map(floatToGoString, family.bounds), "+Inf"]
    for labels, value in samples.items():
        assert isinstance(value, list)
        *counts, total = value
        metric.add_metric(labels, [*zip(edges, accumulate(counts), strict=True)], total)
    return metric
