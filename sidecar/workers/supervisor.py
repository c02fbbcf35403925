"""The parent of all workers: how many there are, what follows one that ends, who takes over.

It forks a worker for each slot (``fleet``) and proxies nothing itself. A worker that ends is
replaced, at once and, if that does not help, later and later (``restarts``); meanwhile the others
accept what comes in on its slot. One that is no longer heard from is killed.

An upgrade replaces the program in this very process (``inheritance``), so that its process id, its
children and its sockets stay. The new program forks new workers, and once all of them are ready,
the old ones finish and go. A program that would not start is not taken up: a trial run comes first
(``trial_run``).

There is no event loop and no thread here, as neither survives a fork.
"""

from __future__ import annotations

import logging
import selectors
import signal
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final, Protocol

from sidecar.core.errors import UsageError
from sidecar.observability.metric_families import Snapshot
from sidecar.wire.listening import Slots, close_all
from sidecar.workers import inheritance
from sidecar.workers.channel import Message
from sidecar.workers.exit_status import describe_exit
from sidecar.workers.fleet import STALL_SECONDS, Fleet
from sidecar.workers.held_signals import ignore, take
from sidecar.workers.inheritance import Inheritance, InheritedWorker
from sidecar.workers.overview import Overview, WorkerReport, join_configurations
from sidecar.workers.restarts import Restarts
from sidecar.workers.service_manager import ServiceManager
from sidecar.workers.service_status import ServiceStatus, count_of
from sidecar.workers.signal_watch import SignalWatch, blocked
from sidecar.workers.status_poll import (
    Asker,
    Reports,
    StatusPoll,
    count_ready,
    current_of,
    reasons_of,
)
from sidecar.workers.totals import Totals
from sidecar.workers.trial_run import TrialRun
from sidecar.workers.worker_process import WorkerProcess, WorkerState
from sidecar.workers.worker_spec import WorkerSpec

_log = logging.getLogger("sidecar")

_TICK_SECONDS: Final = 0.5
_ONCE_READY: Final = (signal.SIGHUP, signal.SIGUSR2)


class Plan(Protocol):
    """What the supervisor is to run."""

    count: int
    """How many workers there are to be."""

    @property
    def drain_seconds(self) -> float:
        """How long a worker may take to end, by the configuration in force."""

    def work(self, place: WorkerSpec) -> int:
        """Be a worker, in a process of its own; return its exit status."""

    def refresh(self) -> None:
        """Take up the configuration that the workers have taken up, for those to come."""

    def measure(self) -> Snapshot:
        """Return what the operating system says of this process."""

    @property
    def write_lock(self) -> int:
        """The descriptor of the lock that workers take turns with at writing logs."""

    def describe_store(self) -> Mapping[str, Any] | None:
        """Return what a successor must know of the store, if that is ours."""


