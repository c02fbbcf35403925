"""When a cached token may be believed: told changes, lost words, outages, clocks, bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.cache import TokenCache
from sidecar.store.port import HEARD_SECONDS
from sidecar.store.record import encode
from tests.contract.records import digest_of, make_record, read_record

RECORD = make_record(days=0)
DIGEST = RECORD.digest
GRACE_SECONDS = 30.0
MAX_AGE_SECONDS = 60.0


class Bench:
    """A cache, its clock, and a store that answers at once, or when told to."""

    def __init__(
        self, *, most_tokens: int = 1000, grace_seconds: float = GRACE_SECONDS, watches: bool = True
    ) -> None:
        self.time = 1e9
        self.records: dict[str, TokenRecord] = {DIGEST: RECORD}
        self.is_away = False
        self.asked: list[str] = []
        self.flights: list[asyncio.Future[TokenRecord | None]] | None = None
        self.cache = TokenCache(
            most_tokens=most_tokens,
            max_age_seconds=MAX_AGE_SECONDS,
            outage_grace_seconds=grace_seconds,
            now=lambda: self.time,
        )
        self.cache.connect(self._fetch, read_record)
        if watches:
            self.cache.on_watching()

    async def _fetch(self, digest: str, asker: str) -> bytes | None:
        record = await self._look_up(digest)
        return None if record is None else encode(record)

    async def _look_up(self, digest: str) -> TokenRecord | None:
        self.asked.append(digest)
        if self.is_away:
            raise StoreUnavailable("away")
        if self.flights is not None:
            self.flights.append(asyncio.get_running_loop().create_future())
            return await self.flights[-1]
        return self.records.get(digest)

    def wait(self, seconds: float, *, heard: bool = True) -> None:
        """Let time pass, in which the store is heard every second, or not at all."""
        end = self.time + seconds
        while heard and self.time + 1 < end:
            self.time += 1
            self.cache.on_heard(0.0)
        self.time = end

    def lose(self) -> None:
        """Lose the store: its word and its answers."""
        self.is_away = True
        self.cache.on_blind()


async def start(awaitable: Awaitable[TokenRecord | None]) -> asyncio.Task[TokenRecord | None]:
    """Run a look-up up to the point where it waits for the store."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0)
    return task


async def assert_unavailable(bench: Bench, digest: str = DIGEST) -> None:
    with pytest.raises(StoreUnavailable):
        await bench.cache.look_up(digest)


async def test_a_record_is_asked_for_once_and_then_recalled() -> None:
    bench = Bench()
    assert bench.cache.get(DIGEST) is None
    assert await bench.cache.look_up(DIGEST) == RECORD
    assert bench.cache.get(DIGEST) == RECORD
    assert await bench.cache.look_up(DIGEST) == RECORD
    assert bench.asked == [DIGEST]
    assert (bench.cache.misses, bench.cache.hits) == (1, 2)
    assert repr(bench.cache) == "<TokenCache watching entries=1 absent=0>"


async def test_what_is_recalled_is_read_once() -> None:
    bench = Bench()
    read: list[str] = []

    def note(digest: str, value: bytes, now: float) -> TokenRecord | None:
        read.append(digest)
        return read_record(digest, value, now)

    bench.cache.connect(bench._fetch, note)
    assert await bench.cache.look_up(DIGEST) == RECORD
    first = bench.cache.get(DIGEST)
    assert bench.cache.get(DIGEST) is first == RECORD
    assert read == [DIGEST, DIGEST], "once to answer, and once to keep it"


async def test_what_the_store_does_not_know_is_remembered_for_ten_seconds() -> None:
    bench = Bench()
    unknown = digest_of("unknown")
    for seconds, asked in ((0, 1), (9, 1), (2, 2)):
        bench.wait(seconds)
        assert bench.cache.is_absent(unknown) == (len(bench.asked) == asked)
        assert await bench.cache.look_up(unknown) is None
        assert len(bench.asked) == asked


