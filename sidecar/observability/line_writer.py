"""Writes lines to a file or pipe in a thread, so that a slow disk or pipe holds up no request.

When the writer falls behind by more than ``BACKLOG_BYTES``, lines are dropped and counted. Lines of
several processes never mix: each process writes whole lines while it holds the ``WriteLock``, as a
pipe or a full disk may take only a part of a write.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from sidecar.core.errors import UsageError

_log = logging.getLogger("sidecar")

BACKLOG_BYTES: Final = 8 * 1024 * 1024
_CLOSE_SECONDS: Final = 2.0
_REOPEN: Final = "reopen"


class WriteLock:
    """The lock of the processes that write to one file; they share it across a fork.

    It also remembers whether the last writer left a line unfinished, because the disk was full or
    the process was killed. ``descriptor`` refers to a file in memory, so that a program that
    replaces this one can go on with it.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("sidecar-write-lock")
            os.ftruncate(descriptor, 1)
        self.descriptor = descriptor
        self._torn = mmap.mmap(descriptor, 1)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, after waiting for it. The kernel releases it when the process ends."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    @property
    def is_torn(self) -> bool:
        """Whether the last line may be without its end."""
        return self._torn[0] != 0

    @is_torn.setter
    def is_torn(self, is_torn: bool) -> None:
        self._torn[0] = is_torn

    def close(self) -> None:
        """Close the file in memory."""
        self._torn.close()
        os.close(self.descriptor)


class LineWriter:
    """A thread that writes bytes to a file, in order; ``write`` never blocks.

    ``lock`` is shared with other processes that write to the same file, if there are any.
    """

    def __init__(self, path: str, lock: WriteLock | None = None) -> None:
        self.path = path
        self._refused_lines = 0  # counted by the caller of ``write``
        self._lost_lines = 0  # counted by the thread
        self._descriptor = _open(path)
        self._lock = lock or WriteLock()
        self._owns_lock = lock is None
        self._taken_bytes = 0  # counted by the caller of ``write``
        self._done_bytes = 0  # counted by the thread
        self._queue: queue.SimpleQueue[bytes | Literal["reopen"] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines have been dropped since the start."""
        return self._refused_lines + self._lost_lines

    def write(self, data: bytes, lines: int) -> None:
        """Queue ``lines`` whole lines, or drop and count them if the backlog is full."""
        if self._taken_bytes - self._done_bytes > BACKLOG_BYTES:
            self._refused_lines += lines
            return
        self._taken_bytes += len(data)
        self._queue.put(data)

    def reopen(self) -> None:
        """Open the path again once the backlog is written; if that fails, keep the old file."""
        self._queue.put(_REOPEN)

    def close(self) -> None:
        """Write the backlog; wait at most two seconds for that."""
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            os.close(self._descriptor)
            if self._owns_lock:
                self._lock.close()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            if isinstance(data, bytes):
                self._write_all(data)
                self._done_bytes += len(data)
            else:
                self._open_again()

    def _write_all(self, data: bytes) -> None:
        """Write ``data``, or count the lines that a full disk or a closed pipe does not take.

        If the last writer has left a line unfinished, end it first, so that it spoils no other.
        """
        lock, view = self._lock, memoryview(data)
        with lock.held():
            was_torn = lock.is_torn
            lock.is_torn = True  # until all is written, also if this process is killed meanwhile
            try:
                if was_torn:
                    os.write(self._descriptor, b"\n")
                    was_torn = False
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                self._lost_lines += bytes(view).count(b"\n")
                is_cut = len(view) < len(data) and data[-len(view) - 1 : -len(view)] != b"\n"
                lock.is_torn = was_torn or is_cut
            else:
                lock.is_torn = False

    def _open_again(self) -> None:
        if self.path == "-":
            return
        try:
            descriptor = _open(self.path)
        except UsageError as error:
            _log.error("%s; the old file stays in use", error)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor


def _open(path: str) -> int:
    """Return a descriptor for ``path``. Raises ``UsageError``, also for a pipe without a reader."""
    if path == "-":
        return os.dup(1)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o640)
    except OSError as error:
        reason = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
        raise UsageError(f"the access log {path} can't be opened: {reason}") from None
    os.set_blocking(descriptor, True)
    return descriptor