class Supervisor:
    """Runs ``plan`` on ``sockets`` (by use) until SIGTERM or SIGINT.

    ``addresses`` are those of the sockets, by use. ``inherited`` is what a predecessor left.
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
            work=plan.work,
            leave=self._signals.forget,
            hear=self._on_message,
            drain_seconds=lambda: plan.drain_seconds,
        )
        self._restarts = Restarts(range(plan.count))
        self._status = ServiceStatus(manager, plan.count, self._count_served)
        self._trial_run = TrialRun(addresses.values())
        self._totals = Totals(inherited.gone if inherited else None)
        self._status_poll = StatusPoll(self._fleet.workers.values, self._fleet.tell, self._answer)
        self._generation = inherited.generation if inherited else 1
        self._refused = inherited.refused if inherited else 0
        self._has_served = bool(inherited and inherited.workers)
        self._is_announced = False
        self._is_stopping = False
        self._failure = ""
        self._put_off: set[int] = set()
        self._now = monotonic()
        for one in inherited.workers if inherited else ():
            worker = self._fleet.adopt(one, self._now)
            self._totals.learn(worker.number, one.snapshot)

    def __repr__(self) -> str:
        return f"<Supervisor {self._fleet!r} stopping={self._is_stopping}>"

    def run(self) -> int:
        """Run until told to end and everything has ended; return the exit status.

        Raises ``UsageError`` if no worker can start.
        """
        with self._signals.listening():
            self._reap()  # whoever ended while this program was being loaded
            for slot in self._restarts.slots:
                self._start(slot)
            for number in take():
                self._on_signal(number)
            while self._fleet.workers:
                self._turn()
        ignore()
        close_all([slot for slots in self._sockets.values() for slot in slots])
        if self._failure:
            raise UsageError(self._failure)
        return 0

    def _turn(self) -> None:
        for key, _ in self._selector.select(_TICK_SECONDS):
            key.data()
        before, self._now = self._now, monotonic()
        if self._now - before > STALL_SECONDS:
            self._fleet.excuse_silence(self._now)
        self._fleet.kill_stuck(self._now)
        self._status_poll.end_if_over()
        for slot in self._restarts.take_due(self._now):
            self._start(slot)
        self._follow_trial_run()
        self._status.follow(
            self._now,
            is_serving=self._is_announced and not self._is_stopping,
            is_heard=lambda seconds: self._fleet.is_heard_within(seconds, self._now),
        )

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number in _ONCE_READY and not (self._is_announced or self._is_stopping):
            _log.info("%s: done once all workers are ready", signal.Signals(number).name)
            self._put_off.add(number)
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._reload()
        elif number == signal.SIGUSR1:
            self._fleet.tell_all("reopen")
        elif number == signal.SIGUSR2:
            self._begin_upgrade()

    # Workers come and go.

    def _start(self, slot: int) -> None:
        self._fleet.fork(slot, self._plan.count, self._generation, self._refused, self._now)

    def _reap(self) -> None:
        for worker, status in self._fleet.reap():
            self._on_ended(worker, status)

    def _on_ended(self, worker: WorkerProcess, status: int) -> None:
        self._totals.forget(worker.number)
        self._status_poll.forget(worker)
        self._status.note_reloaded(worker.number)
        if self._is_stopping or worker.state is WorkerState.RETIRING:
            self._close_when_all_have()
        elif not self._has_served:
            self._fail(worker.failure or f"a worker ended at once ({describe_exit(status)})")
        elif not worker.is_old or self._needs_worker(worker.slot):
            _log.error("%s ended (%s); another follows", worker.name, describe_exit(status))
            self._restarts.plan(worker.slot, worker.started_at, self._now)
        self._fleet.cover()

    def _needs_worker(self, slot: int) -> bool:
        return slot in self._restarts and not self._fleet.has_own(slot)

    def _count_served(self) -> int:
        return sum(self._fleet.is_served(slot) for slot in self._restarts.slots)

    # The end.

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._status.stopping()
        _log.info("draining: running requests may finish within %gs", self._plan.drain_seconds)
        self._restarts.cancel()
        for worker in self._fleet:
            self._fleet.end(worker, signal.SIGTERM, self._now)
        self._close_when_all_have()

    def _close_when_all_have(self) -> None:
        """Refuse callers once every worker does: while a socket is open here, they would wait."""
        if self._is_stopping and all(worker.has_closed for worker in self._fleet):
            close_all(self._sockets.pop("proxy", []))

    def _fail(self, why: str) -> None:
        """Give up a start: whatever ails one worker ails all."""
        self._failure = self._failure or why
        self._stop()

    # What workers say.

    def _on_message(self, worker: WorkerProcess, message: Message) -> None:
        worker.heard_at = self._now
        handle = _HANDLERS.get(message[0])
        if handle is not None:
            handle(self, worker, message)

    def _on_ready(self, worker: WorkerProcess, _: Message) -> None:
        worker.state = WorkerState.READY
        self._has_served = True
        self._fleet.greet(worker)
        self._fleet.cover()
        if self._count_served() == self._plan.count and not self._is_stopping:
            self._on_all_ready()

    def _on_all_ready(self) -> None:
        """Announce it once, and let the workers of the program before go."""
        old = [worker for worker in self._fleet.ready() if worker.is_old]
        for worker in old:
            self._fleet.retire(worker, self._now)
        self._fleet.cover()
        if self._is_announced:
            return
        self._is_announced = True
        workers = count_of(self._plan.count, "worker")
        _log.info("listening on %s, %s", self._addresses["proxy"], workers)
        if old:
            _log.info("upgraded: %s of before may finish", count_of(len(old), "worker"))
        self._status.ready()
        for number in sorted(self._put_off):
            self._on_signal(number)

    def _on_failed(self, worker: WorkerProcess, message: Message) -> None:
        worker.failure = str(message[1])

    def _on_beat(self, worker: WorkerProcess, message: Message) -> None:
        self._learn(worker, message[1])

    def _learn(self, worker: WorkerProcess, snapshot: Snapshot) -> None:
        self._totals.learn(worker.number, snapshot)
        self._refused = int(self._totals.largest("sidecar_configuration_refused_total"))
        generation = int(self._totals.largest("sidecar_configuration_generation"))
        if generation > self._generation:
            self._generation = generation
            self._plan.refresh()

    def _on_closed(self, worker: WorkerProcess, _: Message) -> None:
        worker.has_closed = True
        self._close_when_all_have()

    # How all are.

    def _on_ask(self, worker: WorkerProcess, message: Message) -> None:
        self._status_poll.ask(worker, message[1])

    def _on_report(self, worker: WorkerProcess, message: Message) -> None:
        _, _, snapshot, reasons, configuration = message
        self._learn(worker, snapshot)
        self._status_poll.note(worker, WorkerReport(snapshot, reasons, configuration))

    def _answer(self, askers: list[Asker], reports: Reports) -> None:
        """Tell those who asked how all workers are."""
        slots = self._restarts.slots
        current = current_of(self._fleet)
        ready = count_ready(slots, current, reports)
        counted: Snapshot = {
            **self._plan.measure(),
            "sidecar_workers": {(): float(ready)},
            "sidecar_worker_restarts_total": {(): float(self._restarts.total)},
        }
        told = [reports[w.number].configuration for w in current.values() if w.number in reports]
        overview = Overview(
            self._totals.sum([counted]),
            reasons_of(slots, current, reports),
            join_configurations(told),
            ready,
            self._plan.count,
        )
        for worker, number in askers:
            self._fleet.tell(worker, "told", number, *overview)

    # Reload and upgrade.

    def _reload(self) -> None:
        ready = self._fleet.ready()
        self._status.begin_reload((worker.number for worker in ready), self._now)
        for worker in ready:
            self._fleet.tell(worker, "reload")

    def _on_reloaded(self, worker: WorkerProcess, _: Message) -> None:
        self._status.note_reloaded(worker.number)

    def _begin_upgrade(self) -> None:
        """Begin an upgrade: see whether the program that is installed now would start."""
        if self._is_stopping or self._trial_run.is_under_way or not self._is_announced:
            _log.warning("SIGUSR2: there is a start, an upgrade or an end under way")
            return
        _log.info("upgrade: trying out the program that is installed now")
        self._status.busy("upgrading")
        failure = self._trial_run.begin(self._now)
        if failure:
            self._refuse_upgrade(failure)

    def _follow_trial_run(self) -> None:
        outcome = self._trial_run.has_passed(self._now, is_cut_short=self._is_stopping)
        if isinstance(outcome, str):
            self._refuse_upgrade(outcome)
        elif outcome:
            self._upgrade()

    def _refuse_upgrade(self, why: str) -> None:
        _log.error("upgrade: the program that is installed now %s; this one goes on", why)
        self._status.ready()

    def _upgrade(self) -> None:
        """Become the new program, as soon as nobody waits for an answer from this one."""
        is_starting = any(worker.state is WorkerState.STARTING for worker in self._fleet)
        if is_starting or not self._status_poll.is_idle:
            return
        self._trial_run.conclude()
        _log.info("upgrade: becoming the program that is installed now")
        with blocked():  # until the new program listens to signals
            try:
                inheritance.replace_program(self._inheritance())
            except UsageError as error:
                self._refuse_upgrade(str(error))

    def _inheritance(self) -> Inheritance:
        sockets = {
            use: (self._addresses[use], [[one.fileno() for one in slot] for slot in slots])
            for use, slots in self._sockets.items()
        }
        own: Snapshot = {"sidecar_worker_restarts_total": {(): float(self._restarts.total)}}
        return Inheritance(
            sockets,
            [
                InheritedWorker.of(worker, self._totals.known(worker.number))
                for worker in self._fleet
            ],
            self._totals.gone_with(own),
            self._generation,
            self._refused,
            self._plan.write_lock,
            self._plan.describe_store(),
        )


_HANDLERS: Final[dict[str, Callable[[Supervisor, WorkerProcess, Message], None]]] = {
    "ready": Supervisor._on_ready,
    "failed": Supervisor._on_failed,
    "beat": Supervisor._on_beat,
    "ask": Supervisor._on_ask,
    "report": Supervisor._on_report,
    "closed": Supervisor._on_closed,
    "reloaded": Supervisor._on_reloaded,
}
