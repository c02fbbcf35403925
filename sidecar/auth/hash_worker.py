"""The hash process: reads one question per line from standard input, and answers with one byte.

A question is a JSON array of password and hash; the answer is ``1`` or ``0``. The process ends when
its input ends, so with its parent, and yields to everything else on the machine. After a wrong
password it sleeps, so a flood of guesses takes a fifth of a core instead of all of it; right
passwords are checked back to back.

The lowest priority alone is not enough: a process that wakes up does not always preempt the running
one, but may have to wait for the kernel's next tick, up to 4 ms. So while a hash is computed, a
timer makes this process yield the core ten times in a millisecond.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sidecar.workers.held_signals import HELD

_NICENESS: Final = 19
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_REST: Final = 4  # times the duration of the hash
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("IIQiIQQQ")
_TURN_SECONDS: Final = 1e-4


def main() -> None:
    """Answer questions until the input ends."""
    for number in (*HELD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent still needs answers while it drains
    _let_all_else_go_first()
    with _giving_way():
        from sidecar.core.passwords import verify  # here, as importing takes time too
    with suppress(OSError, MemoryError):  # the parent notices the missing answer and logs it
        serve(sys.stdin.buffer, sys.stdout.buffer, verify)


def serve(questions: BinaryIO, answers: BinaryIO, verify: Callable[[str, str], bool]) -> None:
    """Answer each question as it comes."""
    for line in questions:
        began = time.thread_time()
        password, phc = json.loads(line)
        with _giving_way():
            is_right = verify(password, phc)
        answers.write(b"1" if is_right else b"0")
        answers.flush()
        if not is_right:
            time.sleep(_REST * (time.thread_time() - began))


def _let_all_else_go_first() -> None:
    """Lower the priority in the session, and that of the session (sched(7), "autogroup")."""
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError):
        _AUTOGROUP.write_text(str(_NICENESS))
    _take_short_turns()
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGALRM, ctypes.cast(libc.sched_yield, ctypes.c_void_p))  # no Python runs


def _take_short_turns() -> None:
    """Shorten the time slice to a tenth of a millisecond by sched_setattr(2), which Python lacks.

    ``sched_runtime`` is the length of a slice; Linux before 6.12 ignores it.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None:
        fields = (_ATTRIBUTES.size, os.SCHED_OTHER, 0, _NICENESS, 0, int(_TURN_SECONDS * 1e9), 0, 0)
        ctypes.CDLL(None).syscall(number, 0, _ATTRIBUTES.pack(*fields), 0)


@contextmanager
def _giving_way() -> Iterator[None]:
    """Yield the core after each time slice: the handler of SIGALRM is sched_yield(2)."""
    signal.setitimer(signal.ITIMER_REAL, _TURN_SECONDS, _TURN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