async def test_what_is_kept_or_was_never_asked_for_is_not_absent() -> None:
    bench = Bench()
    assert not bench.cache.is_absent(DIGEST)
    await bench.cache.look_up(DIGEST)
    assert not bench.cache.is_absent(DIGEST)


@pytest.mark.parametrize("loses_sight", [True, False])
async def test_nothing_is_absent_once_the_store_falls_silent(loses_sight: bool) -> None:
    bench = Bench()
    unknown = digest_of("unknown")
    await bench.cache.look_up(unknown)
    assert bench.cache.is_absent(unknown)
    if loses_sight:
        bench.lose()
    else:
        bench.time += HEARD_SECONDS
    assert not bench.cache.is_absent(unknown)


@pytest.mark.parametrize("told", [[DIGEST], None], ids=["this one", "any"])
async def test_a_told_change_is_effective_at_once(told: list[str] | None) -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.records.clear()
    bench.cache.on_changed(told)
    assert bench.cache.get(DIGEST) is None
    assert await bench.cache.look_up(DIGEST) is None
    bench.records[DIGEST] = RECORD
    bench.cache.on_changed(told)
    assert await bench.cache.look_up(DIGEST) == RECORD


async def test_a_told_change_leaves_other_records_alone() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.cache.on_changed([digest_of("another")])
    bench.cache.on_heard(0.0)
    assert bench.cache.get(DIGEST) == RECORD


@pytest.mark.parametrize("told", [[DIGEST], None], ids=["this one", "any"])
async def test_a_change_told_while_a_look_up_flies_has_it_asked_again(
    told: list[str] | None,
) -> None:
    bench = Bench()
    bench.flights = []
    task = await start(bench.cache.look_up(DIGEST))
    bench.cache.on_changed(told)
    bench.flights[0].set_result(RECORD)
    await asyncio.sleep(0)
    bench.flights[1].set_result(None)
    assert await task is None
    assert bench.cache.get(DIGEST) is None


@pytest.mark.parametrize("told", [[DIGEST], None], ids=["this one", "any"])
async def test_a_change_told_between_an_answer_and_its_reader_wins_too(
    told: list[str] | None,
) -> None:
    """The answer is there, but the caller that waits for it has not run yet."""
    bench = Bench()
    bench.flights = []
    task = await start(bench.cache.look_up(DIGEST))
    bench.flights[0].set_result(RECORD)
    bench.cache.on_changed(told)
    await asyncio.sleep(0)
    assert not task.done()
    bench.flights[1].set_result(None)
    assert await task is None


async def test_a_link_lost_between_an_answer_and_its_reader_leaves_nothing_kept() -> None:
    bench = Bench()
    bench.flights = []
    task = await start(bench.cache.look_up(DIGEST))
    bench.flights[0].set_result(RECORD)
    bench.cache.on_blind()
    assert await task == RECORD
    bench.cache.on_watching()
    assert bench.cache.get(DIGEST) is None


async def test_a_look_up_begun_before_the_watch_is_asked_again_within_it() -> None:
    bench = Bench(watches=False)
    bench.flights = []
    task = await start(bench.cache.look_up(DIGEST))
    bench.cache.on_watching()
    bench.flights[0].set_result(RECORD)
    await asyncio.sleep(0)
    bench.flights[1].set_result(RECORD)
    assert await task == RECORD
    assert bench.cache.get(DIGEST) == RECORD


async def test_a_record_that_never_stops_changing_is_answered_and_not_kept() -> None:
    bench = Bench()
    bench.flights = []
    task = await start(bench.cache.look_up(DIGEST))
    for flight in range(3):
        bench.cache.on_changed([DIGEST])
        bench.flights[flight].set_result(RECORD)
        await asyncio.sleep(0)
    assert await task == RECORD
    assert bench.cache.get(DIGEST) is None


