"""Requests as spans, which a thread sends in batches (OTLP over HTTP), so that no request waits.

The spans are made of the same facts as the access log. OpenTelemetry's own batch processor and
exporter send them (extra ``otel``; importing this module is slow). At most ``MOST_WAITING`` spans
wait. Those beyond that, and those that the collector does not accept, are counted and dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from sidecar.core.trace_context import PARENT_ID, TRACE_ID
from sidecar.observability.access_log import RequestLog

MOST_WAITING: Final = 4096
_BATCH_SPANS: Final = 512
_BATCH_MILLISECONDS: Final = 1000.0
_EXPORT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0
_FIRST_OF_FAULTS: Final = 500


class SpanExport:
    """Sends spans to ``endpoint`` with ``headers``.

    The resource of the spans is ``service_name`` in this ``version`` of the program.
    """

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], service_name: str, version: str
    ) -> None:
        named = {"service.name": service_name, "service.version": version}
        self._resource = Resource.create(named)
        self._scope = InstrumentationScope("sidecar", version)
        self._collector = _Collector(endpoint, headers)
        self._processor = BatchSpanProcessor(
            self._collector,
            max_queue_size=MOST_WAITING,
            schedule_delay_millis=_BATCH_MILLISECONDS,
            max_export_batch_size=_BATCH_SPANS,
        )
        self._taken = 0
        self.dropped = 0
        """How many spans were dropped because too many were waiting."""
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # it warns of each retry

    @property
    def exported(self) -> int:
        """How many spans the collector has accepted."""
        return self._collector.exported

    @property
    def failed(self) -> int:
        """How many spans were dropped because the collector did not accept them."""
        return self._collector.failed

    def note(self, entry: RequestLog, now: float) -> None:
        """Export a finished request. ``now`` is the time on the clock of ``entry.started``."""
        if self._taken - self.exported - self.failed >= MOST_WAITING:
            self.dropped += 1
            return
        self._taken += 1
        self._processor.on_end(_span_of(entry, now, self._resource, self._scope))

    def close(self) -> None:
        """Send the waiting spans; block for at most two seconds."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


class _Collector(SpanExporter):
    """OpenTelemetry's exporter, with counts; only one thread calls it."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        given = dict(headers) or None  # ``None``: take the headers of the environment
        self._exporter = OTLPSpanExporter(endpoint, headers=given, timeout=_EXPORT_SECONDS)
        self.exported = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; the exporter retries until its time-out."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.exported += len(spans)
            else:
                self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        """Stop retrying."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _span_of(
    entry: RequestLog, now: float, resource: Resource, scope: InstrumentationScope
) -> ReadableSpan:
    trace_id, parent_id = entry.traceparent[TRACE_ID], entry.parent_id
    has_failed = entry.status >= _FIRST_OF_FAULTS
    end = time_ns()
    return ReadableSpan(
        name=f"{entry.method or 'HTTP'} {entry.route}".rstrip(),
        context=_context(trace_id, entry.traceparent[PARENT_ID], is_remote=False),
        parent=_context(trace_id, parent_id, is_remote=True) if parent_id else None,
        resource=resource,
        attributes=attributes_of(entry),
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if has_failed else StatusCode.UNSET),
        start_time=end - round((now - entry.started) * 1e9),
        end_time=end,
        instrumentation_scope=scope,
    )


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, sampled)


def attributes_of(entry: RequestLog) -> dict[str, AttributeValue]:
    """Return the attributes of a span, named by OpenTelemetry's conventions where they apply.

    The path is left out, as it may be private; the access log has it, with the trace's id.
    """
    attributes: dict[str, AttributeValue] = {
        "http.request.method": entry.method,
        "http.route": entry.route,
        "http.response.status_code": entry.status,
        "error.type": entry.code if entry.status >= _FIRST_OF_FAULTS else "",
        "client.address": entry.client,
        "sidecar.request_id": entry.request_id,
        "sidecar.code": entry.code,
        "sidecar.account": entry.account,
        "sidecar.token_id": entry.token_id,
        "sidecar.credential_form": str(entry.form),
        "sidecar.upstream": entry.upstream,
        "sidecar.upstream_seconds": entry.upstream_seconds,
    }
    return {name: value for name, value in attributes.items() if value}
