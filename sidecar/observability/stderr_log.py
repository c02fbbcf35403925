"""The program's own log on standard error: a line that can't be written at once is dropped.

A process that waits for whoever reads its log stands still with it.
"""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from typing import Any, Final

from sidecar.core.error_location import error_location

_DESCRIPTOR: Final = 2
_MOST_BYTES: Final = 4096  # PIPE_BUF: what a pipe that is ready to be written to takes in one piece


def write_at_once(lines: bytes) -> bool:
    """Write lines, whole ones and at most 4096 bytes; tell whether there was room for them."""
    poll = select.poll()
    with suppress(OSError):
        poll.register(_DESCRIPTOR, select.POLLOUT)
        if poll.poll(0):
            return os.write(_DESCRIPTOR, lines[:_MOST_BYTES]) > 0
    return False


class StderrFormatter(logging.Formatter):
    """Tells where an exception was raised, in a line, and not its words: what they quote may be a
    credential. So it holds for whatever a library logs.
    """

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging calls it so
        """Return the line; called by ``logging``."""
        return "" if ei[1] is None else error_location(ei[1])


class StderrLines(logging.Handler):
    """Writes records to standard error; says of those that were lost how many, when it can."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it."""
        text = self.format(record)
        if len(text) >= _MOST_BYTES:
            text = f"{text[: _MOST_BYTES // 4]} …"
        line = f"{text}\n".encode(errors="backslashreplace")
        if self._lost and write_at_once(b"WARNING %d lines of this log were lost\n" % self._lost):
            self._lost = 0
        if not write_at_once(line):
            self._lost += 1