async def test_a_caller_that_leaves_disturbs_no_other_and_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.flights = []
    leaver = await start(bench.cache.look_up(DIGEST))
    stayer = await start(bench.cache.look_up(DIGEST))
    leaver.cancel()
    await asyncio.sleep(0)
    bench.flights[1].set_result(RECORD)
    assert await stayer == RECORD
    assert leaver.cancelled()
    assert not bench.cache._asking


async def test_a_store_that_falls_silent_is_believed_for_two_seconds_at_most() -> None:
    """A line that died without a sign; whoever holds the link may not have noticed."""
    bench = Bench()
    unknown = digest_of("unknown")
    await bench.cache.look_up(DIGEST)
    await bench.cache.look_up(unknown)
    bench.wait(HEARD_SECONDS - 0.001, heard=False)
    assert bench.cache.get(DIGEST) == RECORD
    bench.wait(0.001, heard=False)
    assert bench.cache.get(DIGEST) is None
    bench.is_away = True
    await assert_unavailable(bench)
    await assert_unavailable(bench, unknown)


async def test_a_process_that_slept_believes_nothing_until_the_store_is_heard() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.wait(20, heard=False)
    assert bench.cache.get(DIGEST) is None
    bench.cache.on_heard(0.0)
    assert bench.cache.get(DIGEST) == RECORD


async def test_max_age_bounds_what_is_believed_of_a_store_that_is_heard() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.wait(MAX_AGE_SECONDS - 0.5)
    assert bench.cache.get(DIGEST) == RECORD
    bench.wait(0.5)
    assert bench.cache.get(DIGEST) is None
    assert await bench.cache.look_up(DIGEST) == RECORD
    assert len(bench.asked) == 2


async def test_a_record_is_never_believed_past_its_own_expiry() -> None:
    bench = Bench()
    bench.records[DIGEST] = RECORD.replace(expires_at=bench.time + 1.5)
    await bench.cache.look_up(DIGEST)
    bench.wait(1.4)
    assert bench.cache.get(DIGEST) is not None
    bench.wait(0.1)
    assert bench.cache.get(DIGEST) is None


async def test_when_tokens_end_is_told_of_those_that_are_kept_and_do_end() -> None:
    bench, digest = Bench(), digest_of("another")
    bench.records[digest] = RECORD.replace(digest=digest, expires_at=bench.time + 100)
    await bench.cache.look_up(DIGEST)
    await bench.cache.look_up(digest)
    assert bench.cache.ends == [bench.time + 100]
    bench.cache.on_changed([digest])
    assert bench.cache.ends == []


async def test_a_clock_set_back_lengthens_nothing() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.time -= 3600
    bench.cache.on_heard(0.0)
    assert bench.cache.get(DIGEST) is None
    assert await bench.cache.look_up(DIGEST) == RECORD
    assert bench.cache.get(DIGEST) == RECORD
    bench.wait(HEARD_SECONDS, heard=False)
    assert bench.cache.get(DIGEST) is None


async def test_a_clock_set_forward_only_costs_another_look_up() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.time += 3600
    assert bench.cache.get(DIGEST) is None
    bench.cache.on_heard(0.0)
    assert await bench.cache.look_up(DIGEST) == RECORD
    assert bench.cache.get(DIGEST) == RECORD


# Outages.


async def test_in_an_outage_what_held_good_is_accepted_for_the_grace_and_nothing_else() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    assert bench.cache.get(DIGEST) is None
    await assert_unavailable(bench, digest_of("unknown"))
    bench.wait(GRACE_SECONDS - 0.001)
    assert await bench.cache.look_up(DIGEST) == RECORD
    bench.wait(0.001)
    await assert_unavailable(bench)


