"""How a connection is opened: which address is tried when, with sockets on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from sidecar.core.errors import UpstreamTimeout, UpstreamUnreachable
from sidecar.outgoing.connector import head_start_seconds, interleave
from sidecar.outgoing.racing import Race
from sidecar.outgoing.resolver import CachingResolver, ResolvedAddress
from sidecar.wire.destination import Destination
from sidecar.wire.dialing import Dialer
from sidecar.wire.pool import Pool
from tests.fake_resolver import FakeResolver, addresses
from tests.in_process import on_uvloop
from tests.silent_address import silent_address


@contextlib.asynccontextmanager
async def listening(host: str, port: int = 0) -> AsyncIterator[int]:
    """Accept connections and send nothing."""
    server = await asyncio.start_server(_hold, host, port, reuse_address=True)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


class Scene:
    """A pool for ``http://service:port`` whose resolver and clock the test moves."""

    def __init__(self, port: int, *hosts: str, timeout_seconds: float = 20.0) -> None:
        self.resolver = FakeResolver(service=hosts)
        self.now = 1000.0
        self.dialer = Dialer(CachingResolver(self.resolver, self._clock), self._clock)
        destination = Destination(
            "service", "service", port, connect_timeout_seconds=timeout_seconds
        )
        self.pool = Pool(destination, asyncio.get_running_loop(), self.dialer.open)

    def _clock(self) -> float:
        return self.now

    async def peer(self) -> str:
        """Open a connection, close it, and return the address that it went to."""
        connection = await self.pool.connect()
        assert connection.transport is not None
        host = str(connection.transport.get_extra_info("peername")[0])
        connection.abort()
        return host


class Started:
    """Records the addresses that attempts were started to, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hosts: list[str] = []
        begin = Race._start

        def note(race: Race, address: ResolvedAddress) -> None:
            self.hosts.append(address.host)
            begin(race, address)

        monkeypatch.setattr(Race, "_start", note)

    def take(self) -> list[str]:
        hosts, self.hosts = self.hosts, []
        return hosts


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


@pytest.mark.parametrize("dead", ["127.0.0.2", "::1"])
@on_uvloop
async def test_an_address_that_drops_packets_costs_a_head_start_and_no_504(dead: str) -> None:
    async with listening("127.0.0.3") as port:
        with silent_address(dead, port):
            assert await Scene(port, dead, "127.0.0.3").peer() == "127.0.0.3"


@on_uvloop
async def test_a_short_timeout_still_leaves_time_for_each_address() -> None:
    async with listening("127.0.0.4") as port:
        with silent_address("127.0.0.2", port), silent_address("127.0.0.3", port):
            scene = Scene(port, "127.0.0.2", "127.0.0.3", "127.0.0.4", timeout_seconds=0.2)
            assert await scene.peer() == "127.0.0.4"


def test_an_address_that_was_late_is_tried_last_for_a_minute(started: Started) -> None:
    @on_uvloop
    async def play() -> None:
        async with listening("127.0.0.3") as port:
            with silent_address("127.0.0.2", port):
                scene = Scene(port, "127.0.0.2", "127.0.0.3")
                await scene.peer()
                assert started.take() == ["127.0.0.2", "127.0.0.3"]
                for _ in range(3):
                    await scene.peer()
                assert started.take() == ["127.0.0.3"] * 3
                scene.now += 61
                await scene.peer()
                assert started.take() == ["127.0.0.2", "127.0.0.3"]

    play()


def test_an_address_that_refuses_is_followed_by_the_next_one_at_once(started: Started) -> None:
    @on_uvloop
    async def play() -> None:
        async with listening("127.0.0.3") as port:
            scene = Scene(port, "127.0.0.2", "127.0.0.3")
            assert [await scene.peer() for _ in range(2)] == ["127.0.0.3"] * 2
            assert started.take() == ["127.0.0.2", "127.0.0.3", "127.0.0.3"]

    play()


@on_uvloop
async def test_when_every_address_refuses_the_error_names_them_all() -> None:
    async with listening("127.0.0.1") as port:
        pass
    scene = Scene(port, "127.0.0.2", "127.0.0.3")
    with pytest.raises(UpstreamUnreachable, match="Connection refused"):
        await scene.pool.connect()


@on_uvloop
async def test_when_every_address_drops_packets_it_times_out_and_leaves_nothing_open() -> None:
    with silent_address("127.0.0.2") as port, silent_address("127.0.0.3", port):
        scene = Scene(port, "127.0.0.2", "127.0.0.3", timeout_seconds=0.1)
        before = open_sockets()
        for _ in range(3):
            with pytest.raises(UpstreamTimeout):
                await scene.pool.connect()
        assert open_sockets() == before
        assert scene.pool.open_count == 0


@on_uvloop
async def test_cancelling_the_race_leaves_nothing_open() -> None:
    with silent_address("127.0.0.2") as port:
        scene = Scene(port, "127.0.0.2", "127.0.0.2")
        before = open_sockets()
        leaving = asyncio.create_task(scene.pool.connect())
        while open_sockets() == before:
            await asyncio.sleep(0.001)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert open_sockets() == before


def open_sockets() -> int:
    """Return how many TCP sockets this process is connecting or has connected."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(_is_socket(link) for link in links)


def _is_socket(link: str) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except OSError:
        return False


