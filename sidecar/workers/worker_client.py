"""The worker's side of the protocol with its supervisor: send heartbeats, carry out requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any, Final, Protocol

from sidecar.observability.metric_families import Snapshot
from sidecar.wire.listening import Listeners
from sidecar.workers.channel import Message
from sidecar.workers.overview import Overview, WorkerReport
from sidecar.workers.supervisor_link import SupervisorLink
from sidecar.workers.worker_spec import WorkerSpec

BEAT_SECONDS: Final = 0.5
"""How often a worker sends its counts; killing it loses those of up to this time."""

_REST_FACTOR: Final = 200  # of the time that reading the counts takes


class Agent(Protocol):
    """What the process does at the supervisor's request."""

    async def report(self) -> WorkerReport:
        """Return the current status."""

    def counts(self) -> Snapshot:
        """Return the counts, without I/O."""

    async def reload(self) -> None:
        """Read the configuration again; return once it is applied or refused."""

    def reopen_logs(self) -> None:
        """Reopen the log files."""

    def retire(self) -> None:
        """End without notice, as another worker has taken over."""


class WorkerClient:
    """Connects ``agent`` to the supervisor, from ``open`` to ``close``.

    ``listeners`` accept the connections of slots that have no worker.
    """

    def __init__(self, agent: Agent, listeners: Listeners) -> None:
        self._agent = agent
        self._listeners = listeners
        self._link: SupervisorLink | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
            "ask": self._report,
            "slots": self._listeners.take_over,
            "reload": self._reload,
            "reopen": self._reopen,
            "retire": self._retire,
        }

    async def open(self, spec: WorkerSpec) -> None:
        """Connect to the supervisor, and send heartbeats from now on."""
        self._link = await SupervisorLink.open(spec.channel, self._on_message)
        self._begin(self._beat())
        self._begin(self._end_with_supervisor())

    async def ask(self) -> Overview:
        """Return the status of all workers."""
        return await self._linked.ask()

    def send(self, *message: object) -> None:
        """Send the supervisor a message."""
        self._linked.send(*message)

    async def close(self) -> None:
        """Send the final counts, and disconnect."""
        for task in self._tasks:
            task.cancel()
        self._linked.send("beat", self._agent.counts())
        await self._linked.close()

    @property
    def _linked(self) -> SupervisorLink:
        assert self._link is not None
        return self._link

    def _on_message(self, message: Message) -> None:
        handler = self._handlers.get(message[0])
        if handler is not None:
            self._begin(handler(*message[1:]))

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        """Send heartbeats; include the counts only as often as costs half a percent of the time."""
        due = 0.0
        while True:
            began = perf_counter()
            if began >= due:
                self.send("beat", self._agent.counts())
                due = began + (perf_counter() - began) * _REST_FACTOR
            else:
                self.send("beat", {})
            await asyncio.sleep(BEAT_SECONDS)

    async def _end_with_supervisor(self) -> None:
        await self._linked.lost.wait()
        self._agent.retire()

    async def _report(self, number: int) -> None:
        self.send("report", number, *await self._agent.report())

    async def _reload(self) -> None:
        await self._agent.reload()
        self.send("reloaded")

    async def _reopen(self) -> None:
        self._agent.reopen_logs()

    async def _retire(self) -> None:
        self._agent.retire()
