"""HOSTILE R1: callers that disconnect halfway; no answer is for another caller's account."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.witness import Token, make_token, put, request, running_proxies
from tests.redis_servers import RedisServer
from tests.soak.conftest import name_of, settings_for

REQUESTS = 200_000
AT_ONCE = (1, 1, 2, 4)  # how many requests are sent in one piece
TOKENS = 5000
ACCOUNTS = 250
CALLERS = 100
LEAVING = 0.2

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


class Visitor:
    """A caller with one connection at a time, which it may drop at any moment."""

    def __init__(self, port: int, tokens: list[Token], seed: int) -> None:
        self._port = port
        self._tokens = tokens
        self._chance = random.Random(seed)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.outcomes: Counter[str] = Counter()

    async def visit(self, times: int) -> None:
        while times > 0:
            asked = self._chance.choices(self._tokens, k=min(times, self._chance.choice(AT_ONCE)))
            leaves = self._chance.random() < LEAVING
            times -= len(asked)
            try:
                await self._ask(asked, leaves=leaves)
            except (OSError, asyncio.IncompleteReadError):
                self.outcomes["cut off"] += 1
                await self._leave()
        await self._leave()

    async def _ask(self, asked: list[Token], *, leaves: bool) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(b"".join(request(token.secret) for token in asked))
        if leaves:
            await asyncio.sleep(self._chance.choice([0, 0.0005, 0.001, 0.003]))
            self.outcomes["left"] += len(asked)
            await self._leave()
            return
        for token in asked:
            await self._hear(token)

    async def _hear(self, token: Token) -> None:
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if head[9:12] != b"200":
            self.outcomes[head[9:12].decode()] += 1
        else:
            is_right = body == token.record.account.encode()
            self.outcomes["right" if is_right else "WRONG"] += 1

    async def _leave(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            with suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


async def disturb(redis: RedisServer, tokens: list[Token]) -> None:
    """Close Redis connections and touch records, so that tokens are looked up again."""
    chance = random.Random(1)
    while True:
        await asyncio.sleep(0.05)
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for token in chance.sample(tokens, 5):
            put(redis, token)


@pytest.mark.parametrize(
    ("cached", "is_disturbed"),
    [(100_000, False), (200, False), (1000, True)],
    ids=["all cached", "most missed", "connections to Redis killed"],
)
async def test_no_answer_is_for_another_account_when_a_fifth_of_the_callers_leave_early(
    cached: int, is_disturbed: bool, redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = settings_for(redis, upstream, tmp_path, ACCOUNTS)
    settings["store"]["cache"] = {"tokens": cached}
    tokens = [make_token(name_of(number % ACCOUNTS)) for number in range(TOKENS)]
    put(redis, *tokens)
    with running_proxies(tmp_path, settings, number=1) as (proxy,):
        visitors = [Visitor(proxy.port, tokens, seed) for seed in range(CALLERS)]
        disturbing = asyncio.create_task(disturb(redis, tokens)) if is_disturbed else None
        await asyncio.gather(*(visitor.visit(REQUESTS // CALLERS) for visitor in visitors))
        if disturbing is not None:
            disturbing.cancel()
    outcomes = sum((visitor.outcomes for visitor in visitors), Counter[str]())
    print(f"\n{REQUESTS} requests, {TOKENS} tokens, {ACCOUNTS} accounts: {dict(outcomes)}")
    assert outcomes["WRONG"] == 0
    assert outcomes["401"] == 0
    assert outcomes["right"] > REQUESTS * 0.7
    assert outcomes["left"] > REQUESTS * LEAVING * 0.9
    assert is_disturbed or set(outcomes) == {"right", "left"}
