"""A process that hashes passwords: a question a line on standard input, a byte an answer.

A question is a JSON array of password and hash, the answer ``1`` or ``0``. It ends with its input,
so with whoever asks, and lets everything else on the machine go first. After a wrong password it
rests, so that a flood of them takes a fifth of a processor and not all of it; right ones are
checked one after another.

The least priority alone does not do: who wakes up does not always put aside who runs, but may have
to wait for the kernel's next tick, up to 4 ms. So while there is work, a timer makes this process
offer the processor to who waits, ten times in a millisecond.
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
_REST: Final = 4  # times what the hash took
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("IIQiIQQQ")
_TURN_SECONDS: Final = 1e-4


def main() -> None:
    """Answer until there are no more questions."""
    for number in (*HELD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the asker drains, and needs answers meanwhile
    _let_all_else_go_first()
    with _giving_way():
        from sidecar.core.passwords import verify  # here, as it is work, too
    with suppress(OSError, MemoryError):  # the asker sees that it got no answer, and says so
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
    """Take the least share: in its session, and (sched(7), "The autogroup feature") its session."""
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError):
        _AUTOGROUP.write_text(str(_NICENESS))
    _take_short_turns()
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGALRM, ctypes.cast(libc.sched_yield, ctypes.c_void_p))  # no Python runs


def _take_short_turns() -> None:
    """Give way within a tenth of a millisecond: sched_setattr(2), of which Python has no call.

    Its ``sched_runtime`` is how long a turn lasts; Linux before 6.12 takes no notice of it.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None:
        fields = (_ATTRIBUTES.size, os.SCHED_OTHER, 0, _NICENESS, 0, int(_TURN_SECONDS * 1e9), 0, 0)
        ctypes.CDLL(None).syscall(number, 0, _ATTRIBUTES.pack(*fields), 0)


@contextmanager
def _giving_way() -> Iterator[None]:
    """Yield the processor at the end of each turn: sched_yield(2) is what SIGALRM calls."""
    signal.setitimer(signal.ITIMER_REAL, _TURN_SECONDS, _TURN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
