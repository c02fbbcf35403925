"""All that is said to Redis besides look-ups: pipelines on pooled connections, within a budget."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import RedisCluster

from sidecar.store.faults import budget
from sidecar.store.topology import Client, readable

Command = tuple[str | bytes | int, ...]

MOST_IN_PIPELINE = 256
_MOST_AT_ONCE = 16
_SCAN_COUNT = 1000
_GLOB_SPECIALS = re.compile(rb"([*?\[\]\\^])")


class Commands:
    """A client whose every call ends within the budget, in a reply or ``StoreUnavailable``."""

    def __init__(self, client: Client, budget_seconds: float) -> None:
        self._client = client
        self._budget_seconds = budget_seconds
        self._gate = asyncio.Semaphore(_MOST_AT_ONCE)

    @property
    def is_one_server(self) -> bool:
        """Tell whether one command may name any keys together; a Cluster's may not."""
        return not isinstance(self._client, RedisCluster)

    async def run(self, *commands: Command) -> list[Any]:
        """Send commands together, return their replies; an error reply is ``StoreUnavailable``."""
        async with budget(self._budget_seconds):
            replies = await self._exchange(commands)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys, ``None`` where there is none or it is not a string.

        Each ``MOST_IN_PIPELINE`` keys have a budget of their own.
        """
        values: list[bytes | None] = []
        for start in range(0, len(keys), MOST_IN_PIPELINE):
            commands = [("GET", key) for key in keys[start : start + MOST_IN_PIPELINE]]
            async with budget(self._budget_seconds):
                values += [readable(reply) for reply in await self._exchange(commands)]
        return values

    async def scan(self, start: bytes) -> AsyncIterator[bytes]:
        """Yield the keys that begin so, one perhaps twice; each step has a budget of its own."""
        pattern = _GLOB_SPECIALS.sub(rb"\\\1", start) + b"*"
        keys = aiter(self._client.scan_iter(match=pattern, count=_SCAN_COUNT))
        while True:
            async with budget(self._budget_seconds):
                try:
                    key = await anext(keys)
                except StopAsyncIteration:
                    return
            yield key

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        async with self._gate:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))