async def test_the_grace_counts_from_the_stores_last_word_and_not_from_its_loss() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.wait(20, heard=False)
    bench.lose()
    bench.wait(GRACE_SECONDS - 20.001)
    assert await bench.cache.look_up(DIGEST) == RECORD
    bench.wait(0.001)
    await assert_unavailable(bench)


async def test_a_token_not_used_for_long_has_the_grace_too() -> None:
    """Past ``max_age`` it would be asked for anew, but the store told of no change to it."""
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.wait(MAX_AGE_SECONDS * 10)
    bench.lose()
    assert await bench.cache.look_up(DIGEST) == RECORD


async def test_without_a_grace_an_outage_is_unavailable_at_once() -> None:
    bench = Bench(grace_seconds=0)
    await bench.cache.look_up(DIGEST)
    bench.lose()
    await assert_unavailable(bench)


async def test_the_grace_does_not_outlast_the_record() -> None:
    bench = Bench()
    bench.records[DIGEST] = RECORD.replace(expires_at=bench.time + 5)
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.wait(4.9)
    assert await bench.cache.look_up(DIGEST) is not None
    bench.wait(0.1)
    await assert_unavailable(bench)


async def test_a_clock_set_back_in_an_outage_ends_the_grace() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.time -= 3600
    await assert_unavailable(bench)


async def test_what_changed_before_the_outage_has_no_grace() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.cache.on_changed([DIGEST])
    bench.lose()
    await assert_unavailable(bench)


async def test_after_an_outage_everything_is_asked_anew() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.records.clear()
    bench.is_away = False
    assert await bench.cache.look_up(DIGEST) is None
    bench.cache.on_watching()
    assert await bench.cache.look_up(DIGEST) is None
    bench.lose()
    await assert_unavailable(bench)


async def test_what_an_outage_left_is_of_no_use_while_the_store_is_heard_again() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.cache.on_watching()
    await assert_unavailable(bench)


async def test_a_second_outage_leaves_the_first_ones_grace_to_what_was_not_used_between_them() -> (
    None
):
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.wait(10, heard=False)
    bench.cache.on_watching()
    bench.wait(1)
    bench.cache.on_blind()
    bench.wait(GRACE_SECONDS - 11 - 0.1, heard=False)
    assert await bench.cache.look_up(DIGEST) == RECORD
    bench.wait(0.2, heard=False)
    await assert_unavailable(bench)


async def test_what_was_read_again_between_two_outages_has_the_whole_grace_of_the_second() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.wait(20, heard=False)
    bench.is_away = False
    bench.cache.on_watching()
    assert await bench.cache.look_up(DIGEST) == RECORD
    bench.lose()
    bench.wait(GRACE_SECONDS - 0.1, heard=False)
    assert await bench.cache.look_up(DIGEST) == RECORD


@pytest.mark.parametrize("told", [[DIGEST], None], ids=["this one", "all"])
async def test_what_is_told_between_two_outages_to_have_changed_has_no_grace_left(
    told: list[str] | None,
) -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.cache.on_watching()
    bench.cache.on_changed(told)
    bench.cache.on_blind()
    await assert_unavailable(bench)


async def test_what_was_found_to_be_gone_between_two_outages_has_no_grace_left() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.is_away = False
    bench.records.clear()
    bench.cache.on_watching()
    assert await bench.cache.look_up(DIGEST) is None
    bench.lose()
    await assert_unavailable(bench)


async def test_a_store_that_comes_and_goes_lengthens_nothing_and_costs_no_memory() -> None:
    bench = Bench(most_tokens=20)
    others = [make_record(number, days=0) for number in range(1, 101)]
    bench.records.update({record.digest: record for record in others})
    await bench.cache.look_up(DIGEST)
    for record in others:  # each time other tokens are used
        bench.lose()
        bench.wait(0.1, heard=False)
        bench.is_away = False
        bench.cache.on_watching()
        await bench.cache.look_up(record.digest)
        assert len(bench.cache._outage) <= 20
        assert len(bench.cache._outage._watches) <= 8
    bench.lose()
    assert await bench.cache.look_up(others[-1].digest) == others[-1]
    bench.wait(GRACE_SECONDS + 1, heard=False)
    await assert_unavailable(bench, others[-1].digest)


