"""The worker processes of a supervisor: it forks or inherits them, and kills those that hang."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from math import inf
from typing import Final, NoReturn

from sidecar.core.error_location import error_location
from sidecar.wire.listening import Slots
from sidecar.workers.channel import Message, WorkerChannel
from sidecar.workers.held_signals import take
from sidecar.workers.inheritance import InheritedWorker
from sidecar.workers.signal_watch import SIGNALS, blocked
from sidecar.workers.worker_process import WorkerProcess, WorkerState
from sidecar.workers.worker_spec import WorkerSpec

_log = logging.getLogger("sidecar")

_START_SECONDS: Final = 60.0
_SILENT_SECONDS: Final = 30.0
STALL_SECONDS: Final = _SILENT_SECONDS / 3
"""A supervisor that was itself stopped for this long can't know whether its workers hang."""

_GRACE_SECONDS: Final = 10.0  # beyond what a drain may take


class Fleet:
    """The worker processes, by number. ``on_message`` is called with each message of a worker.

    ``run_worker`` runs in a forked child and returns its exit status. ``leave`` is called there
    first, to close what belongs to the supervisor. ``drain_seconds`` returns how long a worker may
    take to end.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        sockets: Mapping[str, Slots],
        *,
        run_worker: Callable[[WorkerSpec], int],
        leave: Callable[[], None],
        on_message: Callable[[WorkerProcess, Message], None],
        drain_seconds: Callable[[], float],
    ) -> None:
        self._selector = selector
        self._sockets = sockets
        self._run_worker = run_worker
        self._leave = leave
        self._on_message = on_message
        self._drain_seconds = drain_seconds
        self._next_number = 0
        self._covered: tuple[int, ...] = ()
        self.workers: dict[int, WorkerProcess] = {}

    def __repr__(self) -> str:
        return f"<Fleet workers={len(self.workers)}>"

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(list(self.workers.values()))

    # Starting.

    def fork(self, slot: int, count: int, generation: int, refused: int, now: float) -> None:
        """Start a worker for ``slot`` of ``count``."""
        ours, theirs = socket.socketpair()
        spec = WorkerSpec(slot, count, self._sockets, theirs, generation, refused)
        # Until the child has handlers of its own, it would report its signals to this process.
        with blocked():
            pid = os.fork()
            if not pid:
                self._be_worker(spec, ours)
        theirs.close()
        self.add(WorkerProcess(pid, self._next_number, slot, WorkerChannel(ours), now, now))

    def adopt(self, inherited: InheritedWorker, now: float) -> WorkerProcess:
        """Take over a worker of the program that this one has replaced."""
        channel = WorkerChannel(
            socket.socket(fileno=inherited.descriptor), inherited.rest, inherited.unsent
        )
        worker = WorkerProcess(inherited.pid, inherited.number, inherited.slot, channel, now, now)
        worker.is_old = True
        worker.state = WorkerState.READY
        if inherited.is_retiring:
            self._note_retired(worker, now)
        self.add(worker)
        return worker

    def add(self, worker: WorkerProcess) -> None:
        """Add a worker, and read its messages from now on."""
        self._next_number = max(self._next_number, worker.number) + 1
        self.workers[worker.number] = worker
        self._selector.register(
            worker.channel.sock, selectors.EVENT_READ, lambda: self.receive(worker)
        )

    def _be_worker(self, spec: WorkerSpec, ours: socket.socket) -> NoReturn:
        """Close what belongs to the supervisor, run the worker, and exit. Runs in the child."""
        status = 1
        try:
            self._leave()
            ours.close()
            for worker in self:
                worker.channel.close()
            for number in (signal.SIGINT, signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)  # a terminal sends SIGINT to the whole group
            take()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            status = self._run_worker(spec)
        except BaseException as error:
            _log.error("%s failed: %s", spec.name, error_location(error))
        finally:
            logging.shutdown()
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(status)

    # Ending.

    def reap(self) -> Iterator[tuple[WorkerProcess, int]]:
        """Yield each worker that has ended, with its exit status (negative: a signal's number)."""
        for worker in self:
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = worker.pid, 0
            if pid:
                self._forget(worker)
                yield worker, os.waitstatus_to_exitcode(status)

    def end(self, worker: WorkerProcess, number: signal.Signals, now: float) -> None:
        """Send a worker the signal to end; ``kill_stuck`` kills it if that takes too long."""
        worker.kill_at = self._kill_at(now)
        with suppress(ProcessLookupError):
            os.kill(worker.pid, number)

    def retire(self, worker: WorkerProcess, now: float) -> None:
        """Have a worker finish its requests and end, as another has taken over its slot."""
        self._note_retired(worker, now)
        self.send(worker, "retire")

    def kill_stuck(self, now: float) -> None:
        """Kill the workers that have been silent for too long, or take too long to end."""
        for worker in self:
            limit = _START_SECONDS if worker.state is WorkerState.STARTING else _SILENT_SECONDS
            is_silent = now - worker.heard_at > limit
            if is_silent or now > worker.kill_at:
                _log.error(
                    "%s is killed: it does not %s", worker.name, "answer" if is_silent else "end"
                )
                os.kill(worker.pid, signal.SIGKILL)
                worker.heard_at, worker.kill_at = now, inf

    def excuse_silence(self, now: float) -> None:
        """Restart the time of silence of all workers: the supervisor itself was stopped."""
        for worker in self:
            worker.heard_at = now

    def _note_retired(self, worker: WorkerProcess, now: float) -> None:
        worker.state = WorkerState.RETIRING
        worker.kill_at = self._kill_at(now)

    def _kill_at(self, now: float) -> float:
        return now + self._drain_seconds() + _GRACE_SECONDS

    def _forget(self, worker: WorkerProcess) -> None:
        self.receive(worker)  # what it sent before it ended
        worker.channel.is_open = False
        self._watch(worker)
        worker.channel.close()
        del self.workers[worker.number]

    # Slots.

    def ready(self) -> list[WorkerProcess]:
        """Return the workers that accept connections and have not been replaced."""
        return [worker for worker in self if worker.state is WorkerState.READY]

    def is_served(self, slot: int) -> bool:
        """Return whether a slot has a ready worker of this program."""
        return any(worker.slot == slot and not worker.is_old for worker in self.ready())

    def has_own(self, slot: int) -> bool:
        """Return whether a slot has a worker of this program, ready or not."""
        return any(worker.slot == slot and not worker.is_old for worker in self)

    def is_heard_within(self, seconds: float, now: float) -> bool:
        """Return whether any ready worker has sent a message within the last ``seconds``."""
        return any(now - worker.heard_at < seconds for worker in self.ready())

    def cover(self) -> None:
        """Have all ready workers accept the connections of the slots that have none."""
        ready = self.ready()
        served = {worker.slot for worker in ready}
        most = max((len(slots) for slots in self._sockets.values()), default=0)
        covered = tuple(slot for slot in range(most) if slot not in served)
        if covered != self._covered:
            self._covered = covered
            for worker in ready:
                self.send(worker, "slots", covered)

    # Messages.

    def greet(self, worker: WorkerProcess) -> None:
        """Send a worker that has become ready the slots that it has to cover."""
        self.send(worker, "slots", self._covered)

    def send(self, worker: WorkerProcess, *message: object) -> None:
        """Send a message to one worker."""
        worker.channel.send(*message)
        self._watch(worker)

    def broadcast(self, *message: object) -> None:
        """Send a message to every worker."""
        for worker in self:
            self.send(worker, *message)

    def receive(self, worker: WorkerProcess) -> None:
        """Send a worker what is still unsent, and process the messages that it has sent."""
        worker.channel.flush()
        for message in worker.channel.receive():
            self._on_message(worker, message)
        self._watch(worker)

    def _watch(self, worker: WorkerProcess) -> None:
        """Select on what a worker's channel needs next; SIGCHLD reports the end of the worker.

        Both ends can come in one tick. Then the worker is already forgotten, and its channel is
        no longer in the selector.
        """
        if worker.number not in self.workers:
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
