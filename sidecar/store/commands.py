"""All commands but look-ups: many at once, within a budget."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from redis.asyncio import Redis

from sidecar.store.faults import budget

Command = tuple[str | bytes | int, ...]
"""A command as ``redis-cli`` takes it."""

AskServer = Callable[[Command], Awaitable[Any]]
"""Sends one command to one server and returns its reply."""

MOST_IN_PIPELINE = 256
_MOST_AT_ONCE = 16
_SCAN_COUNT = 1000
_GLOB_SPECIALS = re.compile(rb"([*?\[\]\\^])")


class CommandChannel(Protocol):
    """Sends commands to a Redis, or to the masters of a Cluster. It sets no time limit."""

    @property
    def is_one_server(self) -> bool:
        """Whether one command may name several keys; with a Cluster it may not."""

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together, each to the server of its key; return the replies unchanged.

        An error reply is an exception among them.
        """

    async def servers(self) -> Sequence[AskServer]:
        """Return a function for each server that has keys, which asks it."""


class PipelineChannel:
    """One Redis, on the pooled connections of the library's client."""

    is_one_server = True

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """See ``CommandChannel``."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.response_callbacks = {}  # raw replies, as from a Cluster
        for command in commands:
            pipeline.execute_command(*command)
        try:
            return list(await pipeline.execute(raise_on_error=False))
        except RuntimeError as error:  # uvloop, if the connection was closed meanwhile
            raise ConnectionResetError("the connection was closed meanwhile") from error

    async def servers(self) -> Sequence[AskServer]:
        """See ``CommandChannel``."""
        return [self._ask]

    async def _ask(self, command: Command) -> Any:
        (reply,) = await self.exchange([command])
        return reply


class CommandRunner:
    """A channel with a budget: each call returns or raises ``StoreUnavailable`` in time."""

    def __init__(self, channel: CommandChannel, budget_seconds: float) -> None:
        self._channel = channel
        self._budget_seconds = budget_seconds
        self._gate = asyncio.Semaphore(_MOST_AT_ONCE)

    @property
    def is_one_server(self) -> bool:
        """See ``CommandChannel``."""
        return self._channel.is_one_server

    async def run(self, *commands: Command) -> list[Any]:
        """Send commands together and return their replies; an error reply raises."""
        async with budget(self._budget_seconds):
            replies = await self._exchange(commands)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            return replies

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys; ``None`` for a key that is absent or not a string.

        Each ``MOST_IN_PIPELINE`` keys have a budget of their own.
        """
        values: list[bytes | None] = []
        for start in range(0, len(keys), MOST_IN_PIPELINE):
            batch = keys[start : start + MOST_IN_PIPELINE]
            if self.is_one_server:
                (found,) = await self.run(("MGET", *batch))  # less work than as many GETs
                values += found
                continue
            async with budget(self._budget_seconds):
                replies = await self._exchange([("GET", key) for key in batch])
                values += [_readable(reply) for reply in replies]
        return values

    async def scan(self, prefix: bytes) -> AsyncIterator[bytes]:
        """Yield the keys with a prefix, some perhaps twice; each step has a budget of its own."""
        pattern = _GLOB_SPECIALS.sub(rb"\\\1", prefix) + b"*"
        async with budget(self._budget_seconds):
            servers = await self._channel.servers()
        for ask in servers:
            cursor = 0
            while True:
                step: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                async with budget(self._budget_seconds):
                    reply = await ask(step)
                    if isinstance(reply, Exception):
                        raise reply
                cursor = int(reply[0])
                for key in reply[1]:
                    yield key
                if cursor == 0:
                    break

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        async with self._gate:
            return await self._channel.exchange(commands)


def _readable(value: Any) -> bytes | None:
    """Return the reply to a ``GET``, ``None`` for a key of another type; raise other errors."""
    if isinstance(value, Exception):
        if str(value).startswith("WRONGTYPE"):
            return None
        raise value
    return cast("bytes | None", value)
