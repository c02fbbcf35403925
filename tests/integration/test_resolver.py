"""An upstream that is a name: requests go on while it moves, is slow to resolve or half dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sidecar.outgoing.resolver import CachingResolver
from sidecar.wire.dialing import Dialer
from tests.fake_resolver import FakeResolver, addresses
from tests.in_process import OK, Peer, Proxy, Upstream, on_uvloop, request, running_proxy
from tests.silent_address import silent_address

CALLERS = 4


class Scene:
    """A resolver and a clock that the test moves."""

    def __init__(self, *hosts: str) -> None:
        self.resolver = FakeResolver(service=hosts)
        self.now = 1000.0
        self.dialer = Dialer(CachingResolver(self.resolver, self._clock), self._clock)

    def _clock(self) -> float:
        return self.now


async def answer_and_close(peer: Peer) -> None:
    if await peer.until(b"\r\n\r\n"):
        await peer.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


async def statuses(proxy: Proxy, count: int) -> set[bytes]:
    caller = await proxy.caller()
    seen = set()
    for _ in range(count):
        await caller.send(request())
        seen.add((await caller.response())[0].split(b" ")[1])
    return seen


@contextlib.asynccontextmanager
async def moved_service(proxy: Proxy) -> AsyncIterator[Upstream]:
    """Run a second upstream, at the same port of 127.0.0.2."""
    upstream = Upstream()
    await upstream.start(host="127.0.0.2", port=proxy.pool.destination.port)
    try:
        yield upstream
    finally:
        await upstream.stop()


@on_uvloop
async def test_a_name_that_moves_is_followed_while_requests_keep_the_connections_busy() -> None:
    scene = Scene("127.0.0.1")
    async with (
        running_proxy(host="service", dialer=scene.dialer, max_age="200ms") as proxy,
        moved_service(proxy) as moved,
    ):
        is_done = False

        async def keep_asking() -> None:
            while not is_done:
                assert await statuses(proxy, 5) == {b"200"}

        asking = [asyncio.create_task(keep_asking()) for _ in range(CALLERS)]
        await proxy.settle(lambda: len(proxy.upstream.peers) >= CALLERS)
        scene.resolver.answers["service"] = addresses("127.0.0.2")
        scene.now += 6
        await proxy.settle(lambda: len(moved.peers) > 0)
        await proxy.settle(lambda: not proxy.upstream._tasks)  # the old ones are all closed
        is_done = True
        await asyncio.gather(*asking)


@on_uvloop
async def test_a_resolver_that_hangs_stops_no_request_once_the_name_is_known() -> None:
    scene = Scene("127.0.0.1")
    async with running_proxy(answer_and_close, host="service", dialer=scene.dialer) as proxy:
        assert await statuses(proxy, 1) == {b"200"}
        scene.now += 6
        scene.resolver.hang("service")
        assert await statuses(proxy, 20) == {b"200"}
        assert scene.resolver.asked["service"] == 2
        scene.resolver.go_on("service")


@on_uvloop
async def test_a_name_whose_first_address_drops_packets_serves_from_the_second() -> None:
    scene = Scene("127.0.0.2", "127.0.0.1")
    async with running_proxy(answer_and_close, host="service", dialer=scene.dialer) as proxy:
        with silent_address("127.0.0.2", proxy.pool.destination.port):
            assert await statuses(proxy, 20) == {b"200"}
