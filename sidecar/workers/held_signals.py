"""What is asked of a process by signal before it can be done: held, so that it does not end it.

SIGHUP, SIGUSR1 and SIGUSR2 end a process that has said nothing of them. So the first thing that
``sidecar run`` does, before it imports what takes a second, is to ``hold`` them; whoever can act
upon them later asks by ``take`` what came in. They are caught and neither blocked nor ignored, as
programs that are started from here would inherit that.

In the last moments of a process, which may have lines to write, there is nothing to be done upon
them any more: ``ignore`` them.

What can't be held is a signal to the interpreter before its first line of ours (some 40 ms).
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
    """Hold them as the first thing in a program.

    What a predecessor in this process has blocked while it became this program is let in: signals
    that would end it are held as well, as its workers and its sockets live on.
    """
    hold()
    for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()).intersection(_ENDING):
        signal.signal(number, _note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*HELD, *_ENDING, signal.SIGCHLD})


def ignore() -> None:
    """Do nothing upon these signals from now on."""
    for number in HELD:
        signal.signal(number, signal.SIG_IGN)


def take() -> list[int]:
    """Return, once, the numbers of the signals that came since they are held."""
    came = sorted(_came)
    _came.clear()
    return came


def _note(number: int, _frame: FrameType | None) -> None:
    _came.add(number)
