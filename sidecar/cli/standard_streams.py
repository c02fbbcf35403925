"""Standard input, output and error: closed ones are opened again, narrow ones print every letter.

With descriptor 1 closed (``>&-``), the next socket or file that is opened would get that number,
and receive what is meant to be printed. So each closed one is opened on ``/dev/null`` first.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")
_closed: Final[set[str]] = set()

WRITING_FAILED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What a full disk, a vanished terminal and the like say to a program that prints."""


def open_closed() -> None:
    """Open each closed standard descriptor on ``/dev/null``, before anything else opens a file."""
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(name)
            found = os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
            if found != number:
                os.dup2(found, number)
                os.close(found)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def was_closed(name: str) -> bool:
    """Tell whether ``stdin``, ``stdout`` or ``stderr`` was closed when the program began."""
    return name in _closed


def print_every_letter() -> None:
    """Have letters that the terminal's encoding lacks printed as escapes, such as ``\\xe9``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_on_output() -> None:
    """Lead standard output to nowhere, so that the interpreter's last flush is silent."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # it has no descriptor
        return
