"""A process that hashes passwords: a question a line on standard input, a byte an answer.

A question is a JSON array of password and hash, the answer ``1`` or ``0``. It ends with its input,
so with whoever asks, and lets everything else on the machine go first. After a wrong password it
rests, so that a flood of them takes a fifth of a processor and not all of it; right ones are
checked one after another.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from sidecar.core.passwords import verify

_NICENESS: Final = 19
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_REST: Final = 4  # times what the hash took
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("IIQiIQQQ")
_TURN_NANOSECONDS: Final = 100_000


def main() -> None:
    """Answer until there are no more questions."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the asker drains, and needs answers meanwhile
    _let_all_else_go_first()
    with suppress(OSError, MemoryError):  # the asker sees that it got no answer, and says so
        serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each question as it comes."""
    for line in questions:
        began = time.thread_time()
        password, phc = json.loads(line)
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


def _take_short_turns() -> None:
    """Give way within a tenth of a millisecond: sched_setattr(2), of which Python has no call.

    Its ``sched_runtime`` is how long a turn lasts; Linux before 6.12 takes no notice of it.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None:
        fields = (_ATTRIBUTES.size, os.SCHED_OTHER, 0, _NICENESS, 0, _TURN_NANOSECONDS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, _ATTRIBUTES.pack(*fields), 0)


if __name__ == "__main__":
    main()
