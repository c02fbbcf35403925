"""The parent of all workers: it starts them, replaces those that end, and passes signals on.

It proxies nothing itself. It forks a worker for each slot (``fleet``). A worker that ends is
replaced, at once the first time and after growing delays if that does not help (``restarts``);
meanwhile the other workers accept the connections of its slot. A worker that stops responding is
killed. An upgrade replaces the supervisor's own program and keeps its process (``upgrade``); the
new program forks new workers, and retires the old ones once all the new ones are ready.

The supervisor has no event loop and no thread, as neither survives a fork.
"""

from __future__ import annotations

import logging
import selectors
import signal
from time import monotonic
from typing import Final

from sidecar.core.counts import count_of
from sidecar.core.errors import UsageError
from sidecar.wire.listening import Slots, close_all, is_of_use
from sidecar.workers.channel import Message
from sidecar.workers.exit_status import describe_exit
from sidecar.workers.fleet import STALL_SECONDS, Fleet
from sidecar.workers.fleet_status import FleetStatus
from sidecar.workers.held_signals import ignore, take
from sidecar.workers.inheritance import Inheritance
from sidecar.workers.overview import WorkerReport
from sidecar.workers.plan import Plan
from sidecar.workers.restarts import Restarts
from sidecar.workers.service_manager import ServiceManager
from sidecar.workers.service_status import ServiceStatus
from sidecar.workers.signal_watch import SignalWatch
from sidecar.workers.upgrade import Upgrade
from sidecar.workers.worker_process import WorkerProcess, WorkerState

_log = logging.getLogger("sidecar")

_TICK_SECONDS: Final = 0.5
_DEFERRED_UNTIL_READY: Final = (signal.SIGHUP, signal.SIGUSR2)


