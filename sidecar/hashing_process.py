"""A process that hashes passwords: a question a line on standard input, a byte an answer.

A question is a JSON array of password and hash, the answer ``1`` or ``0``. It ends with its input,
so with whoever asks, and lets everything else on the machine go first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, Final

from sidecar.core.passwords import verify

_NICENESS: Final = 10


def main() -> None:
    """Answer until there are no more questions."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the asker drains, and needs answers meanwhile
    with suppress(OSError):
        os.nice(_NICENESS)
    with suppress(OSError, MemoryError):  # the asker sees that it got no answer, and says so
        serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each question as it comes."""
    for line in questions:
        password, phc = json.loads(line)
        answers.write(b"1" if verify(password, phc) else b"0")
        answers.flush()


if __name__ == "__main__":
    main()
