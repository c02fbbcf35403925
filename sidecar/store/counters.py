"""Failures and bans in Redis: counts that expire by themselves, and one sorted set of bans.

``{prefix}throttle:count:<subject>``  failures in the running window, whose rest is the TTL
``{prefix}throttle:bans``             banned subjects, scored by the end of the ban (milliseconds)
``{prefix}throttle:welcome``          account-from-network pairs, scored by their last sign-in

Each step touches one key, so a Cluster needs nothing else; on one server counts share a step. A
small script counts and sets the TTL at once: a count without a TTL would ban for ever. Each
addition trims the two sets. The counters have a connection of their own, so that a flood of
failures delays no token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.store.commands import MOST_IN_PIPELINE, Command, CommandRunner
from sidecar.store.faults import budget
from sidecar.store.port import MOST_BANS, WELCOME_SECONDS
from sidecar.store.store_url import parse_store_url
from sidecar.store.topology import RedisConnector

_ADD: Final = """
local counts = {}
for place, key in ipairs(KEYS) do
  counts[place] = redis.call('INCRBY', key, ARGV[place + 1])
  if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, ARGV[1]) end
end
return counts
"""


def connect_counters(
    url: str,
    *,
    prefix: str,
    budget_seconds: float = 0.25,
    now: Callable[[], float] = time.time,
) -> RedisFailureCounters:
    """Return the counters in the Redis at ``url`` (as ``sidecar.store.redis.connect`` has it).

    ``budget_seconds`` limits each step of up to 256 subjects.
    """
    connector = RedisConnector(parse_store_url(url), budget_seconds, f"{prefix}probe".encode())
    return RedisFailureCounters(connector, prefix.encode(), budget_seconds, now)


class RedisFailureCounters:
    """``FailureCounters`` in a Redis, behind Sentinels or in a Cluster."""

    def __init__(
        self,
        connector: RedisConnector,
        prefix: bytes,
        budget_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._connector = connector
        self._budget_seconds = budget_seconds
        self._commands = CommandRunner(connector.quick_channel, budget_seconds)
        self._now = now
        self._count_start = prefix + b"throttle:count:"
        self._bans_key = prefix + b"throttle:bans"
        self._welcome_key = prefix + b"throttle:welcome"

    def __repr__(self) -> str:
        return f"<RedisFailureCounters {self._count_start.decode()}...>"

    async def add(self, failures: Mapping[str, int], window_seconds: float) -> dict[str, int]:
        """See ``FailureCounters``."""
        end = _milliseconds(window_seconds)
        together = MOST_IN_PIPELINE if self._commands.is_one_server else 1
        steps: list[Command] = []
        for some in _batched([*failures], together):
            more = [failures[subject] for subject in some]
            steps.append(("EVAL", _ADD, len(some), *map(self._count_key, some), end, *more))
        replies = await self._run(steps)
        counts = [count for reply in replies for count in reply]
        return dict(zip(failures, counts, strict=True))

    async def ban(self, bans: Mapping[str, float]) -> set[str]:
        """See ``FailureCounters``."""
        key, now = self._bans_key, self._now()
        replies = await self._run(
            [
                ("ZREMRANGEBYSCORE", key, "-inf", _milliseconds(now)),
                *(("ZADD", key, "NX", _milliseconds(until), s) for s, until in bans.items()),
                ("ZREMRANGEBYRANK", key, 0, -MOST_BANS - 1),
                *(("DEL", self._count_key(subject)) for subject in bans),
            ]
        )
        await self._lengthen(key, max(bans.values(), default=now) - now)
        return {subject for subject, is_new in zip(bans, replies[1:], strict=False) if is_new}

    async def bans(self) -> dict[str, float]:
        """See ``FailureCounters``."""
        return await self._read(self._bans_key, self._now())

    async def clear(self, subjects: Sequence[str] | None = None) -> set[str]:
        """See ``FailureCounters``."""
        banned = await self.bans()
        if subjects is None:
            keys = [key async for key in self._commands.scan(self._count_start)]
            await self._run([("DEL", key) for key in [*keys, self._bans_key]])
            return set(banned)
        await self._run([("ZREM", self._bans_key, subject) for subject in subjects])
        await self._run([("DEL", self._count_key(subject)) for subject in subjects])
        return banned.keys() & set(subjects)

    async def welcome(self, pairs: Mapping[str, float]) -> None:
        """See ``FailureCounters``."""
        key = self._welcome_key
        await self._run([("ZADD", key, _milliseconds(at), pair) for pair, at in pairs.items()])
        await self._commands.run(("ZREMRANGEBYRANK", key, 0, -MOST_BANS - 1))
        await self._commands.run(("PEXPIRE", key, _milliseconds(WELCOME_SECONDS)))

    async def welcomed(self) -> dict[str, float]:
        """See ``FailureCounters``."""
        return await self._read(self._welcome_key, self._now() - WELCOME_SECONDS)

    async def close(self) -> None:
        """See ``FailureCounters``."""
        with suppress(StoreUnavailable):
            async with budget(self._budget_seconds):
                await self._connector.close()

    async def _lengthen(self, key: bytes, seconds: float) -> None:
        """Extend a key's TTL to at least ``seconds``; its members may end after the newest one."""
        (left,) = await self._commands.run(("PTTL", key))
        if left < _milliseconds(seconds):
            await self._commands.run(("PEXPIRE", key, max(1, _milliseconds(seconds))))

    async def _read(self, key: bytes, since: float) -> dict[str, float]:
        """Return the latest members of a set whose time is after ``since``."""
        span: Command = ("+inf", f"({_milliseconds(since)}", "WITHSCORES", "LIMIT", 0, MOST_BANS)
        (reply,) = await self._commands.run(("ZREVRANGEBYSCORE", key, *span))
        scores = ((name, float(score)) for name, score in _pairs(reply))
        return {
            name.decode("ascii", "replace"): score / 1000
            for name, score in scores
            if math.isfinite(score)
        }

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands; each ``MOST_IN_PIPELINE`` of them have a budget of their own."""
        replies: list[Any] = []
        for start in range(0, len(commands), MOST_IN_PIPELINE):
            replies += await self._commands.run(*commands[start : start + MOST_IN_PIPELINE])
        return replies

    def _count_key(self, subject: str) -> bytes:
        return self._count_start + subject.encode()


def _batched(subjects: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(subjects), most):
        yield subjects[start : start + most]


def _pairs(reply: Sequence[Any]) -> Sequence[tuple[bytes, Any]]:
    """Return members with their scores: one list in RESP2, pairs in RESP3."""
    if reply and isinstance(reply[0], list):
        return [(name, score) for name, score in reply]
    return [*zip(reply[::2], reply[1::2], strict=True)]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