@on_uvloop
async def test_a_hanging_resolver_times_out_the_first_caller_and_delays_none_after_it() -> None:
    async with listening("127.0.0.3") as port:
        scene = Scene(port, "127.0.0.3", timeout_seconds=0.1)
        scene.resolver.hang("service")
        with pytest.raises(UpstreamTimeout):
            await scene.pool.connect()
        scene.resolver.go_on("service")
        await _until_known(scene)
        scene.now += 6
        scene.resolver.hang("service")
        assert await scene.peer() == "127.0.0.3"
        scene.resolver.go_on("service")


async def _until_known(scene: Scene) -> None:
    while not scene.dialer._connector._resolver._names["service"]._addresses:
        await asyncio.sleep(0.001)


@on_uvloop
async def test_a_name_that_the_resolver_does_not_know_is_unreachable() -> None:
    scene = Scene(1, "127.0.0.3")
    scene.resolver.answers["service"] = socket.gaierror(socket.EAI_NONAME, "Name not known")
    with pytest.raises(UpstreamUnreachable, match="Name not known"):
        await scene.pool.connect()


@on_uvloop
async def test_when_no_address_accepts_a_connection_the_name_is_looked_up_again() -> None:
    async with listening("127.0.0.3") as port:
        scene = Scene(port, "127.0.0.2")
        with pytest.raises(UpstreamUnreachable):
            await scene.pool.connect()
        scene.resolver.answers["service"] = addresses("127.0.0.3")
        scene.now += 1
        assert await scene.peer() == "127.0.0.3"


@on_uvloop
async def test_a_connection_made_while_the_loop_was_busy_does_not_time_out() -> None:
    async with listening("127.0.0.1") as port:
        destination = Destination("service", "127.0.0.1", port, connect_timeout_seconds=0.05)
        pool = Pool(destination, asyncio.get_running_loop())
        opening = asyncio.create_task(pool.connect())
        await asyncio.sleep(0)
        time.sleep(0.2)  # the loop is busy, far beyond the connect time-out
        (await opening).abort()


@on_uvloop
async def test_a_loop_whose_every_turn_outlasts_the_time_out_still_connects() -> None:
    async with listening("127.0.0.3") as port:
        dialer = Dialer(CachingResolver(FakeResolver(service=["127.0.0.3"])))
        destination = Destination("service", "service", port, connect_timeout_seconds=0.02)
        loop = asyncio.get_running_loop()
        await dialer._connector._resolver.find("service", 1)
        opening = asyncio.create_task(Pool(destination, loop, dialer.open).connect())
        while not opening.done():
            time.sleep(0.03)
            await asyncio.sleep(0)
        (await opening).abort()


@on_uvloop
async def test_an_address_that_never_finishes_tls_is_tried_last_afterwards() -> None:
    """It accepts, so it wins the race (RFC 8305 covers TCP alone); the next caller gets another."""
    async with listening("127.0.0.2") as port, listening("127.0.0.3", port):
        scene = Scene(port, "127.0.0.2", "127.0.0.3", timeout_seconds=0.1)
        tls = replace(scene.pool.destination, tls=ssl.create_default_context())
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await scene.dialer.open(tls, loop, scene.pool._make_connection)
        assert await scene.peer() == "127.0.0.3"


def test_a_busy_loop_does_not_use_up_a_head_start(started: Started) -> None:
    @on_uvloop
    async def play() -> None:
        async with listening("127.0.0.3") as port:
            scene = Scene(port, "127.0.0.3", "127.0.0.4")
            await scene.dialer._connector._resolver.find("service", 1)
            opening = asyncio.create_task(scene.peer())
            await asyncio.sleep(0)
            time.sleep(0.5)  # twice a head start
            assert await opening == "127.0.0.3"
            assert started.take() == ["127.0.0.3"]

    play()


ORDERS = [
    (("::1", "::2", "127.0.0.1", "127.0.0.2"), ("::1", "127.0.0.1", "::2", "127.0.0.2")),
    (("127.0.0.1", "127.0.0.2", "::1"), ("127.0.0.1", "::1", "127.0.0.2")),
    (("127.0.0.1", "127.0.0.2"), ("127.0.0.1", "127.0.0.2")),
    (("::1",), ("::1",)),
]  # fmt: skip


@pytest.mark.parametrize(("found", "tried"), ORDERS)
def test_families_alternate(found: Sequence[str], tried: Sequence[str]) -> None:
    assert interleave(addresses(*found)) == [*addresses(*tried)]


@pytest.mark.parametrize(
    ("budget_seconds", "count", "expected"),
    [(3.0, 1, 0.25), (3.0, 2, 0.25), (0.1, 2, 0.025), (3.0, 12, 0.125), (0.01, 4, 0.01)],
)
def test_the_last_address_has_half_of_the_budget(
    budget_seconds: float, count: int, expected: float
) -> None:
    assert head_start_seconds(budget_seconds, count) == pytest.approx(expected)


@on_uvloop
async def test_the_memory_of_slow_addresses_is_bounded() -> None:
    record = Scene(1, "127.0.0.1").dialer._connector._history
    for number in range(3000):
        record.note_late(addresses(f"10.0.{number // 250}.{number % 250}")[0], 80)
    assert len(record._late_at) == 1024
