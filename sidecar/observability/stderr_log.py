"""The program's own log on standard error: a line that can't be written at once is dropped.

Otherwise a reader of the log that stops reading would stop the process too.
"""

from __future__ import annotations

import logging
import os
import select
from contextlib import suppress
from typing import Any, Final

from sidecar.core.error_location import error_location

_DESCRIPTOR: Final = 2
_MOST_BYTES: Final = 4096  # PIPE_BUF: a writable pipe takes this much in one piece


def write_at_once(lines: bytes) -> bool:
    """Write whole lines of at most 4096 bytes; return whether there was room for them."""
    poll = select.poll()
    with suppress(OSError):
        poll.register(_DESCRIPTOR, select.POLLOUT)
        if poll.poll(0):
            return os.write(_DESCRIPTOR, lines[:_MOST_BYTES]) > 0
    return False


class StderrFormatter(logging.Formatter):
    """Replaces the traceback of an exception by one line: its type, and where it was raised.

    Its message could quote a credential. This covers what libraries log, too.
    """

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the name that logging calls)
        """Return the line; ``logging`` calls this."""
        return "" if ei[1] is None else error_location(ei[1])


class StderrLines(logging.Handler):
    """Writes records to standard error, and the number of lost ones once it can write again."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it as lost."""
        text = self.format(record)
        if len(text) >= _MOST_BYTES:
            text = f"{text[: _MOST_BYTES // 4]} …"
        line = f"{text}\n".encode(errors="backslashreplace")
        if self._lost and write_at_once(b"WARNING %d lines of this log were lost\n" % self._lost):
            self._lost = 0
        if not write_at_once(line):
            self._lost += 1
