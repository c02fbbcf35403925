"""The operations listener over a real socket: alive, ready, and why not."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from sidecar.core.errors import StoreUnavailable
from sidecar.operations.app import operations_app
from sidecar.operations.health import Health

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
