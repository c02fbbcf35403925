"""What a program leaves to the one that replaces it in the same process (execve(2)).

The process keeps its id, its children and its open descriptors. Whatever else the new program needs
to know is written to a file in memory, whose descriptor ``SIDECAR_INHERITED`` names.

Before that, the new program is run on the side with ``SIDECAR_TRIAL_RUN`` in its environment: a
JSON list of the addresses that the running program listens on (``trial_run``).
"""

from __future__ import annotations

import marshal
import os
import socket
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NoReturn

from sidecar.core.errors import UsageError
from sidecar.observability.metric_families import Snapshot
from sidecar.wire.listening import Slots
from sidecar.workers.worker_process import WorkerProcess, WorkerState

INHERITED: Final = "SIDECAR_INHERITED"
TRIAL_RUN: Final = "SIDECAR_TRIAL_RUN"
_FORMAT: Final = 4


@dataclass(frozen=True, slots=True)
class InheritedWorker:
    """A worker that the next supervisor takes over; ``rest`` and ``unsent`` are of its channel."""

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
        """Describe a worker and what it has counted."""
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
    """Everything that outlives the program. Sockets and pipes are descriptors."""

    sockets: dict[str, tuple[str, list[list[int]]]]
    """By use, the address and the descriptors of its sockets, by slot."""
    workers: list[InheritedWorker]
    gone: Snapshot
    """The counts of the workers that have ended."""
    generation: int
    refused: int
    write_lock: int
    """The lock of the writers of the access log (``observability.line_writer.WriteLock``)."""
    store: Mapping[str, Any] | None = field(repr=False)
    """The embedded store (``store.embedded.EmbeddedRedis.describe``)."""

    def descriptors(self) -> list[int]:
        """Return every descriptor that must stay open."""
        listening = [fd for _, slots in self.sockets.values() for slot in slots for fd in slot]
        store = [] if self.store is None else [self.store["pipe"], self.store["lock"]]
        workers = [worker.descriptor for worker in self.workers]
        return [*dict.fromkeys(listening), *workers, *store, self.write_lock]

    def write(self) -> int:
        """Write everything to a file in memory; return its descriptor, at the start of the file."""
        file = os.memfd_create("sidecar-inheritance")
        data = marshal.dumps(asdict(self), _FORMAT)
        while data:
            data = data[os.write(file, data) :]
        os.lseek(file, 0, os.SEEK_SET)
        return file


def inherit(environ: MutableMapping[str, str]) -> Inheritance | None:
    """Return, once, what the program before this one left; ``None`` after an ordinary start.

    The descriptors are made close-on-exec, so that other programs do not inherit them.
    """
    named = environ.pop(INHERITED, None)
    if named is None:
        return None
    with open(int(named), "rb") as file:
        # This very process has written it, before it ran this program.
        written = marshal.loads(file.read())  # noqa: S302
    workers = [InheritedWorker(**worker) for worker in written.pop("workers")]
    inheritance = Inheritance(workers=workers, **written)
    for descriptor in inheritance.descriptors():
        os.set_inheritable(descriptor, False)
    return inheritance


def adopt_sockets(descriptors: Iterable[Iterable[int]]) -> Slots:
    """Return the sockets of these descriptors; slots that share a socket share the object."""
    known: dict[int, socket.socket] = {}
    return [
        [known.setdefault(fd, known.get(fd) or socket.socket(fileno=fd)) for fd in slot]
        for slot in descriptors
    ]


def own_command() -> list[str]:
    """Return the command that started this program; it now starts the one that is installed."""
    return [sys.executable, *sys.orig_argv[1:]]


def replace_program(inheritance: Inheritance) -> NoReturn:
    """Replace this program by the one that is installed now; does not return.

    Raises ``UsageError``, with everything as it was, if the program can't be executed.
    """
    kept = [*inheritance.descriptors(), inheritance.write()]
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    environ = {**os.environ, INHERITED: str(kept[-1])}
    try:
        os.execve(sys.executable, own_command(), environ)  # noqa: S606 (no shell, our own command)
    except OSError as error:
        for descriptor in kept:
            os.set_inheritable(descriptor, False)
        os.close(kept[-1])
        raise UsageError(f"can't be started: {sys.executable}: {error.strerror}") from None
