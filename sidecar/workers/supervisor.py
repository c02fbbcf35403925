"""The parent of all workers: how many there are, what becomes of one that ends, who takes over.

It forks a worker for each slot and proxies nothing itself. A worker that ends is followed by
another, at once and, if that does not help, later and later; meanwhile the other workers accept
what comes in on its slot. One that no longer says that it is alive is killed.

An upgrade replaces the program in this very process (``workers.handover``), so that its number, its
children and its sockets stay. The new program forks new workers, and once all of them are ready, it
lets the old ones finish and go. One that does not start is not taken up: a rehearsal comes first.

There is no event loop and no thread here, as neither survives a fork.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, NoReturn, Protocol

from sidecar.core.error_location import error_location
from sidecar.core.errors import UsageError
from sidecar.observability.metric_families import Snapshot
from sidecar.wire.listening import Slots, close_all
from sidecar.workers import handover
from sidecar.workers.channel import Channel, Message
from sidecar.workers.child import Child, State
from sidecar.workers.handover import Handover, Left
from sidecar.workers.held_signals import HELD, hold, ignore, take
from sidecar.workers.overview import Overview, Report, join_configurations
from sidecar.workers.place import Place
from sidecar.workers.rounds import Asker, Reports, Rounds, count_ready, current_of, reasons_of
from sidecar.workers.service_manager import ServiceManager
from sidecar.workers.totals import Totals

_log = logging.getLogger("sidecar")

_TICK_SECONDS: Final = 0.5
_START_SECONDS: Final = 60.0
_SILENT_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 10.0
_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0
_REHEARSAL_SECONDS: Final = 60.0
_RELOAD_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 10.0  # beyond what a drain may take
_SIGNALS: Final = (*HELD, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_ONCE_READY: Final = (signal.SIGHUP, signal.SIGUSR2)


class Plan(Protocol):
    """What the supervisor is told to run."""

    count: int
    """How many workers there are to be."""

    @property
    def drain_seconds(self) -> float:
        """How long a worker may take to end, by the configuration in force."""

    def work(self, place: Place) -> int:
        """Be a worker, in a process of its own; return its exit status."""

    def refresh(self) -> None:
        """Take up the configuration that the workers have taken up, for those to come."""

    def measure(self) -> Snapshot:
        """Return what the operating system says of this process."""

    @property
    def turn(self) -> int:
        """The descriptor of what workers take turns at writing with."""

    def describe_store(self) -> Mapping[str, Any] | None:
        """Return what a successor must know of the store, if that is ours."""


@dataclass(slots=True)
class _Slot:
    """How often its workers have ended early, and when the next one starts."""

    failures: int = 0
    start_at: float | None = None


class Supervisor:
    """Runs ``plan`` on ``sockets`` (by use) until SIGTERM or SIGINT.

    ``addresses`` are those of the sockets, by use. ``left`` is what a predecessor left.
    """

    def __init__(
        self,
        plan: Plan,
        sockets: dict[str, Slots],
        addresses: dict[str, str],
        manager: ServiceManager,
        left: Handover | None = None,
    ) -> None:
        self._plan = plan
        self._sockets = sockets
        self._addresses = addresses
        self._manager = manager
        self._selector = selectors.DefaultSelector()
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._totals = Totals(left.gone if left else None)
        self._generation = left.generation if left else 1
        self._refused = left.refused if left else 0
        self._workers: dict[int, Child] = {}
        self._slots = {slot: _Slot() for slot in range(plan.count)}
        self._number = 0
        self._rounds = Rounds(self._workers.values, self._tell, self._answer)
        self._covered: tuple[int, ...] = ()
        self._has_served = False
        self._is_stopping = False
        self._failure = ""
        self._restarts = 0
        self._rehearsal: subprocess.Popen[bytes] | None = None
        self._rehearsed_by = 0.0
        self._reloading: set[int] = set()
        self._reloaded_by = 0.0
        self._is_announced = False
        self._put_off: set[int] = set()
        self._watchdog_at = 0.0
        self._now = monotonic()
        for worker in left.workers if left else ():
            self._adopt(worker)

    def __repr__(self) -> str:
        return f"<Supervisor workers={len(self._workers)} stopping={self._is_stopping}>"

    def run(self) -> int:
        """Run until told to end and everything has ended; return the exit status.

        Raises ``UsageError`` if no worker can start.
        """
        with self._listening_to_signals():
            self._reap()  # those who ended while this program was being loaded
            for slot in self._slots:
                self._start(slot)
            for number in take():
                self._on_signal(number)
            while self._workers:
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
        if self._now - before > _SILENT_SECONDS / 3:  # it was this process that stood still
            for worker in self._workers.values():
                worker.heard_at = self._now
        self._end_silent()
        self._rounds.end_if_over()
        self._start_waiting()
        self._follow_rehearsal()
        self._follow_reload()
        self._tell_manager()

    # Signals.

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        wake = self._wake = socket.socketpair()
        for end in wake:
            end.setblocking(False)
        signal.set_wakeup_fd(wake[1].fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # blocked while a program is replaced
        self._selector.register(wake[0], selectors.EVENT_READ, self._on_signals)
        try:
            yield
        finally:
            self._forget_signals()

    def _forget_signals(self) -> None:
        signal.set_wakeup_fd(-1)
        hold()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for end in self._wake or ():
            end.close()
        self._selector.close()

    def _on_signals(self) -> None:
        assert self._wake is not None
        with suppress(BlockingIOError):
            for number in dict.fromkeys(self._wake[0].recv(4096)):
                self._on_signal(number)

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
            self._tell_all("reopen")
        elif number == signal.SIGUSR2:
            self._rehearse()

    def _tell_all(self, *message: object) -> None:
        for worker in self._workers.values():
            self._tell(worker, *message)

    def _tell(self, worker: Child, *message: object) -> None:
        worker.channel.send(*message)
        self._watch(worker)

    # Workers come and go.

    def _start(self, slot: int) -> None:
        """Fork a worker."""
        ours, theirs = socket.socketpair()
        self._slots[slot].start_at = None
        place = Place(
            slot, self._plan.count, self._sockets, theirs, self._generation, self._refused
        )
        # A signal must not reach the child while it would still tell us of it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self._be_worker(place, ours)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self._add(Child(pid, self._number, slot, Channel(ours), self._now, self._now))

    def _add(self, worker: Child) -> None:
        self._number = max(self._number, worker.number) + 1
        self._workers[worker.number] = worker
        self._selector.register(
            worker.channel.sock, selectors.EVENT_READ, lambda: self._on_channel(worker)
        )

    def _adopt(self, left: Left) -> None:
        """Go on with a worker of the program before this one."""
        channel = Channel(socket.socket(fileno=left.descriptor), left.rest, left.unsent)
        worker = Child(left.pid, left.number, left.slot, channel, self._now, self._now)
        worker.is_old = True
        worker.state = State.RETIRING if left.is_retiring else State.READY
        if left.is_retiring:
            worker.kill_at = self._now + self._plan.drain_seconds + _GRACE_SECONDS
        self._totals.learn(worker.number, left.snapshot)
        self._has_served = True
        self._add(worker)

    def _be_worker(self, place: Place, ours: socket.socket) -> NoReturn:
        """Let go of what is the supervisor's; work; end. Runs in the child."""
        status = 1
        try:
            self._forget_signals()
            ours.close()
            for worker in self._workers.values():
                worker.channel.close()
            for number in (signal.SIGINT, signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)  # a terminal sends its own to all of us
            take()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._plan.work(place)
        except BaseException as error:
            _log.error("%s failed: %s", place.name, error_location(error))
        finally:
            logging.shutdown()
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(status)

    def _reap(self) -> None:
        for worker in list(self._workers.values()):
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = worker.pid, 0
            if pid:
                self._on_ended(worker, os.waitstatus_to_exitcode(status))

    def _on_ended(self, worker: Child, status: int) -> None:
        self._on_channel(worker)  # its last words
        worker.channel.is_open = False
        self._watch(worker)
        worker.channel.close()
        del self._workers[worker.number]
        self._totals.forget(worker.number)
        self._rounds.forget(worker)
        self._reloading.discard(worker.number)
        if self._is_stopping or worker.state is State.RETIRING:
            self._close_when_all_have()
        elif not self._has_served:
            self._fail(worker.failure or f"a worker ended at once ({_how_ended(status)})")
        elif not worker.is_old or self._needs_worker(worker.slot):
            _log.error("%s ended (%s); another follows", worker.name, _how_ended(status))
            self._restarts += 1
            self._plan_start(worker)
        self._cover()

    def _needs_worker(self, slot: int) -> bool:
        return slot in self._slots and not any(
            worker.slot == slot for worker in self._workers.values() if not worker.is_old
        )

    def _plan_start(self, ended: Child) -> None:
        """Say when the slot gets another: at once, then later each time one does not last."""
        slot = self._slots[ended.slot]
        has_lasted = self._now - ended.started_at >= _STABLE_SECONDS
        slot.failures = 1 if has_lasted else slot.failures + 1
        delay = 0.0
        if slot.failures > 1:
            delay = _FIRST_DELAY_SECONDS * 2.0 ** min(slot.failures - 2, 10)
        slot.start_at = self._now + min(delay, _LONGEST_DELAY_SECONDS)

    def _start_waiting(self) -> None:
        for number, slot in self._slots.items():
            if slot.start_at is not None and slot.start_at <= self._now and not self._is_stopping:
                self._start(number)

    def _end_silent(self) -> None:
        """Kill whoever no longer says that it lives, or takes too long to end."""
        for worker in self._workers.values():
            patience = _START_SECONDS if worker.state is State.STARTING else _SILENT_SECONDS
            is_silent = self._now - worker.heard_at > patience
            if is_silent or self._now > worker.kill_at:
                _log.error(
                    "%s is killed: it does not %s", worker.name, "answer" if is_silent else "end"
                )
                os.kill(worker.pid, signal.SIGKILL)
                worker.heard_at, worker.kill_at = self._now, float("inf")

    def _cover(self) -> None:
        """Have the connections of slots without a worker accepted by all others."""
        ready = [w for w in self._workers.values() if w.state is State.READY]
        served = {worker.slot for worker in ready}
        most = max((len(slots) for slots in self._sockets.values()), default=0)
        covered = tuple(slot for slot in range(most) if slot not in served)
        if covered != self._covered:
            self._covered = covered
            for worker in ready:
                self._tell(worker, "slots", covered)

    # The end.

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._manager.stopping("draining")
        _log.info("draining: running requests may finish within %gs", self._plan.drain_seconds)
        for slot in self._slots.values():
            slot.start_at = None
        for worker in self._workers.values():
            self._end(worker, signal.SIGTERM)
        self._close_when_all_have()

    def _end(self, worker: Child, number: signal.Signals) -> None:
        worker.kill_at = self._now + self._plan.drain_seconds + _GRACE_SECONDS
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)

    def _close_when_all_have(self) -> None:
        """Refuse callers once every worker does: while a socket is open here, they would wait."""
        if self._is_stopping and all(worker.has_closed for worker in self._workers.values()):
            close_all(self._sockets.pop("proxy", []))

    def _fail(self, why: str) -> None:
        """Give up a start: whatever ails one worker ails all."""
        self._failure = self._failure or why
        self._stop()

    # What workers say.

    def _on_channel(self, worker: Child) -> None:
        worker.channel.flush()
        for message in worker.channel.receive():
            worker.heard_at = self._now
            handle = _HANDLERS.get(message[0])
            if handle is not None:
                handle(self, worker, message)
        self._watch(worker)

    def _watch(self, worker: Child) -> None:
        """Wait for what there is to wait for on a worker's channel; its end comes with SIGCHLD.

        That end and the channel's may come in one turn: then there is nothing left to watch.
        """
        if worker.number not in self._workers:
            return
        channel = worker.channel
        key = self._selector.get_map().get(channel.sock)
        if key is None:
            return
        if not channel.is_open:
            self._selector.unregister(channel.sock)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.unsent else 0)
        if key.events != events:
            self._selector.modify(channel.sock, events, key.data)

    def _on_ready(self, worker: Child, _: Message) -> None:
        worker.state = State.READY
        self._has_served = True
        self._tell(worker, "slots", self._covered)
        self._cover()
        if all(self._is_served(slot) for slot in self._slots) and not self._is_stopping:
            self._on_all_ready()

    def _is_served(self, slot: int) -> bool:
        return any(
            worker.slot == slot and worker.state is State.READY and not worker.is_old
            for worker in self._workers.values()
        )

    def _on_all_ready(self) -> None:
        """Announce it once, and let those of the program before go."""
        old = [w for w in self._workers.values() if w.is_old and w.state is State.READY]
        for worker in old:
            worker.state = State.RETIRING
            worker.kill_at = self._now + self._plan.drain_seconds + _GRACE_SECONDS
            self._tell(worker, "retire")
        self._cover()
        if not self._is_announced:
            self._is_announced = True
            address = self._addresses["proxy"]
            _log.info("listening on %s, %s", address, _count(self._plan.count, "worker"))
            if old:
                _log.info("upgraded: %s of before may finish", _count(len(old), "worker"))
            self._manager.ready(self._status())
            for number in sorted(self._put_off):
                self._on_signal(number)

    def _on_failed(self, worker: Child, message: Message) -> None:
        worker.failure = str(message[1])

    def _on_beat(self, worker: Child, message: Message) -> None:
        self._learn(worker, message[1])

    def _learn(self, worker: Child, snapshot: Snapshot) -> None:
        self._totals.learn(worker.number, snapshot)
        self._refused = int(self._totals.largest("sidecar_configuration_refused_total"))
        generation = int(self._totals.largest("sidecar_configuration_generation"))
        if generation > self._generation:
            self._generation = generation
            self._plan.refresh()

    def _on_closed(self, worker: Child, _: Message) -> None:
        worker.has_closed = True
        self._close_when_all_have()

    # How all are.

    def _on_ask(self, worker: Child, message: Message) -> None:
        self._rounds.ask(worker, message[1])

    def _on_report(self, worker: Child, message: Message) -> None:
        _, _, snapshot, reasons, configuration = message
        self._learn(worker, snapshot)
        self._rounds.note(worker, Report(snapshot, reasons, configuration))

    def _answer(self, askers: list[Asker], reports: Reports) -> None:
        """Tell those who asked how all are."""
        current = current_of(self._workers.values())
        ready = count_ready(self._slots, current, reports)
        counted: Snapshot = {
            **self._plan.measure(),
            "sidecar_workers": {(): float(ready)},
            "sidecar_worker_restarts_total": {(): float(self._restarts)},
        }
        told = [reports[w.number].configuration for w in current.values() if w.number in reports]
        overview = Overview(
            self._totals.sum([counted]),
            reasons_of(self._slots, current, reports),
            join_configurations(told),
            ready,
            self._plan.count,
        )
        for worker, number in askers:
            self._tell(worker, "told", number, *overview)

    # Reload and upgrade.

    def _reload(self) -> None:
        current = [w for w in self._workers.values() if w.state is State.READY]
        self._reloading = {worker.number for worker in current}
        self._reloaded_by = self._now + _RELOAD_SECONDS
        self._manager.reloading("reading the configuration")
        for worker in current:
            self._tell(worker, "reload")

    def _on_reloaded(self, worker: Child, _: Message) -> None:
        self._reloading.discard(worker.number)

    def _follow_reload(self) -> None:
        if self._reloaded_by and (not self._reloading or self._now > self._reloaded_by):
            self._reloaded_by = 0.0
            self._manager.ready(self._status())

    def _rehearse(self) -> None:
        """Begin an upgrade: see whether the program that is installed now would start."""
        if self._is_stopping or self._rehearsal is not None or not self._is_announced:
            _log.warning("SIGUSR2: there is a start, an upgrade or an end under way")
            return
        _log.info("upgrade: trying out the program that is installed now")
        self._manager.reloading("upgrading")
        environ = {**os.environ, handover.REHEARSAL: json.dumps([*self._addresses.values()])}
        try:
            self._rehearsal = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                handover.command(), env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        except OSError as error:
            self._refuse_upgrade(f"can't be started: {error.strerror}")
        self._rehearsed_by = self._now + _REHEARSAL_SECONDS

    def _follow_rehearsal(self) -> None:
        trial = self._rehearsal
        if trial is None:
            return
        status = trial.poll()
        if self._is_stopping or (status is None and self._now > self._rehearsed_by):
            trial.kill()
            status = trial.wait()
        if status == 0:
            self._upgrade()
        elif status is not None:
            self._rehearsal = None
            self._refuse_upgrade(f"does not start ({_how_ended(status)})")

    def _refuse_upgrade(self, why: str) -> None:
        _log.error("upgrade: the program that is installed now %s; this one goes on", why)
        self._manager.ready(self._status())

    def _upgrade(self) -> None:
        """Become the new program, as soon as nobody waits for an answer from this one."""
        is_starting = any(w.state is State.STARTING for w in self._workers.values())
        if is_starting or not self._rounds.is_idle:
            return
        self._rehearsal = None
        _log.info("upgrade: becoming the program that is installed now")
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until it listens to them
        try:
            handover.become(self._hand_over())
        except UsageError as error:
            self._refuse_upgrade(str(error))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _hand_over(self) -> Handover:
        sockets = {
            use: (self._addresses[use], [[one.fileno() for one in slot] for slot in slots])
            for use, slots in self._sockets.items()
        }
        workers = [
            Left(
                worker.pid,
                worker.number,
                worker.slot,
                worker.channel.sock.fileno(),
                worker.state is State.RETIRING,
                worker.channel.frames.rest,
                worker.channel.unsent,
                self._totals.known(worker.number),
            )
            for worker in self._workers.values()
        ]
        own: Snapshot = {"sidecar_worker_restarts_total": {(): float(self._restarts)}}
        gone = self._totals.gone_with(own)
        return Handover(
            sockets,
            workers,
            gone,
            self._generation,
            self._refused,
            self._plan.turn,
            self._plan.describe_store(),
        )

    # What the service manager hears.

    def _tell_manager(self) -> None:
        if self._is_announced and not self._is_stopping:
            self._manager.status(self._status())
        period = self._manager.watchdog_seconds
        if period and self._now >= self._watchdog_at and self._is_any_alive(period):
            self._watchdog_at = self._now + period / 2
            self._manager.alive()

    def _is_any_alive(self, period: float) -> bool:
        return any(
            worker.state is State.READY and self._now - worker.heard_at < max(period, 2.0)
            for worker in self._workers.values()
        )

    def _status(self) -> str:
        ready = sum(self._is_served(slot) for slot in self._slots)
        count = self._plan.count
        return (
            f"{_count(ready, 'worker')} of {count} ready"
            if ready < count
            else (f"{_count(count, 'worker')} ready")
        )


_HANDLERS: Final[dict[str, Callable[[Supervisor, Child, Message], None]]] = {
    "ready": Supervisor._on_ready,
    "failed": Supervisor._on_failed,
    "beat": Supervisor._on_beat,
    "ask": Supervisor._on_ask,
    "report": Supervisor._on_report,
    "closed": Supervisor._on_closed,
    "reloaded": Supervisor._on_reloaded,
}


def _how_ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
