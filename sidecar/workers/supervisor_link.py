"""The worker's end of the channel to its supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final, cast

from sidecar.workers.channel import Frames, Message, encode
from sidecar.workers.overview import Overview

ANSWER_SECONDS: Final = 5.0
"""How long the supervisor may take to answer; its poll takes less (``status_poll``)."""

_SILENT: Final = Overview({}, ["the supervisor does not answer"], None, 0, 0)


class SupervisorLink(asyncio.Protocol):
    """A worker's connection to its supervisor.

    ``on_message`` is called with every message except the answers to ``ask``. ``lost`` is set when
    the supervisor has ended: a worker does not outlive it.
    """

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self.lost = asyncio.Event()
        self._on_message = on_message
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Overview]] = {}

    @classmethod
    async def open(
        cls, sock: socket.socket, on_message: Callable[[Message], None]
    ) -> SupervisorLink:
        """Take over this end of the socketpair."""
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: cls(on_message), sock=sock)
        return link

    def send(self, *message: object) -> None:
        """Send a message; it is dropped if the supervisor has ended."""
        if self._transport is not None:
            self._transport.write(encode(message))

    async def ask(self) -> Overview:
        """Return the status of all workers."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self.send("ask", number)
        try:
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            return _SILENT
        finally:
            del self._asked[number]

    async def close(self) -> None:
        """Send what is queued, and disconnect."""
        if self._transport is not None:
            self._transport.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), ANSWER_SECONDS)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Complete the ``ask`` that a message answers; pass on any other message."""
        for message in self._frames.receive(data):
            if message[0] == "told":
                self._answer(*message[1:])
            else:
                self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Set ``lost``."""
        self._transport = None
        self.lost.set()

    def _answer(self, number: int, *overview: object) -> None:
        waiting = self._asked.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(Overview._make(overview))
