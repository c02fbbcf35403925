"""What a worker does at its supervisor's request, or on a signal: report, reload, reopen, end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sidecar.observability.metric_families import Snapshot
from sidecar.operations.health import Health
from sidecar.runtime.reload import Reloader
from sidecar.workers.held_signals import HELD, ignore, take
from sidecar.workers.overview import WorkerReport

_log = logging.getLogger("sidecar")


class Shutdown:
    """Whether the end of the process was requested, and whether another has taken over.

    A process that ``is_retired`` ends without notice.
    """

    def __init__(self, requested: asyncio.Event) -> None:
        self.requested = requested
        self.is_retired = False

    def retire(self) -> None:
        """Request the end, as another process has taken over."""
        self.is_retired = True
        self.requested.set()


class WorkerAgent:
    """Implements ``workers.worker_client.Agent``, and handles signals."""

    def __init__(
        self,
        counts: Callable[[], Snapshot],
        reopen_logs: Callable[[], None],
        health: Health,
        reloader: Reloader | None,
        shutdown: Shutdown,
    ) -> None:
        self._health = health
        self._reloader = reloader
        self._shutdown = shutdown
        self.retire = shutdown.retire
        self.counts = counts
        self.reopen_logs = reopen_logs

    async def report(self) -> WorkerReport:
        """Return the worker's status."""
        reasons = await self._health.reasons()
        is_up = await self._health.store_ready()
        snapshot = self.counts()
        snapshot["sidecar_store_up"] = {(): float(is_up)}
        describe = self._reloader and self._reloader.state.describe
        return WorkerReport(snapshot, reasons, describe() if describe else None)

    async def reload(self) -> None:
        """Read the configuration again; return once it is applied or refused."""
        if self._reloader is None:
            _log.warning("SIGHUP: there is no configuration file to read again")
        else:
            await self._reloader.read_now()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle signals, including those that were held, within the context."""
        loop = asyncio.get_running_loop()
        reloader = self._reloader
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self._shutdown.requested.set,
            signal.SIGHUP: (lambda: None) if reloader is None else reloader.ask,
            signal.SIGUSR1: self.reopen_logs,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        for came in take():
            handlers.get(signal.Signals(came), lambda: None)()
        try:
            yield
        finally:
            # Without a handler, these signals would end the process until ``ignore`` is called.
            signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
            for number in handlers:
                loop.remove_signal_handler(number)
            ignore()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
