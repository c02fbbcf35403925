"""Commands over a link of their own, at a third of what redis-py takes: for those given often.

One connection to one server, or to the master that the Sentinels name. It is opened for the first
command, and again after any failure. A caller that gives up waiting does not stop the opening; the
next caller uses it.

Measured as CPU a command: 11 us instead of 31 for one alone, 1.4 instead of 4.3 in batches of 256.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sidecar.store.commands import AskServer, Command
from sidecar.store.redis_link import RedisLink
from sidecar.store.resp import pack_command


class LinkChannel:
    """A ``CommandChannel`` over one ``RedisLink``."""

    is_one_server = True

    def __init__(self, open_link: Callable[[], Awaitable[RedisLink]]) -> None:
        self._open_link = open_link
        self._link: RedisLink | None = None
        self._opening: asyncio.Task[RedisLink] | None = None

    def __repr__(self) -> str:
        return f"<LinkChannel {self._link!r}>"

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """See ``CommandChannel``."""
        link = await self._opened()
        try:
            replies = await asyncio.gather(*link.request(*map(pack_command, commands)))
        except BaseException:
            link.abort()  # cancelled, timed out or broken: replies may be pending
            raise
        if any(isinstance(reply, Exception) for reply in replies):
            link.abort()  # it may be a replica by now; a new link asks for the role
        return replies

    async def servers(self) -> Sequence[AskServer]:
        """See ``CommandChannel``."""
        return [self._ask]

    async def close(self) -> None:
        """Close the link; the next command opens another."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._link is not None:
            self._link.abort()
            await asyncio.sleep(0)  # let the loop close the socket

    async def _opened(self) -> RedisLink:
        if self._link is not None and not self._link.is_closed:
            return self._link
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_retrieve)
        return await asyncio.shield(self._opening)

    async def _open(self) -> RedisLink:
        try:
            self._link = await self._open_link()
        finally:
            self._opening = None
        return self._link

    async def _ask(self, command: Command) -> Any:
        (reply,) = await self.exchange([command])
        return reply


def _retrieve(opening: asyncio.Task[RedisLink]) -> None:
    """Mark a failure as retrieved: all callers that waited may have given up."""
    if not opening.cancelled():
        opening.exception()
