"""What a running process says of itself: every documented metric, right sums, no secret."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.observability.metric_families import FAMILIES
from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import plain_settings, redis_binary
from tests.patience import PATIENCE_SECONDS
from tests.promtool import run_promtool
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import running_redis
from tests.upstream_recorder import Recorder

UNKNOWN = "a-token-that-nobody-has-ever-made"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    recorder = Recorder()
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as redis:
        settings: dict[str, Any] = plain_settings(redis, recorder.url)
        with ProxyProcess(tmp_path_factory.mktemp("sidecar"), settings) as running:
            yield running
    recorder.close()


def read_metrics(process: ProxyProcess) -> str:
    host, _, port = process.settings["operations"]["address"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def read_requests(text: str) -> Counter[tuple[str, str, str]]:
    """Return the requests counted, by route, status and code."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "sidecar_requests_total":
                labels = sample.labels
                key = (labels["route"], labels["status"], labels["code"])
                counted[key] += int(sample.value)
    return +counted


def test_every_metric_has_a_value_from_the_start_of_a_process(process: ProxyProcess) -> None:
    text = read_metrics(process)
    told = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M)
    assert told == [(family.name, family.type) for family in FAMILIES]
    empty = [family.name for family in text_string_to_metric_families(text) if not family.samples]
    assert empty == []


def test_promtool_finds_nothing_wrong_with_the_page_of_a_running_process(
    process: ProxyProcess,
) -> None:
    assert run_promtool("check", "metrics", stdin=read_metrics(process).encode()) == (0, "")


def test_what_is_counted_is_what_was_asked_and_what_the_log_says(process: ProxyProcess) -> None:
    token = create_token(process.config, "acme", "counted")
    before = read_requests(read_metrics(process))
    client = RawClient(process.connect())
    asked = [("/v1/dynamic/listener/a1", token), ("/v1/dynamic/listener/a2", UNKNOWN)]
    asked += [("/status", ""), ("/nowhere", token)]
    for target, sent in asked * 100:
        line = f"access_token: {sent}\r\n" if sent else ""
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode())
        assert client.read_answer() is not None
    client.close()
    text = read_metrics(process)
    assert read_requests(text) - before == {
        ("/v1/dynamic/listener/{id}", "200", "none"): 100,
        ("/v1/dynamic/listener/{id}", "401", "invalid_token"): 100,
        ("/status", "200", "none"): 100,
        ("none", "404", "no_route"): 100,
    }
    assert (token in text, UNKNOWN in text, "/a1" in text, "acme" in text) == (False,) * 4
    await_lines(process, int(sum(read_requests(text).values())))


def await_lines(process: ProxyProcess, count: int) -> None:
    """Wait until the access log has so many requests; fails if it has more."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (lines := len(process.access_lines())) < count:
        assert time.monotonic() < deadline, f"{lines} of {count}"
        time.sleep(0.02)
    time.sleep(0.2)  # in which none may follow
    assert len(process.access_lines()) == count


def test_a_decision_is_counted_as_a_request(process: ProxyProcess) -> None:
    before = read_requests(read_metrics(process))
    host, _, port = process.settings["operations"]["address"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_SECONDS)
    original = {"X-Original-Method": "GET", "X-Original-URI": "/v1/dynamic/listener/a1"}
    connection.request("GET", "/auth", headers=original)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (401, "missing_credentials")
    connection.close()
    key = ("/v1/dynamic/listener/{id}", "401", "missing_credentials")
    assert read_requests(read_metrics(process)) - before == {key: 1}
