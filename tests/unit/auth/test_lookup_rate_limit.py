"""How many unknown tokens of a banned network are looked up, and whose."""

from __future__ import annotations

from itertools import count

import pytest

from sidecar.auth.lookup_rate_limit import BURST, MOST_NETWORKS, RATE, LookupRateLimit


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> LookupRateLimit:
    return LookupRateLimit(clock)


def asked(limit: LookupRateLimit, network: str, digests: list[str]) -> int:
    return sum(limit.may_look_up(network, digest) for digest in digests)


MADE_UP = map("made up {}".format, count())


def flood(limit: LookupRateLimit, network: str = "192.0.2.1", tokens: int = 1000) -> int:
    return asked(limit, network, [next(MADE_UP) for _ in range(tokens)])


def test_a_network_has_a_burst_and_then_so_many_in_a_second(
    limit: LookupRateLimit, clock: Clock
) -> None:
    assert flood(limit) == BURST
    for _ in range(10):
        clock.now += 0.5
        assert flood(limit) == pytest.approx(RATE / 2, abs=1)


def test_one_networks_flood_leaves_another_its_look_ups(limit: LookupRateLimit) -> None:
    flood(limit)
    assert flood(limit, "198.51.100.7") == BURST


def test_good_tokens_pass_at_the_second_try_nearly_all_of_them_under_a_fast_flood(
    limit: LookupRateLimit, clock: Clock
) -> None:
    passed = 0
    for number in range(40):
        flood(limit)
        assert not limit.may_look_up("192.0.2.1", f"good {number}")
        for _ in range(10):
            clock.now += 0.1
            flood(limit)
        passed += limit.may_look_up("192.0.2.1", f"good {number}")
    assert passed >= 30


def test_tokens_that_come_again_are_rationed_too(limit: LookupRateLimit) -> None:
    tokens = [f"{number}" for number in range(1000)]
    assert asked(limit, "192.0.2.1", tokens) == BURST
    assert asked(limit, "192.0.2.1", tokens) <= BURST
    assert asked(limit, "192.0.2.1", tokens) == 0


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_clock_that_is_set_neither_locks_out_nor_lets_a_flood_in(
    seconds: float, limit: LookupRateLimit, clock: Clock
) -> None:
    flood(limit)
    clock.now += seconds
    assert flood(limit) == BURST


def test_however_many_networks_are_banned_the_memory_is_bounded(limit: LookupRateLimit) -> None:
    for number in range(MOST_NETWORKS + 100):
        limit.may_look_up(f"network {number}", "token")
    assert len(limit._spent) == MOST_NETWORKS
