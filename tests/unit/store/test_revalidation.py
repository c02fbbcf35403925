"""After an outage: what is looked up again before the next one, in which order, and after whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sidecar.core.errors import Fault, Overloaded, StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.cache import TokenCache
from sidecar.store.record import encode
from sidecar.store.revalidation import Revalidation
from tests.contract.records import make_record, read_record

GRACE_SECONDS = 30.0
RECORDS = [make_record(number, days=0) for number in range(200)]
DIGEST = RECORDS[0].digest
AT_ONCE = 64


class Bench:
    """A cache, what looks up again for it, its clock, and a store that answers when let."""

    def __init__(self, records: list[TokenRecord], *, most_tokens: int = 1000) -> None:
        self.time = 1e9
        self.records = {record.digest: record for record in records}
        self.fault: type[Fault] | None = None
        self.asked: list[tuple[str, str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.rested: list[float] = []
        self.on_rest: Callable[[], object] = bool
        self.cache = TokenCache(
            most_tokens=most_tokens,
            max_age_seconds=60.0,
            outage_grace_seconds=GRACE_SECONDS,
            now=lambda: self.time,
        )
        self.cache.connect(self._fetch, read_record)
        self.revalidation = Revalidation(self.cache, self._rest, lambda: self.time)
        self.come_back()

    async def _fetch(self, digest: str, asker: str) -> bytes | None:
        self.asked.append((digest, asker))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            await self.may_answer.wait()
            if self.fault is not None:
                raise self.fault("no answer")
            record = self.records.get(digest)
            return None if record is None else encode(record)
        finally:
            self.under_way -= 1

    async def _rest(self, seconds: float) -> None:
        self.rested.append(seconds)
        self.on_rest()
        await asyncio.sleep(0)

    def lose(self) -> None:
        self.fault = StoreUnavailable
        self.cache.on_blind()

    def come_back(self) -> None:
        self.fault = None
        self.revalidation.begin()
        self.cache.on_watching()

    async def use(self, *records: TokenRecord) -> None:
        for record in records:
            await self.cache.look_up(record.digest)

    async def go_away_and_come_back(self, seconds: float = 10.0) -> None:
        """Leave as many tokens at rest as are kept, and let them be looked up again."""
        self.lose()
        self.time += seconds
        self.asked.clear()
        self.come_back()
        await settle()

    async def passes(self, record: TokenRecord = RECORDS[0]) -> bool:
        try:
            return await self.cache.look_up(record.digest) == record
        except StoreUnavailable:
            return False


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    records: list[TokenRecord] = RECORDS[:1], *, most_tokens: int = 1000
) -> AsyncIterator[Bench]:
    """Yield a bench on which all records were used once, and what is remembered is looked up."""
    bench = Bench(records, most_tokens=most_tokens)
    task = asyncio.create_task(bench.revalidation.run())
    await bench.use(*records)
    yield bench
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize("away_seconds", [10.0, 10 * GRACE_SECONDS], ids=["short", "long"])
async def test_a_token_that_rests_between_two_outages_has_the_whole_grace_in_each(
    away_seconds: float,
) -> None:
    async with running() as bench:
        await bench.go_away_and_come_back(away_seconds)
        bench.lose()
        bench.time += GRACE_SECONDS - 0.1
        assert await bench.passes()
        bench.time += 0.2
        assert not await bench.passes()


async def test_a_token_revoked_in_an_outage_is_forgotten_once_the_store_is_back() -> None:
    async with running() as bench:
        bench.lose()
        bench.records.clear()
        bench.come_back()
        await settle()
        assert not bench.cache.is_familiar(DIGEST)
        bench.lose()
        assert not await bench.passes()


async def test_a_token_that_is_revoked_after_it_was_confirmed_has_no_grace() -> None:
    async with running() as bench:
        await bench.go_away_and_come_back()
        bench.cache.on_changed([DIGEST])
        bench.lose()
        assert not await bench.passes()


async def test_what_is_not_reached_before_the_next_outage_keeps_its_old_end() -> None:
    async with running() as bench:
        bench.may_answer.clear()
        await bench.go_away_and_come_back(GRACE_SECONDS - 1)
        bench.lose()
        bench.may_answer.set()
        await settle()
        bench.time += 0.9
        assert await bench.passes()
        bench.time += 0.2
        assert not await bench.passes()


async def test_each_is_asked_for_once_in_the_sidecars_own_name_and_the_latest_first() -> None:
    async with running(RECORDS) as bench:
        await bench.go_away_and_come_back()
        asked = [digest for digest, _ in bench.asked]
        assert sorted(asked) == sorted(bench.records)
        assert set(asked[:AT_ONCE]) == {record.digest for record in RECORDS[-AT_ONCE:]}
        assert {asker for _, asker in bench.asked} == {""}
        assert bench.most_under_way == AT_ONCE
        assert (bench.cache.hits, bench.cache.misses) == (0, len(RECORDS)), "callers' alone"


async def test_what_a_caller_has_asked_for_since_is_not_asked_for_again() -> None:
    async with running(RECORDS[:2]) as bench:
        bench.lose()
        bench.come_back()
        await bench.use(RECORDS[0])
        bench.asked.clear()
        await settle()
        assert bench.asked == [(RECORDS[1].digest, "")]


async def test_without_an_outage_nothing_is_asked() -> None:
    async with running() as bench:
        bench.asked.clear()
        bench.come_back()
        await settle()
        assert bench.asked == []


async def test_it_stops_at_once_when_the_store_is_lost_again() -> None:
    async with running(RECORDS) as bench:
        bench.may_answer.clear()
        await bench.go_away_and_come_back()
        bench.lose()
        bench.may_answer.set()
        await settle()
        assert len(bench.asked) == AT_ONCE
        bench.asked.clear()
        bench.come_back()
        await settle()
        assert len(bench.asked) == len(RECORDS), "and begins anew with the next return"


async def test_it_waits_while_callers_wait_but_not_for_ever() -> None:
    caller = make_record(1000, days=0)
    async with running() as bench:
        bench.lose()
        bench.fault = None
        bench.cache.on_watching()
        bench.may_answer.clear()
        bench.asked.clear()
        waiting = asyncio.create_task(bench.cache.look_up(caller.digest, "192.0.2.0/32"))
        await settle()
        bench.revalidation.begin()
        asked_at_rest: list[int] = []
        bench.on_rest = lambda: asked_at_rest.append(len(bench.asked))
        await settle()
        assert set(asked_at_rest) == {1}, "the caller's alone"
        assert sum(bench.rested) == pytest.approx(0.05)
        assert [digest for digest, _ in bench.asked] == [caller.digest, DIGEST]
        bench.may_answer.set()
        await waiting


async def test_it_rests_for_as_long_as_the_store_took() -> None:
    async with running() as bench:
        bench.may_answer.clear()
        await bench.go_away_and_come_back()
        bench.time += 0.2
        bench.may_answer.set()
        await settle()
        assert bench.rested == [pytest.approx(0.2)]


@pytest.mark.parametrize("fault", [StoreUnavailable, Overloaded])
async def test_what_gets_no_answer_is_asked_for_again_a_few_times(fault: type[Fault]) -> None:
    async with running() as bench:
        bench.lose()
        bench.come_back()
        bench.fault = fault
        bench.asked.clear()
        bench.rested.clear()
        await settle()
        assert len(bench.asked) == 10
        assert min(bench.rested) == 0.1


async def test_what_gets_an_answer_at_the_second_time_is_confirmed() -> None:
    async with running() as bench:
        bench.lose()
        bench.come_back()
        bench.fault = Overloaded

        def relent() -> None:
            bench.fault = None

        bench.on_rest = relent
        await settle()
        assert bench.cache.get(DIGEST) == RECORDS[0]


async def test_callers_tokens_are_not_displaced_by_those_that_rest() -> None:
    callers = [make_record(number, days=0) for number in range(1000, 1010)]
    async with running(RECORDS[:10], most_tokens=10) as bench:
        bench.lose()
        bench.come_back()
        bench.records.update({record.digest: record for record in callers})
        await bench.use(*callers)
        await settle()
        assert all(bench.cache.get(record.digest) for record in callers)


async def test_without_grace_nothing_is_remembered_nor_asked_for() -> None:
    cache = TokenCache(most_tokens=10, max_age_seconds=60, outage_grace_seconds=0)
    cache.on_watching()
    cache.on_blind()
    assert cache.remembered() == []


async def test_no_more_are_remembered_than_may_be_kept() -> None:
    """Answers given while the store did not tell of changes are remembered beside the others."""
    async with running(RECORDS[:10], most_tokens=10) as bench:
        bench.lose()
        bench.fault = None
        bench.records.update({record.digest: record for record in RECORDS[10:15]})
        await bench.use(*RECORDS[10:15])
        latest = [record.digest for record in RECORDS[5:15]]
        assert bench.cache.remembered() == latest


async def test_its_repr_tells_how_much_is_left() -> None:
    async with running(RECORDS[:3]) as bench:
        bench.lose()
        bench.come_back()
        assert repr(bench.revalidation) == "<Revalidation left=3>"


async def test_a_return_while_a_batch_fails_has_no_token_asked_for_twice_at_once() -> None:
    async with running(RECORDS[:3]) as bench:
        bench.may_answer.clear()
        await bench.go_away_and_come_back()
        assert bench.under_way == 3
        bench.lose()
        bench.revalidation.begin()
        bench.may_answer.set()
        bench.most_under_way = 0
        await settle()
        bench.come_back()
        await settle()
        assert bench.most_under_way <= 3
        assert await bench.passes(RECORDS[2])
