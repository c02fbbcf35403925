"""A collector on loopback: takes OTLP over HTTP as a real one does, and shows the spans."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.patience import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it came, ids in hexadecimal; ``resource`` is whose it is."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    status: int
    seconds: float
    attributes: dict[str, object]
    resource: dict[str, object]


@dataclass
class Receiver:
    """Listens on a free port; ``status`` is what it answers, ``wait`` how long it takes."""

    status: int = 200
    wait_seconds: float = 0.0
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def await_spans(self, count: int) -> list[ReceivedSpan]:
        """Return the spans once there are so many."""
        await_truth(lambda: len(self.spans) >= count)
        assert len(self.spans) == count
        return self.spans

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        time.sleep(self.wait_seconds)
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        if self.status == 200:
            self.spans += _spans_of(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        handler.send_response(self.status)
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)


def await_truth(is_true: Callable[[], bool]) -> None:
    """Wait until it is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.02)


def _spans_of(request: Any) -> list[ReceivedSpan]:
    return [
        ReceivedSpan(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.kind,
            span.status.code,
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            _plain(span.attributes),
            _plain(whole.resource.attributes),
        )
        for whole in request.resource_spans
        for scope in whole.scope_spans
        for span in scope.spans
    ]


def _plain(attributes: Any) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
