"""Who gets the file descriptors of a process, and what happens when they have run out."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys

import pytest

from sidecar.core.errors import Overloaded, UpstreamUnreachable
from sidecar.outgoing.racing import Race
from sidecar.outgoing.resolver import CachingResolver, ResolvedAddress
from sidecar.wire.descriptors import DescriptorShares, count_open, limit_now, raise_limit
from sidecar.wire.dialing import Dialer
from sidecar.wire.pool import Pool
from tests.fake_resolver import FakeResolver
from tests.in_process import OK, answering, on_uvloop, request, running_proxy
from tests.unit.wire.test_dialing import Scene, listening

ANSWERS = [answering(OK)] * 12


@pytest.mark.parametrize("limit", [64, 128, 256, 1024, 4096, 65_536, 1_048_576])
@pytest.mark.parametrize("upstreams", [0, 8, 512, 5120])
def test_callers_their_connections_and_all_else_together_never_need_more_than_there_is(
    limit: int, upstreams: int
) -> None:
    shares = DescriptorShares(limit, 22, upstreams)
    taken = 22 + shares.callers + min(shares.callers, upstreams)
    assert taken + shares.operations + shares.portal <= limit
    assert min(shares.callers, shares.operations, shares.portal) >= 2


@pytest.mark.parametrize(
    ("limit", "callers"),
    [(64, 13), (1024, 373), (4096, 2538), (65_536, 60_906), (1_048_576, 1_043_946)],
)
def test_with_one_upstream_this_many_callers_are_admitted(limit: int, callers: int) -> None:
    assert DescriptorShares(limit, 22, 512).callers == callers


@pytest.mark.parametrize("callers", [10, 100, 1000, 10_000, 100_000])
@pytest.mark.parametrize("upstreams", [1, 512, 5000])
def test_the_limit_that_is_advised_is_enough_and_not_much_too_large(
    callers: int, upstreams: int
) -> None:
    needed = DescriptorShares(64, 30, upstreams).needed_for(callers)
    assert DescriptorShares(needed, 30, upstreams).callers >= callers
    assert DescriptorShares(needed // 2, 30, upstreams).callers < callers


def test_even_a_hopeless_limit_admits_somebody() -> None:
    assert DescriptorShares(20, 30, 512).callers == 1


RAISE = """
import resource
from sidecar.wire.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    done = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "200 (200, 200)"


def test_a_limit_that_the_kernel_does_not_let_us_raise_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == 256
    assert limit_now() == 256


def test_open_descriptors_are_counted() -> None:
    before = count_open()
    opened = os.open(os.devnull, os.O_RDONLY)
    assert count_open() == before + 1
    os.close(opened)


