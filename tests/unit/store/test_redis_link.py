"""Replies, pushes and signs of life on one connection, byte by byte; no Redis behind it."""

from __future__ import annotations

import asyncio
import math

import hiredis
import pytest

from sidecar.store.redis_link import RedisLink

PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nt:abc\r\n"
PUSH_ALL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
ANSWER = b"*2\r\n$1\r\nx\r\n_\r\n"


class Told:
    """A tracker that writes down what it is told."""

    prefix = b"t:"

    def __init__(self) -> None:
        self.words: list[object] = []
        self.ages: list[float] = []

    def on_tracking(self) -> None:
        self.words.append("tracking")

    def on_changed_keys(self, keys: list[bytes] | None) -> None:
        self.words.append(keys)

    def on_heard(self, age_seconds: float) -> None:
        self.words.append("heard")
        self.ages.append(age_seconds)

    def on_lost(self) -> None:
        self.words.append("lost")


class Wire(asyncio.Transport):
    """The far end: what was written to it, and whether it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.is_cut = True


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def link(told: Told) -> RedisLink:
    """A link that tracks, over a wire that the test plays."""
    made = RedisLink(told)
    made.connection_made(Wire())
    tracking = asyncio.create_task(made.track())
    await asyncio.sleep(0)
    made.data_received(b"+OK\r\n")
    await tracking
    assert told.words == ["tracking"]
    told.words.clear()
    made._role_checked_at = math.inf  # however long this machine sleeps meanwhile
    return made


async def test_an_answer_tells_that_everything_before_it_was_told(
    link: RedisLink, told: Told
) -> None:
    answer = link.fetch([b"t:a", b"t:b"])
    link.data_received(ANSWER)
    assert answer.result() == [b"x", None]
    assert told.words == ["heard"]


@pytest.mark.parametrize("cut", range(1, len(PUSH + ANSWER + PUSH_ALL)))
async def test_pushes_among_answers_are_told_in_order_however_the_bytes_arrive(
    link: RedisLink, told: Told, cut: int
) -> None:
    stream = PUSH + ANSWER + PUSH_ALL
    answer = link.fetch([b"t:a", b"t:b"])
    link.data_received(stream[:cut])
    link.data_received(stream[cut:])
    assert answer.result() == [b"x", None]
    assert told.words == [[b"t:abc"], "heard", None]


async def test_a_push_between_two_answers_belongs_to_neither(link: RedisLink, told: Told) -> None:
    first, second = link.fetch([b"t:a", b"t:b"]), link.fetch([b"t:c", b"t:d"])
    link.data_received(ANSWER + PUSH + b"*2\r\n_\r\n_\r\n")
    assert first.result() == [b"x", None]
    assert second.result() == [None, None]
    assert [b"t:abc"] in told.words


async def test_a_push_of_another_kind_is_not_of_interest(link: RedisLink, told: Told) -> None:
    link.data_received(b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n")
    assert told.words == []
    assert not link.is_closed


async def test_an_answer_that_took_long_proves_nothing_of_the_time_since_it_was_asked_for(
    link: RedisLink, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have lain unread while this process slept or was busy, and the line died since."""
    answer = link.fetch([b"t:a", b"t:b"])
    monkeypatch.setattr(link, "_asked_at", link._asked_at - 3600)
    link.data_received(ANSWER)
    assert answer.result() == [b"x", None]
    assert told.ages[0] >= 3600


async def test_an_answer_that_nobody_asked_for_ends_the_link_and_what_follows_is_not_read(
    link: RedisLink, told: Told
) -> None:
    link.data_received(ANSWER + PUSH)
    assert link.is_closed
    assert told.words == ["lost"]


async def test_a_link_is_lost_once_and_tells_nothing_afterwards(
    link: RedisLink, told: Told
) -> None:
    answer = link.fetch([b"t:a"])
    link.connection_lost(None)
    link.abort()
    assert isinstance(answer.exception(), ConnectionResetError)
    assert told.words == ["lost"]
    late = link.fetch([b"t:a"])
    assert isinstance(late.exception(), ConnectionResetError)


async def test_a_link_lost_before_its_tracking_is_agreed_never_tracks(told: Told) -> None:
    """The agreement and the loss come before the coroutine that waits for them runs."""
    link = RedisLink(told)
    link.connection_made(Wire())
    tracking = asyncio.create_task(link.track())
    await asyncio.sleep(0)
    link.data_received(b"+OK\r\n")
    link.connection_lost(None)
    await tracking
    assert told.words == []


async def test_a_redis_that_refuses_to_track_is_said_so_and_serves_all_the_same(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    link = RedisLink(told)
    link.connection_made(Wire())
    tracking = asyncio.create_task(link.track())
    await asyncio.sleep(0)
    link.data_received(b"-NOPERM this user has no permissions to run 'client|tracking'\r\n")
    await tracking
    assert "refuses CLIENT TRACKING" in caplog.text
    answer = link.fetch([b"t:a", b"t:b"])
    link.data_received(ANSWER)
    assert answer.result() == [b"x", None]
    link.abort()
    assert told.words == []


async def test_the_role_is_asked_once_a_second_and_a_replica_is_left(
    link: RedisLink, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_role_checked_at", -math.inf)
    answer = link.fetch([b"t:a", b"t:b"])
    link.data_received(b"%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n" + ANSWER)
    assert isinstance(answer.exception(), ConnectionAbortedError)
    assert told.words == ["lost"]


@pytest.mark.parametrize("odd", [b"HTTP/1.1 200 OK\r\n", b"\0", b"$x\r\n"])
async def test_what_is_no_resp_ends_the_link(link: RedisLink, told: Told, odd: bytes) -> None:
    answer = link.fetch([b"t:a"])
    link.data_received(odd)
    assert isinstance(answer.exception(), hiredis.HiredisError)
    assert told.words == ["lost"]
