"""When to notify the service manager: readiness, reloads, the end, and the watchdog."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sidecar.core.counts import count_of
from sidecar.workers.service_manager import ServiceManager

_RELOAD_SECONDS: Final = 30.0
_LEAST_HEARD_SECONDS: Final = 2.0


class ServiceStatus:
    """Notifies the service manager; ``count_ready`` returns how many of ``count`` are ready."""

    def __init__(self, manager: ServiceManager, count: int, count_ready: Callable[[], int]) -> None:
        self._manager = manager
        self._count = count
        self._count_ready = count_ready
        self._reloading: set[int] = set()
        self._reloaded_by = 0.0
        self._watchdog_at = 0.0

    def ready(self) -> None:
        """Notify that the service is ready."""
        self._manager.ready(self._text())

    def busy(self, what: str) -> None:
        """Notify that a reload or an upgrade has begun; ``ready`` ends it."""
        self._manager.reloading(what)

    def stopping(self) -> None:
        """Notify that the service is stopping."""
        self._manager.stopping("draining")

    def begin_reload(self, workers: Iterable[int], now: float) -> None:
        """Notify that a reload has begun; it ends once these workers have read the file."""
        self._reloading = set(workers)
        self._reloaded_by = now + _RELOAD_SECONDS
        self.busy("reading the configuration")

    def note_reloaded(self, worker: int) -> None:
        """Note that a worker has read the configuration, or has ended."""
        self._reloading.discard(worker)

    def follow(self, now: float, *, is_serving: bool, is_heard: Callable[[float], bool]) -> None:
        """Notify of what has changed since the last tick, and feed the watchdog.

        ``is_heard`` tells whether any worker was heard within so many seconds.
        """
        if self._reloaded_by and (not self._reloading or now > self._reloaded_by):
            self._reloaded_by = 0.0
            self.ready()
        if is_serving:
            self._manager.status(self._text())
        period = self._manager.watchdog_seconds
        if period and now >= self._watchdog_at and is_heard(max(period, _LEAST_HEARD_SECONDS)):
            self._watchdog_at = now + period / 2
            self._manager.alive()

    def _text(self) -> str:
        ready, count = self._count_ready(), self._count
        if ready < count:
            return f"{count_of(ready, 'worker')} of {count} ready"
        return f"{count_of(count, 'worker')} ready"
