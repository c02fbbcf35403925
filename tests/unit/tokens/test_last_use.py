"""How last uses are noted, gathered and written, and that losing them harms nobody."""

from __future__ import annotations

import asyncio
import logging

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import LastUse, Uses
from sidecar.tokens.last_use import LastUses

HERE, THERE = "192.0.2.1", "198.51.100.7"


class Bench:
    """Last uses with a clock, and a store that remembers batches or is away."""

    def __init__(self, most_tokens: int = 100) -> None:
        self.now = 1_000_000.0
        self.is_away = False
        self.batches: list[dict[str, LastUse]] = []
        self.uses = LastUses(
            self._record, now=lambda: self.now, interval_seconds=0.001, most_tokens=most_tokens
        )

    async def _record(self, batch: Uses) -> None:
        if self.is_away:
            raise StoreUnavailable("Redis is away")
        self.batches.append({digest: use for use, digests in batch for digest in digests})

    async def flush_after(self, seconds: float) -> None:
        self.now += seconds
        await self.uses.flush()


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.uses.flush()
    return bench


async def test_uses_are_written_together_with_time_and_address(bench: Bench) -> None:
    bench.uses.note("a", HERE)
    bench.now += 2
    bench.uses.note("b", THERE)
    await bench.uses.flush()
    assert bench.batches == [{"a": LastUse(1_000_000, HERE), "b": LastUse(1_000_002, THERE)}]


async def test_uses_of_many_clients_in_turn_are_each_written_as_they_were() -> None:
    bench = Bench(most_tokens=2000)
    clients = [f"192.0.2.{number}" for number in range(7)]
    for number in range(1000):
        bench.uses.note(f"token {number}", clients[number % 7])
        bench.now += 0.125
    bench.now -= 100  # the clock was set back
    bench.uses.note("last", clients[0])
    await bench.uses.flush()
    (batch,) = bench.batches
    assert len(batch) == 1001
    for number in range(1000):
        second = 1_000_000 + number // 8
        assert batch[f"token {number}"] == LastUse(second, clients[number % 7])
    assert batch["last"] == LastUse(1_000_025, clients[0])


async def test_a_token_in_use_all_the_time_is_written_once_a_minute(bench: Bench) -> None:
    for _ in range(120):
        bench.uses.note("a", HERE)
        await bench.flush_after(1)
    assert [batch["a"].at - 1_000_000 for batch in bench.batches] == [0, 60]


async def test_nothing_is_written_when_nothing_was_used(bench: Bench) -> None:
    for _ in range(100):
        await bench.flush_after(10)
    assert bench.batches == []


async def test_what_cannot_be_written_waits_and_a_later_use_replaces_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.is_away = True
    bench.uses.note("a", HERE)
    bench.uses.note("b", HERE)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            await bench.flush_after(10)
    bench.uses.note("a", THERE)
    bench.is_away = False
    await bench.uses.flush()
    assert bench.batches == [{"b": LastUse(1_000_000, HERE), "a": LastUse(1_000_100, THERE)}]
    assert len(caplog.messages) == 1, "an outage is told once"


async def test_too_many_tokens_push_out_the_oldest() -> None:
    bench = Bench(most_tokens=3)
    bench.is_away = True
    for name in "abcdef":
        bench.uses.note(name, HERE)
        await bench.flush_after(1)
    bench.is_away = False
    await bench.uses.flush()
    assert [*bench.batches[0]] == ["d", "e", "f"]
    assert repr(bench.uses).endswith("pending=0>")


async def test_the_last_ones_are_written_at_the_end(bench: Bench) -> None:
    bench.uses.note("a", HERE)
    await bench.uses.close()
    assert [*bench.batches[0]] == ["a"]


async def test_the_task_writes_without_being_asked_and_ends_when_cancelled(bench: Bench) -> None:
    task = asyncio.create_task(bench.uses.run())
    bench.uses.note("a", HERE)
    while not bench.batches:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
