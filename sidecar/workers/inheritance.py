"""What a supervisor leaves to the program that takes its place in the same process (execve(2)).

The process stays: its number, its children, its open descriptors. What the new program must know of
them is written into a file in memory, whose descriptor ``SIDECAR_INHERITED`` names. Before that, the
new program is started on the side with ``SIDECAR_TRIAL_RUN`` set, to see whether it would start: it
reads and builds everything, listens on what nobody listens on yet, and ends with status 0.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sidecar.core.errors import UsageError
from sidecar.observability.metric_families import Snapshot
from sidecar.wire.listening import Slots
from sidecar.workers.worker_process import WorkerProcess, WorkerState

INHERITED: Final = "SIDECAR_INHERITED"
TRIAL_RUN: Final = "SIDECAR_TRIAL_RUN"
_FORMAT: Final = 4


@dataclass(frozen=True, slots=True)
class InheritedWorker:
    """A worker that goes on under the next supervisor; ``rest`` and ``unsent``: of its channel."""

    pid: int
    number: int
    slot: int
    descriptor: int
    is_retiring: bool
    rest: bytes
    unsent: bytes
    snapshot: Snapshot

    @classmethod
    def of(cls, worker: WorkerProcess, snapshot: Snapshot) -> InheritedWorker:
        """Describe a worker that has counted ``snapshot``."""
        channel = worker.channel
        return cls(
            worker.pid,
            worker.number,
            worker.slot,
            channel.sock.fileno(),
            worker.state is WorkerState.RETIRING,
            channel.frames.rest,
            channel.unsent,
            snapshot,
        )


@dataclass(frozen=True, slots=True)
class Inheritance:
    """Everything that outlives the program; descriptors are numbers."""

    sockets: dict[str, tuple[str, list[list[int]]]]
    """By use: the address and its descriptors by slot."""
    workers: list[InheritedWorker]
    gone: Snapshot
    """What workers that have ended had counted."""
    generation: int
    refused: int
    write_lock: int
    """The lock that writers of the access log take turns with (``line_writer.WriteLock``)."""
    store: Mapping[str, Any] | None = field(repr=False)
    """The embedded store, as it describes itself."""

    def descriptors(self) -> list[int]:
        """Return every descriptor that must stay open."""
        listening = [fd for _, slots in self.sockets.values() for slot in slots for fd in slot]
        store = [] if self.store is None else [self.store["pipe"], self.store["lock"]]
        workers = [worker.descriptor for worker in self.workers]
        return [*dict.fromkeys(listening), *workers, *store, self.write_lock]

    def write(self) -> int:
        """Write it down; return the descriptor to read it from."""
        file = os.memfd_create("sidecar-inheritance")
        data = marshal.dumps(asdict(self), _FORMAT)
        while data:
            data = data[os.write(file, data) :]
        os.lseek(file, 0, os.SEEK_SET)
        return file


def inherit(environ: MutableMapping[str, str]) -> Inheritance | None:
    """Return what a predecessor left, once; ``None`` at an ordinary start.

    The descriptors are not passed on to programs that are started from here.
    """
    named = environ.pop(INHERITED, None)
    if named is None:
        return None
    with open(int(named), "rb") as file:
        # Written by this very process before it became this program.
        told = marshal.loads(file.read())  # noqa: S302
    workers = [InheritedWorker(**worker) for worker in told.pop("workers")]
    inheritance = Inheritance(workers=workers, **told)
    for descriptor in inheritance.descriptors():
        os.set_inheritable(descriptor, False)
    return inheritance


def adopt_sockets(descriptors: Iterable[Iterable[int]]) -> Slots:
    """Return the sockets of these descriptors; one that stands in several slots is one object."""
    known: dict[int, socket.socket] = {}
    return [
        [known.setdefault(fd, known.get(fd) or socket.socket(fileno=fd)) for fd in slot]
        for slot in descriptors
    ]


def own_command() -> list[str]:
    """Return how this program was started, to start the one that is installed now."""
    return [sys.executable, *sys.orig_argv[1:]]


def replace_program(inheritance: Inheritance) -> None:
    """Replace this program by the one that is installed now. Returns only if that fails.

    Raises ``UsageError`` then, with everything as it was.
    """
    kept = [*inheritance.descriptors(), inheritance.write()]
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    environ = {**os.environ, INHERITED: str(kept[-1])}
    try:
        os.execve(sys.executable, own_command(), environ)  # noqa: S606 (no shell; our own command)
    except OSError as error:
        for descriptor in kept:
            os.set_inheritable(descriptor, False)
        os.close(kept[-1])
        raise UsageError(f"can't start {sys.executable}: {error.strerror}") from None
