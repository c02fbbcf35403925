"""A worker's part: it says how it is, and does what the supervisor asks of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, Final, Protocol

from sidecar.observability.metric_families import Snapshot
from sidecar.wire.listening import Doors
from sidecar.workers.channel import Message
from sidecar.workers.link import Link
from sidecar.workers.overview import Overview, Report
from sidecar.workers.place import Place

BEAT_SECONDS: Final = 0.5
"""How often it says that it lives, and what it has counted: as much is lost if it is killed."""

_REST_FACTOR: Final = 200


class Duties(Protocol):
    """What the process does on the supervisor's word."""

    async def report(self) -> Report:
        """Tell how it is now."""

    def counts(self) -> Snapshot:
        """Return what is counted, without asking anybody."""

    async def reload(self) -> None:
        """Read the configuration again, and return once that is done."""

    def reopen_logs(self) -> None:
        """Open the files of logs anew."""

    def retire(self) -> None:
        """End: another worker is there already."""


class Member:
    """A worker as its supervisor knows it. ``open`` begins it, ``close`` says the last word."""

    def __init__(self, duties: Duties, doors: Doors) -> None:
        self._duties = duties
        self._doors = doors
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._does: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
            "ask": self._report,
            "slots": self._doors.take_over,
            "reload": self._reload,
            "reopen": self._reopen,
            "retire": self._retire,
        }

    async def open(self, place: Place) -> None:
        """Take up the line to the supervisor, and beat from now on."""
        self._link = await Link.open(place.channel, self._hear)
        self._begin(self._beat())
        self._begin(self._follow())

    async def ask(self) -> Overview:
        """Return how all workers are now."""
        return await self._linked.ask()

    def tell(self, *message: object) -> None:
        """Tell the supervisor something."""
        self._linked.tell(*message)

    async def close(self) -> None:
        """Tell what was counted to the end, and hang up."""
        for task in self._tasks:
            task.cancel()
        self._linked.tell("beat", self._duties.counts())
        await self._linked.close()

    @property
    def _linked(self) -> Link:
        assert self._link is not None
        return self._link

    def _hear(self, message: Message) -> None:
        does = self._does.get(message[0])
        if does is not None:
            self._begin(does(*message[1:]))

    def _begin(self, doing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        """Say that it lives; and what is counted as often as half a percent of the time allows."""
        due = 0.0
        while True:
            began = perf_counter()
            if began >= due:
                self.tell("beat", self._duties.counts())
                due = began + (perf_counter() - began) * _REST_FACTOR
            else:
                self.tell("beat", {})
            await asyncio.sleep(BEAT_SECONDS)

    async def _follow(self) -> None:
        await self._linked.lost.wait()
        self._duties.retire()

    async def _report(self, number: int) -> None:
        self.tell("report", number, *await self._duties.report())

    async def _reload(self) -> None:
        await self._duties.reload()
        self.tell("reloaded")

    async def _reopen(self) -> None:
        self._duties.reopen_logs()

    async def _retire(self) -> None:
        self._duties.retire()
