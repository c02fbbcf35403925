"""Who is banned after how many failures, for how long, and who never is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.auth.lookup_rate_limit import BURST
from sidecar.auth.throttle import MOST_COUNTED, MOST_REPORTED, Throttle, ThrottleLimits
from sidecar.core.errors import StoreUnavailable
from sidecar.core.subjects import key_of, network_of, split_subject, subject_of
from sidecar.store.memory import MemoryFailureCounters
from sidecar.store.port import MOST_BANS

LIMITS = ThrottleLimits(failures=3, window_seconds=60, ban_seconds=300)
HERE, THERE = "192.0.2.1", "198.51.100.7"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class FlakyCounters(MemoryFailureCounters):
    """Counters that can be away."""

    is_away = False
    adds = 0

    async def add(self, failures: Mapping[str, int], window_seconds: float) -> dict[str, int]:
        self._check()
        self.adds += len(failures)
        return await super().add(failures, window_seconds)

    async def ban(self, bans: Mapping[str, float]) -> set[str]:
        self._check()
        return await super().ban(bans)

    async def bans(self) -> dict[str, float]:
        self._check()
        return await super().bans()

    async def welcome(self, pairs: Mapping[str, float]) -> None:
        self._check()
        await super().welcome(pairs)

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("Redis is away")


class Fleet:
    """Processes that share counters and a clock."""

    def __init__(
        self, limits: ThrottleLimits = LIMITS, size: int = 2, most_reported: int = MOST_REPORTED
    ) -> None:
        self.clock = Clock()
        self.counters = FlakyCounters(self.clock)
        self.told: list[tuple[str | None, str | None, float]] = []
        self.processes = [
            Throttle(
                self.counters,
                limits,
                lambda *ban: self.told.append(ban),
                now=self.clock,
                most_reported=most_reported,
            )
            for _ in range(size)
        ]

    @property
    def one(self) -> Throttle:
        return self.processes[0]

    async def pass_time(self, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        for process in (*self.processes, *self.processes):
            await process.exchange()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def fail(throttle: Throttle, times: int, client: str = HERE, account: str | None = None) -> None:
    for _ in range(times):
        throttle.note_failure(client, account)


# Unknown tokens of a banned client.


def test_nobody_but_a_banned_client_is_rationed(fleet: Fleet) -> None:
    fail(fleet.one, 3)
    assert all(fleet.one.may_look_up(THERE, f"{number}") for number in range(10 * BURST))
    assert sum(fleet.one.may_look_up(HERE, f"{number}") for number in range(10 * BURST)) == BURST


def test_slips_are_rationed_for_everybody_while_failures_are_counted(fleet: Fleet) -> None:
    def look_ups(client: str) -> int:
        return sum(
            fleet.one.may_look_up(client, f"{client} {number}", is_limited=True)
            for number in range(999)
        )

    assert (look_ups(HERE), look_ups(THERE)) == (BURST, BURST)
    fleet.one.limits = ThrottleLimits(0, 60, 300)
    assert look_ups(HERE) == 999


def test_the_ration_ends_with_the_ban(fleet: Fleet) -> None:
    fail(fleet.one, 3)
    fleet.clock.now += 300
    assert all(fleet.one.may_look_up(HERE, f"{number}") for number in range(10 * BURST))


# Counting, in one process.


def test_the_failure_that_reaches_the_limit_is_the_last_that_is_not_refused(fleet: Fleet) -> None:
    fail(fleet.one, 2)
    assert fleet.one.check(HERE) is None
    fail(fleet.one, 1)
    assert fleet.one.check(HERE) == 300
    assert fleet.one.check(THERE) is None


def test_a_ban_ends_as_configured_whatever_fails_meanwhile_and_then_all_begins_anew(
    fleet: Fleet,
) -> None:
    fail(fleet.one, 3)
    fleet.clock.now += 299.5
    fail(fleet.one, 50)
    assert (fleet.one.check(HERE), fleet.one.bans_in_force) == (1, 1)
    fleet.clock.now += 0.5
    assert (fleet.one.check(HERE), fleet.one.bans_in_force) == (None, 0)
    fail(fleet.one, 2)
    assert fleet.one.check(HERE) is None
    fail(fleet.one, 1)
    assert fleet.one.check(HERE) == 300


def test_failures_longer_ago_than_the_window_do_not_count(fleet: Fleet) -> None:
    fail(fleet.one, 2)
    fleet.clock.now += 60
    fail(fleet.one, 2)
    assert fleet.one.check(HERE) is None


def test_bad_tokens_and_wrong_passwords_count_alike_against_the_address(fleet: Fleet) -> None:
    fleet.one.note_failure(HERE)
    fleet.one.note_failure(HERE, "acme")
    fleet.one.note_failure(HERE, "bolt")
    assert fleet.one.check(HERE) == 300
    assert fleet.one.check(HERE, "acme") == 300
    assert fleet.one.check(THERE, "acme") is None


@pytest.mark.parametrize("account", ["acme", "nobody", "ACME ", "x" * 9000, "\x00\n", "ü", "a@b"])
def test_wrong_passwords_from_everywhere_ban_the_account_named_be_there_one_or_not(
    fleet: Fleet, account: str
) -> None:
    for number in range(3):
        assert fleet.one.check(f"192.0.2.{number}", account) is None
        fleet.one.note_failure(f"192.0.2.{number}", account)
    assert fleet.one.check(THERE, account) == 300
    assert fleet.one.check(THERE, "other") is None
    assert fleet.one.check(THERE) is None, "what is banned is the account's password, not its token"


def test_no_failures_means_no_throttle() -> None:
    fleet = Fleet(ThrottleLimits(failures=0, window_seconds=60, ban_seconds=300))
    fail(fleet.one, 1000, HERE, "acme")
    assert fleet.one.check(HERE, "acme") is None


def test_switching_the_throttle_off_ends_what_it_had_banned(fleet: Fleet) -> None:
    fail(fleet.one, 3)
    fleet.one.limits = ThrottleLimits(failures=0, window_seconds=60, ban_seconds=300)
    assert (fleet.one.check(HERE), fleet.one.bans_in_force) == (None, 0)


# Addresses.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:0DB8:0:0:ffff::2"),
        ("2001:db8::1", "2001:db8::1%eth0"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("192.0.2.1", "::FFFF:C000:0201"),
    ],
)
def test_one_caller_is_one_however_its_address_is_written_and_wherever_in_its_64(
    fleet: Fleet, one: str, other: str
) -> None:
    fail(fleet.one, 3, one)
    assert fleet.one.check(other) == 300


@pytest.mark.parametrize(
    ("one", "other"), [("2001:db8::1", "2001:db8:0:1::1"), ("192.0.2.1", "192.0.2.2")]
)
def test_neighbours_are_two(fleet: Fleet, one: str, other: str) -> None:
    fail(fleet.one, 3, one)
    assert fleet.one.check(other) is None


@pytest.mark.parametrize("client", ["unix:", "", "garbage", "1.2.3.4.5"])
def test_callers_without_an_address_are_not_banned_for_each_other(
    fleet: Fleet, client: str
) -> None:
    fail(fleet.one, 3, client)
    assert fleet.one.check(client) is None
    fail(fleet.one, 3, client, "acme")
    assert fleet.one.check(client, "acme") == 300
    assert fleet.one.check(client, "bolt") is None


@given(st.one_of(st.ip_addresses().map(str), st.text(max_size=60)), st.text(max_size=60))
def test_a_subject_comes_apart_as_it_was_put_together_and_shows_no_name(
    client: str, account: str
) -> None:
    network = network_of(client)
    subject = subject_of(network, account)
    assert split_subject(subject) == (network, key_of(account) if account else "")
    assert subject.isascii()
    assert len(subject) <= 60


# The holder of an account.


def test_nobody_locks_the_holder_out_of_where_it_has_signed_in_before(fleet: Fleet) -> None:
    fleet.one.note_sign_in(HERE, "acme")
    fail(fleet.one, 3, THERE, "acme")
    assert fleet.one.check(THERE, "acme") == 300
    assert fleet.one.check("203.0.113.9", "acme") == 300
    assert fleet.one.check(HERE, "acme") is None


def test_bad_tokens_from_an_office_do_not_keep_its_people_from_signing_in(fleet: Fleet) -> None:
    fleet.one.note_sign_in(HERE, "acme")
    fail(fleet.one, 100, HERE)
    assert fleet.one.check(HERE) == 300
    assert fleet.one.check(HERE, "acme") is None
    assert fleet.one.check(HERE, "bolt") == 300


def test_where_an_account_is_welcome_its_password_cannot_be_tried_more_often(fleet: Fleet) -> None:
    fleet.one.note_sign_in(HERE, "acme")
    fail(fleet.one, 3, HERE, "acme")
    assert fleet.one.check(HERE, "acme") == 300
    assert fleet.one.check(THERE, "acme") is None, "and nobody else is refused for it"


def test_signing_in_to_one_account_gains_nothing_for_another(fleet: Fleet) -> None:
    fleet.one.note_sign_in(HERE, "mine")
    for _ in range(3):
        fleet.one.note_failure(HERE, "acme")
        fleet.one.note_sign_in(HERE, "mine")
    assert fleet.one.check(HERE, "acme") == 300


# Many processes.


async def test_failures_spread_over_processes_add_up(fleet: Fleet) -> None:
    one, other = fleet.processes
    fail(one, 2)
    await fleet.pass_time(0.1)
    fail(other, 1)
    assert other.check(HERE) is None
    await other.exchange()
    assert other.check(HERE) == 300
    await fleet.pass_time()
    assert one.check(HERE) is not None


async def test_a_ban_made_in_one_process_holds_in_all_within_a_second_and_is_told_once(
    fleet: Fleet,
) -> None:
    one, other = fleet.processes
    fail(one, 3, HERE, "acme")
    await fleet.pass_time()
    assert other.check(HERE) == 299
    assert other.check(THERE, "acme") == 299
    assert sorted(fleet.told, key=str) == [(HERE, None, 299.0), (None, "acme", 299.0)]


async def test_if_two_processes_ban_at_once_only_one_reports_it(fleet: Fleet) -> None:
    for process in fleet.processes:
        fail(process, 3)
    await fleet.pass_time()
    assert len(fleet.told) == 1


async def test_a_process_that_starts_knows_the_bans_and_the_welcome(fleet: Fleet) -> None:
    fleet.one.note_sign_in(HERE, "acme")
    fail(fleet.one, 3, THERE, "acme")
    await fleet.pass_time()
    fresh = Throttle(fleet.counters, LIMITS, lambda *_: None, now=fleet.clock)
    await fresh.exchange()
    assert fresh.check(THERE, "acme") == 299
    assert fresh.check(HERE, "acme") is None


async def test_a_ban_that_is_cleared_is_over_everywhere_and_all_begins_anew(fleet: Fleet) -> None:
    one, other = fleet.processes
    fail(other, 2)
    await fleet.pass_time(0.1)
    fail(one, 3)
    await fleet.pass_time()
    assert other.check(HERE) is not None
    await fleet.counters.clear()
    await fleet.pass_time()
    for process in fleet.processes:
        assert process.check(HERE) is None
        fail(process, 1)
        assert process.check(HERE) is None


async def test_the_failures_that_count_against_a_password_are_those_that_lead_to_its_ban(
    fleet: Fleet,
) -> None:
    one, key = fleet.one, key_of("acme")
    assert one.failures_of(HERE, key) == 0
    one.note_failure(HERE)
    one.note_failure(HERE, "other")
    assert (one.failures_of(HERE, key), one.failures_of(THERE, key)) == (2, 0)
    one.note_sign_in(HERE, "acme")
    assert one.failures_of(HERE, key) == 0, "who is welcome is judged by its own failures there"
    one.note_failure(HERE, "acme")
    assert one.failures_of(HERE, key) == 1
    assert one.failures_of(HERE, key_of("other")) == LIMITS.failures, "it is banned"
    fleet.clock.now += LIMITS.ban_seconds
    assert one.failures_of(HERE, key_of("other")) == 0


async def test_failures_are_sent_together_not_one_by_one(fleet: Fleet) -> None:
    fleet.one.limits = ThrottleLimits(failures=1000, window_seconds=60, ban_seconds=300)
    fail(fleet.one, 500)
    await fleet.one.exchange()
    assert fleet.counters.adds == 1
    assert await fleet.counters.add({HERE: 0}, 60) == {HERE: 500}


# Without Redis.


async def test_while_redis_is_away_a_process_counts_and_bans_alone_and_says_so_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.counters.is_away = True
    fail(fleet.one, 3)
    with caplog.at_level(logging.WARNING):
        await fleet.pass_time()
        await fleet.pass_time()
    assert fleet.one.check(HERE) == 298
    assert fleet.processes[1].check(HERE) is None
    assert len(caplog.messages) == len(fleet.processes)
    assert fleet.told == [(HERE, None, 299.0)]
    assert "alone" in repr(fleet.one)


async def test_when_redis_is_back_the_bans_and_the_welcome_made_meanwhile_are_shared(
    fleet: Fleet,
) -> None:
    one, other = fleet.processes
    fleet.counters.is_away = True
    one.note_sign_in(THERE, "acme")
    fail(one, 3, HERE, "acme")
    await fleet.pass_time()
    fleet.counters.is_away = False
    await fleet.pass_time(61)
    assert other.check(HERE) is not None
    assert other.check("203.0.113.9", "acme") is not None
    assert other.check(THERE, "acme") is None
    assert len(fleet.told) == 2, "told while it was away, and not again"


async def test_a_ban_of_an_outage_that_is_over_when_redis_is_back_stays_over(fleet: Fleet) -> None:
    fleet.counters.is_away = True
    fail(fleet.one, 3)
    await fleet.pass_time(301)
    fleet.counters.is_away = False
    await fleet.pass_time()
    assert fleet.one.check(HERE) is None
    assert await fleet.counters.bans() == {}


# Bounds.


async def test_names_and_addresses_made_up_at_random_take_no_more_than_the_bounds(
    fleet: Fleet,
) -> None:
    for number in range(MOST_COUNTED):
        fleet.one.note_failure(f"2001:db8:0:{number:x}::1", f"name {number}")
    assert repr(fleet.one) == f"<Throttle shared counted={MOST_COUNTED} banned=0>"
    await fleet.one.exchange()
    assert fleet.counters.adds <= MOST_COUNTED


async def test_one_process_makes_redis_hold_no_more_counts_than_its_share() -> None:
    fleet = Fleet(most_reported=50)
    for number in range(100):
        fleet.one.note_failure(f"192.0.2.{number}")
        await fleet.one.exchange()
    assert fleet.counters.adds == 50
    fleet.clock.now += 60
    fail(fleet.one, 1)
    await fleet.one.exchange()
    assert fleet.counters.adds == 51


def test_no_more_than_so_many_are_banned_at_once() -> None:
    fleet = Fleet(ThrottleLimits(failures=1, window_seconds=60, ban_seconds=300))
    for number in range(MOST_BANS + 10):
        fleet.one.note_failure(f"2001:db8:0:{number:x}::1")
    assert repr(fleet.one).endswith(f"banned={MOST_BANS}>")
    assert fleet.one.check("2001:db8::1") is None
    assert fleet.one.check("2001:db8:0:a::1") == 300


# The task.


async def test_the_task_shares_without_being_asked_and_ends_when_cancelled(fleet: Fleet) -> None:
    one, other = fleet.processes
    tasks = [asyncio.create_task(process.run()) for process in fleet.processes]
    await asyncio.sleep(0)
    fail(one, 2)
    while not fleet.counters.adds:
        await asyncio.sleep(0.001)
    fail(other, 1)
    while other.check(HERE) is None:
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await one.close()
