"""A loop that is busy all the time, and a Redis that is well: nobody takes it for dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import LastUse
from sidecar.store.counters import connect_counters
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.redis_certificates import make_certificates
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.redis_topologies import running_cluster, running_sentinels

BUDGET_SECONDS = 0.02
TURN_SECONDS = 0.025
"""Every turn of the loop takes longer than Redis has to answer."""

KILL = ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
KINDS = ["one", "tls", "sentinel", "cluster"]
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]


@dataclass
class Place:
    """Where a Redis of some kind is, and how its connections are cut."""

    url: str
    cut: Callable[[], Any]


@pytest.fixture(scope="module", params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    directory, kind = tmp_path_factory.mktemp(request.param), request.param
    with ExitStack() as stack:
        yield _start(stack, kind, directory)


def _start(stack: ExitStack, kind: str, directory: Path) -> Place:
    if kind == "cluster":
        cluster = stack.enter_context(running_cluster(binary_of("debian"), directory))
        return Place(cluster.url, lambda: [server.command(*KILL) for server in cluster.masters])
    if kind == "sentinel":
        group = stack.enter_context(running_sentinels(binary_of("debian"), directory))
        return Place(group.url(), lambda: group.master_command(0)(*KILL))
    certificates = make_certificates(directory) if kind == "tls" else None
    tls = certificates.settings() if certificates is not None else ()
    server = stack.enter_context(running_redis(binary_of("debian"), directory, tls=tls))
    url = server.url
    if certificates is not None:
        url = f"{url.replace('redis', 'rediss', 1)}?ssl_ca_certs={certificates.authority}"
    return Place(url, lambda: server.command(*KILL))


@asynccontextmanager
async def busy_loop() -> AsyncIterator[None]:
    async def keep_busy() -> None:
        while True:
            time.sleep(TURN_SECONDS)
            await asyncio.sleep(0)

    busy = asyncio.create_task(keep_busy())
    try:
        yield
    finally:
        busy.cancel()


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as made:
        yield made


def test_a_busy_loop_opens_links_and_gets_answers(place: Place, runner: asyncio.Runner) -> None:
    record = make_record(days=0)

    async def main() -> None:
        store = connect(place.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        counters = connect_counters(place.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        async with busy_loop():
            assert await store.look_up(record.digest) is None
            await store.ping()
            await store.record_use([(LastUse(1, "192.0.2.1"), [record.digest])])
            assert await counters.add({"192.0.2.1": 1}, 60) == {"192.0.2.1": 1}
            await counters.clear()
        await store.close()
        await counters.close()

    runner.run(main())


def test_connections_that_redis_cuts_under_a_busy_loop_cost_no_look_up(
    place: Place, runner: asyncio.Runner
) -> None:
    async def main() -> None:
        store = connect(place.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        async with busy_loop():
            assert await store.look_up(make_record().digest) is None
            for _ in range(3):
                await asyncio.to_thread(place.cut)
                assert await store.look_up(make_record().digest) is None
        await store.close()

    runner.run(main())


def test_a_redis_that_hangs_is_found_out_by_a_busy_loop_too(
    tmp_path: Path, runner: asyncio.Runner
) -> None:
    async def main(store: RedisStore, server: RedisServer) -> None:
        async with busy_loop():
            assert await store.look_up(make_record().digest) is None
            server.pause()
            with pytest.raises(StoreUnavailable):
                await store.look_up(make_record().digest)
        server.resume()
        await store.close()

    with running_redis(binary_of("debian"), tmp_path) as server:
        store = connect(server.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS)
        runner.run(main(store, server))
