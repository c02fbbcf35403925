"""When the resolver is asked, which requests wait for it, and what is used in the meantime."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from sidecar.outgoing.resolver import CachingResolver, ResolvedAddress, read_literal, resolve
from tests.fake_resolver import FakeResolver, addresses

OLD, NEW = addresses("127.0.0.2"), addresses("127.0.0.3")
FAILURES = [
    pytest.param(socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), id="temporary"),
    pytest.param(socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), id="failure"),
    pytest.param(OSError(24, "Too many open files"), id="system"),
]
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Scene:
    """A caching resolver whose answers and clock the test controls."""

    def __init__(self, **answers: tuple[str, ...]) -> None:
        self.resolver = FakeResolver(**(answers or {"service": ("127.0.0.2",)}))
        self.now = 1000.0
        self.caching = CachingResolver(self.resolver, lambda: self.now)

    async def find(self, host: str = "service") -> tuple[ResolvedAddress, ...]:
        return await self.caching.find(host, 0.1)

    async def answered(self, host: str = "service") -> None:
        """Wait for the end of the current look-up."""
        while self.caching._names[host]._pending is not None:
            await asyncio.sleep(0.001)

    async def is_asked(self, times: int, host: str = "service") -> None:
        while self.resolver.asked[host] < times:
            await asyncio.sleep(0.001)


async def test_simultaneous_requests_for_a_name_share_one_look_up() -> None:
    scene = Scene()
    scene.resolver.hang("service")
    waiting = [asyncio.create_task(scene.find()) for _ in range(50)]
    await scene.is_asked(1)
    scene.resolver.go_on("service")
    assert await asyncio.gather(*waiting) == [OLD] * 50
    assert scene.resolver.asked["service"] == 1


async def test_a_name_is_asked_for_again_after_five_seconds_and_a_new_answer_counts() -> None:
    scene = Scene()
    assert await scene.find() == OLD
    scene.resolver.answers["service"] = NEW
    scene.now += 3.9
    assert await scene.find() == OLD
    assert scene.resolver.asked["service"] == 1
    scene.now += 1.2
    assert await scene.find() == NEW
    assert scene.resolver.asked["service"] == 2


async def test_a_name_in_use_is_looked_up_in_time_and_nobody_waits() -> None:
    scene = Scene()
    await scene.find()
    scene.resolver.answers["service"] = NEW
    scene.resolver.hang("service")
    scene.now += 4.5
    for _ in range(10):
        assert await asyncio.wait_for(scene.caching.find("service", 1e9), 5) == OLD
    assert scene.resolver.asked["service"] == 2
    scene.resolver.go_on("service")
    await scene.answered()
    assert await scene.find() == NEW


async def test_a_resolver_that_was_slow_is_not_waited_for_again() -> None:
    scene = Scene()
    scene.resolver.hang("service")
    first = asyncio.create_task(scene.find())
    await scene.is_asked(1)
    scene.now += 2  # the look-up takes as long
    scene.resolver.go_on("service")
    assert await first == OLD
    scene.now += 60
    scene.resolver.hang("service")
    assert await asyncio.wait_for(scene.caching.find("service", 1.9), 5) == OLD
    scene.resolver.go_on("service")
    await scene.answered()


async def test_an_address_that_refused_is_not_taken_for_fresh() -> None:
    scene = Scene()
    await scene.find()
    scene.resolver.answers["service"] = NEW
    scene.now += 1
    scene.caching.refresh_soon("service")
    assert await scene.find() == NEW


async def test_look_ups_beyond_the_bound_wait_for_a_thread_and_then_go_on() -> None:
    names = [f"name{number}" for number in range(70)]
    scene = Scene(**dict.fromkeys(names, ("127.0.0.2",)))
    for name in names[:64]:
        scene.resolver.hang(name)
    waiting = [asyncio.create_task(scene.find(name)) for name in names]
    await scene.is_asked(1, names[63])
    await asyncio.sleep(0.01)
    assert sum(thread.name == "resolver" for thread in threading.enumerate()) == 64
    assert [scene.resolver.asked[name] for name in names] == [1] * 64 + [0] * 6
    for name in names[:64]:
        scene.resolver.go_on(name)
    assert await asyncio.gather(*waiting) == [OLD] * 70
    assert [scene.resolver.asked[name] for name in names] == [1] * 70


async def test_when_no_thread_can_start_those_that_wait_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"name{number}" for number in range(67)]
    scene = Scene(**dict.fromkeys(names, ("127.0.0.2",)))
    for name in names[:64]:
        scene.resolver.hang(name)
    waiting = [asyncio.create_task(scene.find(name)) for name in names]
    await scene.is_asked(1, names[63])
    monkeypatch.setattr(threading.Thread, "start", raise_no_threads)
    for name in names[:64]:
        scene.resolver.go_on(name)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert told[:64] == [OLD] * 64
    assert {str(one) for one in told[64:]} == {"[Errno None] can't start new thread"}


def raise_no_threads(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_hanging_resolver_delays_neither_a_cached_answer_nor_another_name() -> None:
    scene = Scene(service=("127.0.0.2",), slow=("127.0.0.4",), other=("127.0.0.5",))
    assert await scene.find() == OLD
    scene.now += 6
    for name in ("service", "slow"):
        scene.resolver.hang(name)
    without_an_answer = asyncio.create_task(scene.find("slow"))
    assert await scene.find() == OLD, "after a short wait"
    scene.now += 2  # the resolver has been at it for two seconds
    assert await scene.find() == OLD, "now without any wait"
    assert await scene.find("other") == addresses("127.0.0.5")
    assert not without_an_answer.done()
    assert scene.resolver.asked == {"service": 2, "slow": 1, "other": 1}
    scene.resolver.answers["service"] = NEW
    scene.resolver.go_on("service")
    scene.resolver.go_on("slow")
    await scene.answered()
    assert await scene.find() == NEW
    assert await without_an_answer == addresses("127.0.0.4")


@pytest.mark.parametrize("failure", FAILURES)
async def test_while_the_resolver_fails_the_last_good_answer_serves_for_an_hour(
    failure: OSError,
) -> None:
    scene = Scene()
    await scene.find()
    scene.resolver.answers["service"] = failure
    scene.now += 6
    assert await scene.find() == OLD
    scene.now += 3590
    assert await scene.find() == OLD
    scene.now += 5
    with pytest.raises(OSError, match=str(failure.strerror)):
        await scene.find()
    scene.resolver.answers["service"] = NEW
    scene.now += 1
    assert await scene.find() == NEW


async def test_a_name_that_no_longer_exists_drops_the_cached_answer() -> None:
    scene = Scene()
    await scene.find()
    scene.resolver.answers["service"] = NO_NAME
    scene.now += 6
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        await scene.find()


async def test_a_resolver_that_fails_is_asked_once_a_second_at_most() -> None:
    scene = Scene()
    scene.resolver.answers["service"] = NO_NAME
    for _ in range(50):
        with pytest.raises(OSError, match="Name or service not known"):
            await scene.find()
    assert scene.resolver.asked["service"] == 1
    scene.now += 1
    scene.resolver.answers["service"] = NEW
    assert await scene.find() == NEW


async def test_a_doubtful_answer_is_refreshed_at_most_once_a_second() -> None:
    scene = Scene()
    await scene.find()
    scene.resolver.answers["service"] = NEW
    scene.caching.refresh_soon("service")
    scene.caching.refresh_soon("a name that nobody knows")
    assert await scene.find() == OLD
    scene.now += 1
    assert await scene.find() == NEW
    assert scene.resolver.asked["service"] == 2


async def test_a_cancelled_request_does_not_end_the_look_up_for_the_others() -> None:
    scene = Scene()
    scene.resolver.hang("service")
    leaving, staying = (asyncio.create_task(scene.find()) for _ in range(2))
    await scene.is_asked(1)
    leaving.cancel()
    await asyncio.wait([leaving])
    scene.resolver.go_on("service")
    assert await staying == OLD


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"])
async def test_an_ip_address_needs_no_look_up(host: str) -> None:
    scene = Scene()
    assert await scene.find(host) == addresses(host)
    assert not scene.resolver.asked


def test_an_address_keeps_its_scope() -> None:
    (address,) = read_literal("fe80::1%1")
    assert address.sockaddr(80)[3:] == (1,)


async def test_names_that_are_not_used_any_more_are_forgotten() -> None:
    scene = Scene(**{f"name{number}": ("127.0.0.2",) for number in range(20)})
    for number in range(20):
        await scene.find(f"name{number}")
        scene.now += 1000
    assert len(scene.caching._names) <= 4


async def test_an_answer_of_a_thousand_addresses_is_truncated() -> None:
    scene = Scene(service=tuple(f"127.0.{i // 250}.{i % 250 + 1}" for i in range(1000)))
    assert len(await scene.find()) == 32


async def test_without_a_thread_to_spare_a_look_up_fails_for_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    scene = Scene()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="can't start new thread"):
            await scene.find()
    scene.now += 1
    assert await scene.find() == OLD


def test_the_systems_resolver_knows_this_machine_and_no_name_outside_of_ascii() -> None:
    assert {address.host for address in resolve("localhost")} <= {"127.0.0.1", "::1"}
    with pytest.raises(socket.gaierror):
        resolve("müller")
