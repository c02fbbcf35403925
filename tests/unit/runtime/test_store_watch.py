"""What the log says of a store that is away, and of its return."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from sidecar.core.errors import Fault, Overloaded, StoreUnavailable
from sidecar.runtime.store_watch import StoreWatch

WELL = None
REFUSED = StoreUnavailable("Redis can't be reached: Connection refused")
LOADING = StoreUnavailable("Redis is loading its data (LOADING)")
WRONG = StoreUnavailable("Redis does not accept the user or the password in store.url (WRONGPASS)")
DENIED = StoreUnavailable("Redis denies its user a command (NOPERM for set)")
NAME = StoreUnavailable("Redis can't be reached: Name or service not known")


class Over(Exception):
    """The story is told."""


class Story:
    """Outcomes of pings, one after the other; time passes as the watch sleeps."""

    def __init__(self, outcomes: Sequence[Fault | None]) -> None:
        self.outcomes = list(outcomes)
        self.now = 100.0
        self.pauses: list[float] = []

    async def ping(self) -> None:
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if not self.outcomes:
            raise Over


async def told(
    caplog: pytest.LogCaptureFixture, *outcomes: Fault | None, grace_seconds: float = 30
) -> tuple[list[str], Story]:
    """Return the lines that a story brings into the log, with their level."""
    story = Story(outcomes)
    watch = StoreWatch(
        story.ping, "redis://h:6379", grace_seconds, clock=lambda: story.now, sleep=story.sleep
    )
    with caplog.at_level(logging.INFO), pytest.raises(Over):
        await watch.run()
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records], story


@pytest.mark.parametrize("fault", [REFUSED, LOADING, WRONG, DENIED, NAME], ids=str)
async def test_a_store_that_is_away_at_the_start_is_an_error_in_redis_s_own_words(
    caplog: pytest.LogCaptureFixture, fault: StoreUnavailable
) -> None:
    (line,), _ = await told(caplog, fault)
    assert line.startswith(f"ERROR the store (redis://h:6379) can't be used: {fault}. Until it can")
    assert "503 (store_unavailable), but for 30 s those with a token that was seen" in line


async def test_its_return_is_told_with_the_time_it_took(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await told(caplog, REFUSED, REFUSED, REFUSED, WELL)
    assert len(lines) == 2
    assert lines[1] == "INFO the store (redis://h:6379) can be used again, after 3 s"


async def test_a_store_that_is_well_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await told(caplog, WELL, WELL)
    assert lines == []


async def test_each_reason_is_told_once_in_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await told(caplog, REFUSED, LOADING, REFUSED, LOADING, WELL, REFUSED)
    assert [line.split(" ")[0] for line in lines] == ["ERROR", "ERROR", "INFO", "ERROR"]
    assert lines[1].endswith("still can't be used: Redis is loading its data (LOADING)")


async def test_the_reasons_of_an_outage_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    lines, _ = await told(caplog, *(StoreUnavailable(f"reason {n}") for n in range(100)))
    assert len(lines) == 8


async def test_a_full_queue_before_the_store_is_not_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines, _ = await told(caplog, Overloaded("too many look-ups wait"), WELL)
    assert lines == []


async def test_without_a_grace_no_known_token_is_promised_to_pass(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (line,), _ = await told(caplog, REFUSED, grace_seconds=0)
    assert "answered 503 (store_unavailable), and no token can be made or revoked" in line


async def test_it_looks_more_often_while_the_store_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, story = await told(caplog, WELL, REFUSED, REFUSED, WELL)
    assert story.pauses == [5, 1, 1, 5]
