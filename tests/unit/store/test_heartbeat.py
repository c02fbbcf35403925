"""The heartbeat of look-ups: a link that nobody uses is known to be dead all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.store import lookups
from sidecar.store.lookups import Lookups
from tests.patience import PATIENCE_SECONDS
from tests.unit.store.test_lookups import BUDGET_SECONDS, Opener, ask, settle

BEAT_SECONDS = 0.03


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
async def looked(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lookups]:
    monkeypatch.setattr(lookups, "HEARTBEAT_SECONDS", BEAT_SECONDS)
    made = Lookups(opener, BUDGET_SECONDS, b"probe")
    yield made
    await made.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.001)


def has_batches(opener: Opener, count: int) -> bool:
    return bool(opener.sources) and len(opener.source.batches) >= count


async def test_an_idle_link_is_asked_at_every_beat(looked: Lookups, opener: Opener) -> None:
    ask(looked, b"a")
    await settle()
    for beat in range(3):
        assert len(opener.source.batches) == beat + 1
        await opener.source.answer()
        await until(partial(has_batches, opener, beat + 2))
    assert opener.source.batches == [[b"a"], [b"probe"], [b"probe"], [b"probe"]]


async def test_a_batch_in_flight_is_heartbeat_enough(looked: Lookups, opener: Opener) -> None:
    (task,) = ask(looked, b"a")
    await asyncio.sleep(BEAT_SECONDS * 2.5)
    assert opener.source.batches == [[b"a"]]
    await opener.source.answer()
    assert task.result() == b"a"
    await until(partial(has_batches, opener, 2))
    assert opener.source.batches == [[b"a"], [b"probe"]]


async def test_a_link_that_died_without_a_sign_is_given_up_and_made_anew(
    looked: Lookups, opener: Opener
) -> None:
    ask(looked, b"a")
    await settle()
    await opener.source.answer()
    await until(lambda: opener.sources[0].is_closed and len(opener.sources) > 1)
    assert len(opener.sources) == 2


async def test_the_heart_beats_on_after_an_outage(looked: Lookups, opener: Opener) -> None:
    opener.fault = ConnectionRefusedError(111, "refused")
    with pytest.raises(StoreUnavailable):
        await looked.get(b"a")
    opener.fault = None
    await until(partial(has_batches, opener, 1))
    assert opener.source.batches == [[b"probe"]]


async def test_a_store_that_was_closed_has_no_heartbeat(looked: Lookups, opener: Opener) -> None:
    ask(looked, b"a")
    await settle()
    await opener.source.answer()
    await looked.close()
    await asyncio.sleep(BEAT_SECONDS * 2)
    assert opener.source.batches == [[b"a"]]