class Shortage:
    """While it is ``on``, no socket to an upstream can be made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = True
        self.code = errno.EMFILE
        begin = Race._start

        def start(race: Race, address: ResolvedAddress) -> None:
            if self.on:
                raise OSError(self.code, os.strerror(self.code))
            begin(race, address)

        monkeypatch.setattr(Race, "_start", start)


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    return Shortage(monkeypatch)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_shortage_of_ours_is_no_fault_of_the_upstream(shortage: Shortage, code: int) -> None:
    @on_uvloop
    async def play() -> None:
        async with listening("127.0.0.3") as port:
            scene = Scene(port, "127.0.0.3", "127.0.0.2")
            shortage.code = code
            with pytest.raises(Overloaded, match="no file descriptor is left"):
                await scene.pool.connect()
            assert scene.pool.open_count == 0
            shortage.on = False
            assert await scene.peer() == "127.0.0.3", "the address was blamed"

    play()


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_what_the_network_refuses_is_still_the_upstreams(shortage: Shortage, code: int) -> None:
    @on_uvloop
    async def play() -> None:
        scene = Scene(1, "127.0.0.3")
        shortage.code = code
        with pytest.raises(UpstreamUnreachable):
            await scene.pool.connect()

    play()


def test_idle_connections_to_other_upstreams_make_room_for_a_new_one(shortage: Shortage) -> None:
    @on_uvloop
    async def play() -> None:
        async with listening("127.0.0.3") as port:
            scene = Scene(port, "127.0.0.3")

            def free() -> None:
                shortage.on = False

            scene.dialer.free_descriptors = free
            assert await scene.peer() == "127.0.0.3"

    play()


def test_a_caller_is_told_that_the_process_is_overloaded(shortage: Shortage) -> None:
    @on_uvloop
    async def play() -> None:
        dialer = Dialer(CachingResolver(FakeResolver(service=("127.0.0.1",))))
        async with running_proxy(*ANSWERS, host="service", dialer=dialer) as proxy:
            caller = await proxy.caller()
            await caller.send(request())
            head, body = await caller.response()
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in head
            assert b'"overloaded"' in body
            shortage.on = False
            await caller.send(request())
            assert (await caller.response())[0].startswith(b"HTTP/1.1 200")

    play()


def test_connections_that_are_kept_for_anyone_can_be_dropped() -> None:
    @on_uvloop
    async def play() -> None:
        async with running_proxy(*ANSWERS) as proxy:
            caller = await proxy.caller()
            await caller.send(request())
            await caller.response()
            pool: Pool = proxy.pool
            assert pool.idle_count == 1
            pool.drop_idle()
            await proxy.settle(lambda: pool.open_count == 0)

    play()


@on_uvloop
async def test_callers_wait_in_the_queue_while_there_is_no_room_and_none_is_reset() -> None:
    async with running_proxy(*ANSWERS) as proxy:
        proxy.server.use_room(2)
        callers = [await proxy.caller() for _ in range(6)]
        for caller in callers:
            await caller.send(request())
        heads = [(await caller.response())[0] for caller in callers]
        assert [head[:12] for head in heads] == [b"HTTP/1.1 200"] * 6
        assert proxy.server.open_connections <= 2
        closing = [head for head in heads if b"Connection: close" in head]
        assert len(closing) >= 4, "a place is passed on once somebody waits"


@on_uvloop
async def test_an_idle_connection_gives_its_place_to_one_who_waits() -> None:
    async with running_proxy(*ANSWERS) as proxy:
        proxy.server.use_room(1)
        idle = await proxy.caller()
        await proxy.settle(lambda: proxy.server.open_connections == 1)
        waiting = await proxy.caller()
        await waiting.send(request())
        assert (await waiting.response())[0].startswith(b"HTTP/1.1 200")
        assert await idle.rest() == b""


@on_uvloop
async def test_once_nobody_waits_connections_are_kept_again() -> None:
    async with running_proxy(*ANSWERS) as proxy:
        proxy.server.use_room(1)
        first, second = await proxy.caller(), await proxy.caller()
        await proxy.settle(lambda: proxy.server.closes_after_answers)
        for caller in (first, second):
            await caller.send(request())
            await caller.response()
            caller.writer.close()
        await proxy.settle(lambda: proxy.server.open_connections == 0)
        assert not proxy.server.closes_after_answers


@on_uvloop
async def test_a_new_configuration_that_leaves_room_lets_those_in_who_wait() -> None:
    async with running_proxy(*ANSWERS) as proxy:
        proxy.server.use_room(0)
        caller = await proxy.caller()
        await caller.send(request())
        await asyncio.sleep(0.05)
        assert proxy.server.open_connections == 0
        proxy.server.use_room(10)
        assert (await caller.response())[0].startswith(b"HTTP/1.1 200")


@on_uvloop
async def test_the_shortage_is_said_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    async with running_proxy(*ANSWERS) as proxy:
        proxy.server.use_room(1)
        callers = [await proxy.caller() for _ in range(5)]
        for caller in callers:
            await caller.send(request())
        for caller in callers:
            await caller.response()
    said = [record.message for record in caplog.records if "descriptors" in record.message]
    assert len(said) == 1
    assert "ulimit -n" in said[0]