class Supervisor:
    """Runs ``plan`` on ``sockets`` (by use) until SIGTERM or SIGINT.

    ``addresses`` are the addresses of the sockets, by use. ``inherited`` is what the program before
    this one left, after an upgrade.
    """

    def __init__(
        self,
        plan: Plan,
        sockets: dict[str, Slots],
        addresses: dict[str, str],
        manager: ServiceManager,
        inherited: Inheritance | None = None,
    ) -> None:
        self._plan = plan
        self._sockets = sockets
        self._addresses = addresses
        self._selector = selectors.DefaultSelector()
        self._signals = SignalWatch(self._selector, self._on_signal)
        self._fleet = Fleet(
            self._selector,
            sockets,
            run_worker=plan.work,
            leave=self._signals.forget,
            on_message=self._on_message,
            drain_seconds=lambda: plan.drain_seconds,
        )
        self._restarts = Restarts(range(plan.count))
        self._status = FleetStatus(plan, self._fleet, self._restarts, inherited)
        self._service = ServiceStatus(manager, plan.count, self._count_served)
        self._upgrade = Upgrade(addresses.values(), self._service, self._bequeath)
        self._has_served = bool(inherited and inherited.workers)
        self._is_announced = False
        self._is_stopping = False
        self._failure = ""
        self._deferred: set[int] = set()
        self._now = monotonic()
        for one in inherited.workers if inherited else ():
            self._status.restore(self._fleet.adopt(one, self._now), one.snapshot)

    def __repr__(self) -> str:
        return f"<Supervisor {self._fleet!r} stopping={self._is_stopping}>"

    def run(self) -> int:
        """Run until a signal asks for the end and all workers have ended; return the exit status.

        Raises ``UsageError`` if no worker can start.
        """
        with self._signals.listening():
            self._reap()  # the workers that ended while this program was being loaded
            for slot in self._restarts.slots:
                self._start(slot)
            for number in take():
                self._on_signal(number)
            while self._fleet.workers:
                self._tick()
        ignore()
        close_all([slot for slots in self._sockets.values() for slot in slots])
        if self._failure:
            raise UsageError(self._failure)
        return 0

    def _tick(self) -> None:
        for key, _ in self._selector.select(_TICK_SECONDS):
            key.data()
        before, self._now = self._now, monotonic()
        if self._now - before > STALL_SECONDS:
            self._fleet.excuse_silence(self._now)
        self._fleet.kill_stuck(self._now)
        self._status.end_poll_if_over()
        for slot in self._restarts.take_due(self._now):
            self._start(slot)
        self._upgrade.advance(self._now, is_stopping=self._is_stopping, is_quiet=self._is_quiet)
        self._service.follow(
            self._now,
            is_serving=self._is_announced and not self._is_stopping,
            is_heard=lambda seconds: self._fleet.is_heard_within(seconds, self._now),
        )

    # What signals ask for.

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number in _DEFERRED_UNTIL_READY and not (self._is_announced or self._is_stopping):
            _log.info("%s: deferred until all workers are ready", signal.Signals(number).name)
            self._deferred.add(number)
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._reload()
        elif number == signal.SIGUSR1:
            self._fleet.broadcast("reopen")
        elif number == signal.SIGUSR2:
            self._begin_upgrade()

    def _reload(self) -> None:
        ready = self._fleet.ready()
        self._service.begin_reload((worker.number for worker in ready), self._now)
        for worker in ready:
            self._fleet.send(worker, "reload")

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._service.stopping()
        _log.info("draining: running requests may finish within %gs", self._plan.drain_seconds)
        self._restarts.cancel()
        for worker in self._fleet:
            self._fleet.end(worker, signal.SIGTERM, self._now)
        self._close_when_all_have()

    def _close_when_all_have(self) -> None:
        """Close the proxy's sockets once every worker has closed its own.

        Until then a caller could connect to a socket that is open here, and wait in vain.
        """
        if self._is_stopping and all(worker.has_closed for worker in self._fleet):
            for use in [use for use in self._sockets if is_of_use(use, "proxy")]:
                close_all(self._sockets.pop(use))

    # Upgrades.

    def _begin_upgrade(self) -> None:
        if self._is_stopping or self._upgrade.is_under_way or not self._is_announced:
            _log.warning("SIGUSR2: ignored while starting, upgrading or ending")
            return
        self._upgrade.begin(self._now)

    def _is_quiet(self) -> bool:
        """Tell whether no worker is starting or waiting for an answer from this program."""
        is_starting = any(worker.state is WorkerState.STARTING for worker in self._fleet)
        return not is_starting and self._status.is_idle

    def _bequeath(self) -> Inheritance:
        sockets = {
            use: (self._addresses[use], [[one.fileno() for one in slot] for slot in slots])
            for use, slots in self._sockets.items()
        }
        return Inheritance(
            sockets,
            self._status.inherited_workers(),
            self._status.inherited_counts(),
            self._status.generation,
            self._status.refused,
            self._plan.write_lock,
            self._plan.describe_store(),
        )

    # Workers come and go.

    def _start(self, slot: int) -> None:
        status = self._status
        self._fleet.fork(slot, self._plan.count, status.generation, status.refused, self._now)

    def _reap(self) -> None:
        for worker, status in self._fleet.reap():
            self._on_ended(worker, status)

    def _on_ended(self, worker: WorkerProcess, status: int) -> None:
        self._status.forget(worker)
        self._service.note_reloaded(worker.number)
        if self._is_stopping or worker.state is WorkerState.RETIRING:
            self._close_when_all_have()
        elif not self._has_served:
            self._fail(worker.failure or f"a worker ended at once ({describe_exit(status)})")
        elif not worker.is_old or self._needs_worker(worker.slot):
            _log.error("%s ended (%s); replacing it", worker.name, describe_exit(status))
            self._restarts.plan(worker.slot, worker.started_at, self._now)
        self._fleet.cover()

    def _fail(self, why: str) -> None:
        """Give up: what keeps the first worker from starting would stop all of them."""
        self._failure = self._failure or why
        self._stop()

    def _needs_worker(self, slot: int) -> bool:
        return slot in self._restarts and not self._fleet.has_own(slot)

    def _count_served(self) -> int:
        return sum(self._fleet.is_served(slot) for slot in self._restarts.slots)

    # What workers say (``channel``).

    def _on_message(self, worker: WorkerProcess, message: Message) -> None:
        worker.heard_at = self._now
        match message:
            case ("ready", *_):
                self._on_ready(worker)
            case ("failed", why, *_):
                worker.failure = str(why)
            case ("beat", snapshot, *_):
                self._status.learn(worker, snapshot)
            case ("ask", number, *_):
                self._status.ask(worker, number)
            case ("report", _, snapshot, reasons, configuration, *_):
                self._status.note_report(worker, WorkerReport(snapshot, reasons, configuration))
            case ("closed", *_):
                worker.has_closed = True
                self._close_when_all_have()
            case ("reloaded", *_):
                self._service.note_reloaded(worker.number)

    def _on_ready(self, worker: WorkerProcess) -> None:
        worker.state = WorkerState.READY
        self._has_served = True
        self._fleet.greet(worker)
        self._fleet.cover()
        if self._count_served() == self._plan.count and not self._is_stopping:
            self._on_all_ready()

    def _on_all_ready(self) -> None:
        """Retire the workers of the program before, and announce readiness the first time."""
        old = [worker for worker in self._fleet.ready() if worker.is_old]
        for worker in old:
            self._fleet.retire(worker, self._now)
        self._fleet.cover()
        if self._is_announced:
            return
        self._is_announced = True
        workers = count_of(self._plan.count, "worker")
        callers = [self._addresses[use] for use in self._addresses if is_of_use(use, "proxy")]
        _log.info("listening on %s, %s", ", ".join(callers), workers)
        if old:
            _log.info("upgraded: %s may finish", count_of(len(old), "old worker"))
        self._service.ready()
        for number in sorted(self._deferred):
            self._on_signal(number)
