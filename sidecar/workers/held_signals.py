"""Signals that arrive before the process can act on them are held instead of ending it.

By default SIGHUP, SIGUSR1 and SIGUSR2 end a process. So ``sidecar run`` first of all, before its
slow imports, calls ``hold``; whoever can act on the signals later gets them from ``take``. They are
caught rather than blocked or ignored, as child processes would inherit that.

In the last moments of a process, when it may still have lines to write, nothing is left to be done
on them: ``ignore`` them.

A signal that comes before the interpreter runs our first line (some 40 ms) can't be held.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

HELD: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

_came: set[int] = set()


def hold() -> None:
    """Hold these signals from now on, until another handler is set."""
    for number in HELD:
        signal.signal(number, _note)


def hold_from_the_start() -> None:
    """Hold them as the first step of a program.

    Signals that a predecessor in this process blocked while it was being replaced are unblocked;
    those that would end the process are held too, as its workers and sockets live on.
    """
    hold()
    for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()).intersection(_ENDING):
        signal.signal(number, _note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*HELD, *_ENDING, signal.SIGCHLD})


def ignore() -> None:
    """Ignore these signals from now on."""
    for number in HELD:
        signal.signal(number, signal.SIG_IGN)


def take() -> list[int]:
    """Return, once, the numbers of the signals that were held."""
    came = sorted(_came)
    _came.clear()
    return came


def _note(number: int, _frame: FrameType | None) -> None:
    _came.add(number)
