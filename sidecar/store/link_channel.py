"""Commands on a link of their own, at a tenth of what the library takes: for what is said often.

One connection to one server, or to the master that Sentinels name; made when there is something to
say, and anew after whatever went wrong with it. Whoever waits for it may give up; the opening goes
on, for whoever is next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sidecar.store.commands import AskServer, Command
from sidecar.store.link import Link
from sidecar.store.resp import pack_command


class LinkChannel:
    """A ``Channel`` over one ``Link``."""

    is_one_server = True

    def __init__(self, open_link: Callable[[], Awaitable[Link]]) -> None:
        self._open_link = open_link
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None

    def __repr__(self) -> str:
        return f"<LinkChannel {self._link!r}>"

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """See ``Channel``."""
        link = await self._opened()
        try:
            replies = await asyncio.gather(*link.request(*map(pack_command, commands)))
        except BaseException:
            link.abort()  # given up, out of time, or broken: what still comes is for nobody
            raise
        if any(isinstance(reply, Exception) for reply in replies):
            link.abort()  # it may be a replica by now; the next one is asked for its role
        return replies

    async def servers(self) -> Sequence[AskServer]:
        """See ``Channel``."""
        return [self._ask]

    async def close(self) -> None:
        """Close the link; what is said next makes another."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._link is not None:
            self._link.abort()
            await asyncio.sleep(0)  # the loop closes the socket

    async def _opened(self) -> Link:
        if self._link is not None and not self._link.is_closed:
            return self._link
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_retrieve)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Link:
        try:
            self._link = await self._open_link()
        finally:
            self._opening = None
        return self._link

    async def _ask(self, command: Command) -> Any:
        (reply,) = await self.exchange([command])
        return reply


def _retrieve(opening: asyncio.Task[Link]) -> None:
    """Note that a failure was seen: all who waited for it may have given up."""
    if not opening.cancelled():
        opening.exception()