async def test_what_an_outage_left_is_dropped_once_it_can_serve_no_more() -> None:
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.lose()
    bench.cache.on_watching()
    assert len(bench.cache._outage) == 1
    bench.wait(GRACE_SECONDS + 2)
    assert len(bench.cache._outage) == 0


async def test_a_token_is_familiar_as_long_as_anything_is_remembered_of_it() -> None:
    bench = Bench()
    assert not bench.cache.is_familiar(DIGEST)
    await bench.cache.look_up(DIGEST)
    assert bench.cache.is_familiar(DIGEST)
    bench.lose()
    bench.cache.on_watching()
    assert bench.cache.is_familiar(DIGEST)
    bench.cache.on_changed([DIGEST])
    assert not bench.cache.is_familiar(DIGEST)


async def test_a_change_that_was_told_before_the_store_was_lost_leaves_an_old_answer_no_grace() -> (
    None
):
    """The answer had arrived, and its caller had not yet run."""
    bench = Bench()
    bench.flights = []
    task = await start(bench.cache.look_up(DIGEST))
    bench.flights[0].set_result(RECORD)
    bench.cache.on_changed([DIGEST])
    bench.lose()
    with pytest.raises(StoreUnavailable):
        await task
    await assert_unavailable(bench)


async def test_a_slow_answer_has_records_believed_from_when_it_was_asked_for() -> None:
    """On a busy loop answers take long to be read; that is no reason to believe nothing."""
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.wait(HEARD_SECONDS - 0.1, heard=False)
    bench.cache.on_heard(1.0)
    assert bench.cache.get(DIGEST) == RECORD
    bench.wait(HEARD_SECONDS - 1.1, heard=False)
    assert bench.cache.get(DIGEST) == RECORD
    bench.wait(0.2, heard=False)
    assert bench.cache.get(DIGEST) is None


async def test_a_queue_that_is_full_is_no_outage() -> None:
    """The store can be heard, so nothing but its answer will do."""
    bench = Bench()
    await bench.cache.look_up(DIGEST)
    bench.cache.on_changed([DIGEST])
    bench.is_away = True
    await assert_unavailable(bench)


async def test_without_a_store_nothing_is_known() -> None:
    cache = TokenCache(most_tokens=1, max_age_seconds=1, outage_grace_seconds=1)
    with pytest.raises(StoreUnavailable):
        await cache.look_up(DIGEST)


# A store that never tells of changes: tracking refused, or a Cluster.


async def test_a_store_that_does_not_tell_is_asked_by_every_request() -> None:
    bench = Bench(watches=False)
    for _ in range(3):
        assert await bench.cache.look_up(DIGEST) == RECORD
        assert bench.cache.get(DIGEST) is None
    assert len(bench.asked) == 3


async def test_its_answers_serve_in_an_outage_each_for_the_grace() -> None:
    bench = Bench(watches=False)
    other = make_record(2, days=0)
    bench.records[other.digest] = other
    await bench.cache.look_up(DIGEST)
    bench.wait(20)
    await bench.cache.look_up(other.digest)
    bench.is_away = True
    bench.wait(GRACE_SECONDS - 20.001)
    assert await bench.cache.look_up(DIGEST) == RECORD
    bench.wait(0.001)
    await assert_unavailable(bench)
    assert await bench.cache.look_up(other.digest) == other


async def test_its_no_is_remembered_in_an_outage() -> None:
    bench = Bench(watches=False)
    await bench.cache.look_up(DIGEST)
    bench.records.clear()
    assert await bench.cache.look_up(DIGEST) is None
    bench.is_away = True
    await assert_unavailable(bench)


# Bounds.


