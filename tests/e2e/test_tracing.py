"""Traces as a caller, a service and a collector see them: ``traceparent``, the log, the spans."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import plain_settings, redis_binary
from tests.otlp_receiver import Receiver, await_truth
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess, create_token, run_sidecar
from tests.redis_servers import RedisServer, running_redis
from tests.upstream_recorder import Mark, Recorder

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
LISTENER = "/v1/dynamic/listener/a1"
ROUTE = "/v1/dynamic/listener/{id}"
SERVER, UNSET, ERROR = 2, 0, 2  # of OTLP's enumerations
COLLECTOR_KEY = "a-key-that-nobody-may-see"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def service() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def plain(
    redis: RedisServer, service: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """Run the sidecar as it comes: without export."""
    settings = plain_settings(redis, service.url)
    with ProxyProcess(tmp_path_factory.mktemp("plain"), settings) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def exporting(redis: RedisServer, service: Recorder, receiver: Receiver) -> dict[str, Any]:
    settings: dict[str, Any] = plain_settings(redis, service.url)
    headers = {"Authorization": f"Bearer {COLLECTOR_KEY}"}
    settings["tracing"] = {"endpoint": receiver.endpoint, "headers": headers}
    return settings


def call(
    process: ProxyProcess, target: str = LISTENER, headers: list[tuple[str, str]] | None = None
) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE_SECONDS)
    connection.putrequest("GET", target)
    for name, value in headers or []:
        connection.putheader(name, value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def told_to(service: Recorder, mark: Mark) -> tuple[list[bytes], list[bytes]]:
    """Return the ``traceparent`` and ``tracestate`` values of the one request since ``mark``."""
    (request,) = service.requests_since(mark)
    return request.values("traceparent"), request.values("tracestate")


def log_line(process: ProxyProcess, request_id: str) -> dict[str, Any]:
    def lines() -> list[dict[str, Any]]:
        return [line for line in process.access_lines() if line["request_id"] == request_id]

    await_truth(lambda: bool(lines()))
    return lines()[0]


@pytest.mark.parametrize("traceparent", [SAMPLED, UNSAMPLED, f"cc-{TRACE}-{PARENT}-01-new"])
def test_a_valid_traceparent_goes_on_byte_for_byte_and_its_id_is_in_the_log(
    plain: ProxyProcess, service: Recorder, traceparent: str
) -> None:
    mark = service.mark()
    headers = [("traceparent", traceparent), ("tracestate", "a=1"), ("tracestate", "b=2")]
    request_id = f"r{traceparent[:2]}{traceparent[53:55]}"
    assert call(plain, "/status", [*headers, ("X-Request-Id", request_id)]) == 200
    assert told_to(service, mark) == ([traceparent.encode()], [b"a=1", b"b=2"])
    assert log_line(plain, request_id)["trace_id"] == TRACE


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("tracestate", "a=1")],
        [("traceparent", "junk"), ("tracestate", "a=1")],
        [("traceparent", SAMPLED.upper()), ("tracestate", "a=1")],
        [("traceparent", SAMPLED), ("traceparent", SAMPLED), ("tracestate", "a=1")],
    ],
)
def test_without_a_valid_one_a_traceparent_is_made_and_a_tracestate_ends_here(
    plain: ProxyProcess, service: Recorder, headers: list[tuple[str, str]]
) -> None:
    for _ in range(2):  # the second time, what the header section says is remembered
        mark = service.mark()
        assert call(plain, "/status", headers) == 200
        (made,), states = told_to(service, mark)
        assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", made)
        assert (TRACE.encode() in made, states) == (False, [])


def test_a_tracestate_that_can_not_be_read_ends_here_and_the_trace_goes_on(
    plain: ProxyProcess, service: Recorder
) -> None:
    mark = service.mark()
    assert call(plain, "/status", [("traceparent", SAMPLED), ("tracestate", "A=1")]) == 200
    assert told_to(service, mark) == ([SAMPLED.encode()], [])


def test_connection_can_not_take_the_trace_away(plain: ProxyProcess, service: Recorder) -> None:
    mark = service.mark()
    headers = [("Connection", "traceparent, tracestate"), ("traceparent", SAMPLED)]
    assert call(plain, "/status", [*headers, ("tracestate", "a=1")]) == 200
    assert told_to(service, mark) == ([SAMPLED.encode()], [b"a=1"])


def test_every_request_of_a_sampled_trace_is_a_span_and_the_services_parent(
    redis: RedisServer, service: Recorder, receiver: Receiver, tmp_path: Path
) -> None:
    with ProxyProcess(tmp_path, exporting(redis, service, receiver)) as process:
        token = create_token(process.config, "acme", f"spans {tmp_path}")
        mark = service.mark()
        trace = [("traceparent", SAMPLED), ("tracestate", "a=1")]
        assert call(process, LISTENER, [*trace, ("access_token", token)]) == 200
        (told,), states = told_to(service, mark)
        assert call(process, f"{LISTENER}?token={token}x", trace) == 401
        assert call(process, LISTENER, [("traceparent", UNSAMPLED)]) == 401  # is no span
        mark = service.mark()
        assert call(process, "/status") == 200
        (begun,), _ = told_to(service, mark)
        passed, refused, root = receiver.await_spans(3)
        assert process.stderr.count("ERROR") == 0
    assert (passed.trace_id, passed.parent_id, passed.kind) == (TRACE, PARENT, SERVER)
    assert told.decode() == f"00-{TRACE}-{passed.span_id}-01"
    assert states == [b"a=1"]
    assert (passed.name, passed.status) == (f"GET {ROUTE}", UNSET)
    assert 0 < passed.seconds < 60
    assert passed.attributes["http.response.status_code"] == 200
    assert passed.attributes["http.route"] == ROUTE
    assert passed.attributes["sidecar.account"] == "acme"
    assert passed.resource["service.name"] == "auth-sidecar"
    assert (refused.trace_id, refused.parent_id) == (TRACE, PARENT)
    assert refused.attributes["sidecar.code"] == "invalid_token"
    assert refused.attributes["http.response.status_code"] == 401
    assert (root.parent_id, begun.decode()) == ("", f"00-{root.trace_id}-{root.span_id}-01")
    assert token not in repr(receiver.spans)
    assert receiver.headers[0]["authorization"] == f"Bearer {COLLECTOR_KEY}"


def test_a_fault_is_an_error_of_the_span(
    redis: RedisServer, receiver: Receiver, tmp_path: Path
) -> None:
    gone = Recorder()
    settings = exporting(redis, gone, receiver)
    gone.close()
    with ProxyProcess(tmp_path, settings) as process:
        assert call(process, "/status") == 502
        (span,) = receiver.await_spans(1)
    assert (span.status, span.attributes["error.type"]) == (ERROR, "upstream_unreachable")


@pytest.mark.parametrize("state", ["refuses", "is silent"])
def test_a_collector_that_does_not_take_spans_stops_no_request_and_no_shutdown(
    redis: RedisServer, service: Recorder, receiver: Receiver, tmp_path: Path, state: str
) -> None:
    receiver.status, receiver.wait_seconds = (400, 0.0) if state == "refuses" else (200, 60.0)
    with ProxyProcess(tmp_path, exporting(redis, service, receiver)) as process:
        assert [call(process, "/status") for _ in range(20)] == [200] * 20
        if state == "refuses":
            await_truth(lambda: count_spans(process)["failed"] == 20)
        process.stop()
        assert COLLECTOR_KEY not in process.stderr + process.stdout


def count_spans(process: ProxyProcess) -> dict[str, float]:
    host, _, port = process.settings["operations"]["address"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    (family,) = (f for f in text_string_to_metric_families(text) if f.name == "sidecar_spans")
    return {sample.labels["result"]: sample.value for sample in family.samples}


def test_export_begins_and_ends_with_the_configuration_in_force(
    redis: RedisServer, service: Recorder, receiver: Receiver, tmp_path: Path
) -> None:
    settings = exporting(redis, service, receiver)
    tracing = settings.pop("tracing")
    with ProxyProcess(tmp_path, settings) as process:
        assert call(process, "/status") == 200
        for written in ({"tracing": tracing}, {"tracing": {"begin": False}}):
            generation = process.stderr.count("reloaded")
            process.config.write_text(yaml.safe_dump({**process.settings, **written}))
            await_truth(lambda before=generation: process.stderr.count("reloaded") > before)  # type: ignore[misc]
            mark = service.mark()
            assert call(process, "/status") == 200
        assert told_to(service, mark) == ([], [])
        receiver.await_spans(1)
        await_truth(lambda: count_spans(process) == {"exported": 1, "failed": 0, "dropped": 0})
        assert COLLECTOR_KEY not in process.stderr


def test_export_without_opentelemetry_is_a_mistake_in_the_file_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")  # hides the real one
    config = tmp_path / "sidecar.yaml"
    settings = {
        "upstreams": {"listener": {"url": "http://127.0.0.1:1"}},
        "routes": [{"path": "/x", "public": True}],
        "tracing": {"endpoint": "http://127.0.0.1:4318/v1/traces"},
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    for command in ("check", "run"):
        done = run_sidecar(command, config=config, environment={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 2
        assert "8:3: tracing.endpoint: OpenTelemetry is missing" in done.stderr
        assert "pip install 'auth-sidecar[otel]'" in done.stderr
