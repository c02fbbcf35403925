"""The operations listener over a real socket: alive, ready, and why not."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from sidecar.core.errors import StoreUnavailable
from sidecar.observability.access_log import RequestLog
from sidecar.observability.metric_families import FAMILIES
from sidecar.observability.metrics import Metrics
from sidecar.operations.exposition import read_process
from sidecar.operations.health import Health
from sidecar.operations.listener import operations_app

Client = TestClient[Request, Application]


class Probe:
    """A store and a process whose states a test sets; counts how often the store was asked."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.is_draining = False
        self.pings = 0
        self.now = 100.0

    async def ping(self) -> None:
        self.pings += 1
        await asyncio.sleep(0)
        if self.fault:
            raise StoreUnavailable(self.fault)

    def health(self) -> Health:
        return Health(self.ping, lambda: self.is_draining, clock=lambda: self.now)


@pytest.fixture
def probe() -> Probe:
    return Probe()


def client_of(probe: Probe) -> Client:
    return TestClient(TestServer(operations_app(probe.health())))


async def ready_answer(client: Client) -> tuple[int, object]:
    async with client.get("/readyz") as response:
        return response.status, await response.json()


async def test_ready_is_200_while_the_store_answers(probe: Probe) -> None:
    async with client_of(probe) as client:
        assert await ready_answer(client) == (200, {"ready": True, "reasons": []})


async def test_ready_is_503_with_the_reason_while_the_store_is_away(probe: Probe) -> None:
    probe.fault = "no answer within 250 ms"
    async with client_of(probe) as client:
        status, body = await ready_answer(client)
    assert status == 503
    assert body == {"ready": False, "reasons": ["store_unavailable: no answer within 250 ms"]}


async def test_ready_is_503_while_draining_and_names_every_reason(probe: Probe) -> None:
    probe.is_draining = True
    probe.fault = "connection refused"
    async with client_of(probe) as client:
        status, body = await ready_answer(client)
    assert status == 503
    assert isinstance(body, dict)
    assert [reason.split(":")[0] for reason in body["reasons"]] == [
        "draining",
        "store_unavailable",
    ]


async def test_ready_is_found_again_once_the_store_is_back(probe: Probe) -> None:
    probe.fault = "connection refused"
    async with client_of(probe) as client:
        assert (await ready_answer(client))[0] == 503
        probe.fault = None
        probe.now += 0.25
        assert (await ready_answer(client))[0] == 200


async def test_alive_is_200_even_when_not_ready(probe: Probe) -> None:
    probe.fault, probe.is_draining = "connection refused", True
    async with client_of(probe) as client, client.get("/healthz") as response:
        assert (response.status, await response.json()) == (200, {"alive": True})
    assert probe.pings == 0


async def test_a_hundred_probes_at_once_ask_the_store_once(probe: Probe) -> None:
    async with client_of(probe) as client:
        answers = await asyncio.gather(*(ready_answer(client) for _ in range(100)))
    assert {status for status, _ in answers} == {200}
    assert probe.pings == 1


async def test_no_answer_may_be_cached(probe: Probe) -> None:
    async with client_of(probe) as client:
        for path in ("/healthz", "/readyz", "/nothing"):
            async with client.get(path) as response:
                assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/nothing", 404, "not_found", None),
        ("POST", "/healthz", 405, "method_not_allowed", "GET,HEAD"),
    ],
)
async def test_errors_are_problem_json(
    probe: Probe, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async with client_of(probe) as client, client.request(method, path) as response:
        assert response.content_type == "application/problem+json"
        assert response.headers.get("Allow") == allow
        problem = await response.json()
    assert (response.status, problem["status"], problem["code"]) == (status, status, code)


async def test_head_is_answered_like_get_without_a_body(probe: Probe) -> None:
    async with client_of(probe) as client, client.head("/readyz") as response:
        assert (response.status, await response.read()) == (200, b"")


def metered(probe: Probe, metrics: Metrics) -> Client:
    return TestClient(TestServer(operations_app(probe.health(), collect=metrics.collect)))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
    ],
)
async def test_metrics_come_in_the_format_that_is_asked_for(
    probe: Probe, accept: str, content_type: str
) -> None:
    async with (
        metered(probe, Metrics("1.0")) as client,
        client.get("/metrics", headers={"Accept": accept}) as response,
    ):
        assert (response.status, response.headers["Content-Type"]) == (200, content_type)
        text = await response.text()
    assert text.endswith("# EOF\n") == ("openmetrics" in content_type)
    assert 'sidecar_build_info{compiled="' in text


async def test_metrics_say_whether_the_store_answers(probe: Probe) -> None:
    async with metered(probe, Metrics("1.0")) as client:
        async with client.get("/metrics") as response:
            assert "sidecar_store_up 1.0\n" in await response.text()
        probe.fault, probe.now = "connection refused", probe.now + 1
        async with client.get("/metrics") as response:
            assert "sidecar_store_up 0.0\n" in await response.text()


async def test_metrics_tell_of_the_process(probe: Probe) -> None:
    metrics = Metrics("1.0")
    metrics.add_source(read_process)
    async with metered(probe, metrics) as client, client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    names = {line.split()[0] for line in lines if line.startswith("process_")}
    assert names == {family.name for family in FAMILIES if family.name.startswith("process_")}


async def test_a_request_that_was_counted_is_on_the_page(probe: Probe) -> None:
    metrics, entry = Metrics("1.0"), RequestLog(1.0, "192.0.2.1")
    entry.route, entry.method, entry.status, entry.code = "/x", "GET", 401, "invalid_token"
    metrics.observe(entry, 1.001)
    async with metered(probe, metrics) as client, client.get("/metrics") as response:
        text = await response.text()
    labels = 'code="invalid_token",method="GET",route="/x",status="401"'
    assert f"sidecar_requests_total{{{labels}}} 1.0\n" in text
    assert 'sidecar_denials_total{code="invalid_token",form="none"} 1.0\n' in text


@pytest.mark.parametrize("path", ["/metrics", "/auth", "/auth/x"])
async def test_what_is_not_given_is_not_there(probe: Probe, path: str) -> None:
    async with client_of(probe) as client, client.get(path) as response:
        assert response.status == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/nothing"])
async def test_no_answer_says_of_what_the_listener_is_made(probe: Probe, path: str) -> None:
    async with client_of(probe) as client, client.get(path) as response:
        assert "Server" not in response.headers