async def test_the_cache_is_bounded_and_the_first_kept_leave_first() -> None:
    bench = Bench(most_tokens=128)
    records = [make_record(number, days=0) for number in range(1000)]
    bench.records = {record.digest: record for record in records}
    for record in records:
        await bench.cache.look_up(record.digest)
        await bench.cache.look_up(record.digest)
        assert len(bench.cache._entries) <= 128
    assert bench.cache.get(records[-1].digest) == records[-1]
    assert sum(bench.cache.get(record.digest) is not None for record in records) > 120
    assert bench.cache.get(records[-129].digest) is None


async def test_a_record_kept_again_is_not_the_first_to_leave() -> None:
    bench = Bench(most_tokens=2)
    records = [make_record(number, days=0) for number in range(3)]
    bench.records = {record.digest: record for record in records}
    for number in (0, 1):
        await bench.cache.look_up(records[number].digest)
    bench.wait(MAX_AGE_SECONDS)
    for number in (0, 2, 2):
        await bench.cache.look_up(records[number].digest)
    assert [*bench.cache._entries] == [records[0].digest, records[2].digest]


async def test_a_full_cache_takes_in_only_what_comes_a_second_time() -> None:
    """So those that are used once drive out none that is used often."""
    bench = Bench(most_tokens=100)
    often = [make_record(number, days=0) for number in range(100)]
    once = [make_record(number, days=0) for number in range(100, 3000)]
    bench.records = {record.digest: record for record in often + once}
    for record in often + once:
        assert await bench.cache.look_up(record.digest) == record
    kept = sum(bench.cache.get(record.digest) is not None for record in often)
    assert kept > 50  # one in 128 is mistaken for one that was here
    new = once[-1]
    assert await bench.cache.look_up(new.digest) == new
    assert bench.cache.get(new.digest) == new


async def test_unknown_tokens_take_a_tenth_of_the_room_and_drive_out_no_good_one() -> None:
    bench = Bench(most_tokens=100)
    await bench.cache.look_up(DIGEST)
    for number in range(5000):
        assert await bench.cache.look_up(digest_of(f"junk {number}")) is None
    assert len(bench.cache._absent) <= 10
    assert bench.cache.get(DIGEST) == RECORD


@pytest.mark.parametrize("watches", [True, False])
async def test_with_room_for_none_nothing_is_kept_or_remembered(watches: bool) -> None:
    bench = Bench(most_tokens=0, watches=watches)
    await bench.cache.look_up(DIGEST)
    await bench.cache.look_up(digest_of("unknown"))
    assert bench.cache.get(DIGEST) is None
    assert repr(bench.cache).endswith("entries=0 absent=0>")
    bench.lose()
    await assert_unavailable(bench)


async def test_who_leaves_next_is_found_for_many_at_once_as_finding_one_is_slow() -> None:
    bench = Bench(most_tokens=640)
    digests = [f"{number:064x}" for number in range(651)]
    for digest in digests:
        for _ in range(2):  # a full cache takes in what comes twice
            bench.cache._put(digest, RECORD, encode(RECORD), bench.time)
        searched = len(bench.cache._leaving)
        assert searched == (0 if digest < digests[640] else int(digests[650], 16) - int(digest, 16))
    assert [*bench.cache._entries] == digests[11:]


async def test_a_record_that_is_recalled_for_the_first_time_stays_for_another_round() -> None:
    bench = Bench(most_tokens=128)
    records = [make_record(number, days=0) for number in range(130)]
    bench.records = {record.digest: record for record in records}
    for record in [*records[:129], records[128]]:
        await bench.cache.look_up(record.digest)
    assert bench.cache.get(records[1].digest) == records[1]
    for record in (records[129], records[129]):
        await bench.cache.look_up(record.digest)
    kept = [bench.cache.get(record.digest) is not None for record in records[:4]]
    assert kept == [False, True, False, True]
