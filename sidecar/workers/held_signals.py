"""Signals that arrive before the process can act on them are held, so that they do not end it.

By default SIGHUP, SIGUSR1 and SIGUSR2 end a process. So ``sidecar run`` calls ``hold`` first,
before its slow imports; the code that can act on the signals later gets them from ``take``. They
are caught rather than blocked or ignored, because child processes would inherit that.

At its end, a process calls ``ignore``: it may still have lines to write, and has nothing left to do
for these signals.

A signal that arrives before the interpreter runs our first line (some 40 ms) can't be held.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

HELD: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

_came: set[int] = set()


def hold() -> None:
    """Hold SIGHUP, SIGUSR1 and SIGUSR2 until another handler is set."""
    for number in HELD:
        signal.signal(number, _note)


def hold_from_the_start() -> None:
    """Hold the signals as the first step of a program.

    After an upgrade, unblock the signals that the program before blocked while it was replaced. In
    that case hold SIGTERM and SIGINT too: they must end the inherited workers in good order.
    """
    hold()
    for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()).intersection(_ENDING):
        signal.signal(number, _note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*HELD, *_ENDING, signal.SIGCHLD})


def ignore() -> None:
    """Ignore SIGHUP, SIGUSR1 and SIGUSR2 from now on."""
    for number in HELD:
        signal.signal(number, signal.SIG_IGN)


def take() -> list[int]:
    """Return, once, the numbers of the signals that arrived while they were held."""
    came = sorted(_came)
    _came.clear()
    return came


def _note(number: int, _frame: FrameType | None) -> None:
    _came.add(number)
