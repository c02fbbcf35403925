"""Where passwords are hashed: in processes of their own, so that nothing else waits for a hash.

Threads would do it, as hashing releases the interpreter lock, if the lock did not have to be taken
again: on a busy machine a thread of low priority that is put aside while it holds the lock stops
the event loop for as long as it is not let run. A process shares no lock, and can wait.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sidecar.core.errors import Overloaded
from sidecar.core.passwords import verify

Verify = Callable[[str, str], Coroutine[Any, Any, bool]]
"""Tells whether a password is that of a hash (PHC). May raise ``Overloaded``."""

_MOST: Final = 4
_ROOT: Final = Path(__file__).resolve().parent.parent
_COMMAND: Final = (sys.executable, "-P", "-m", "sidecar.hashing_process")

_log = logging.getLogger("sidecar")


async def verify_in_thread(password: str, phc: str) -> bool:
    """Verify a password where nothing else goes on."""
    return await asyncio.to_thread(verify, password, phc)


def fair_share(workers: int) -> int:
    """Return how many processes one of so many workers may have: all may use half the cores."""
    return max(1, min(_MOST, (os.cpu_count() or 1) // 2 // workers))


class HashingProcesses:
    """At most ``most`` processes that hash, started when they are needed; each has one question."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: list[Process] = []
        self._alive: set[Process] = set()

    def __repr__(self) -> str:
        return f"<HashingProcesses alive={len(self._alive)} idle={len(self._idle)}>"

    async def verify(self, password: str, phc: str) -> bool:
        """Tell whether a password is that of a hash; ask no more than ``most`` at a time.

        Raises ``Overloaded`` if no process can be started, or if one ends instead of answering.
        """
        question = json.dumps([password, phc]).encode() + b"\n"
        while self._idle:
            with suppress(OSError, EOFError):  # one that was ended meanwhile, by whomever
                return await self._ask(self._idle.pop(), question)
        try:
            return await self._ask(await self._start(), question)
        except (OSError, EOFError) as error:
            _log.error("passwords can't be checked: no process to hash them (%s)", error)
            raise Overloaded("no process checks passwords") from None

    async def close(self) -> None:
        """End the processes."""
        ending, self._alive = self._alive, set()
        self._idle.clear()
        for process in ending:
            with suppress(ProcessLookupError):
                process.kill()
        for process in ending:
            await process.wait()

    async def _start(self) -> Process:
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # what is typed at a terminal is for the asker
        )
        self._alive.add(process)
        return process

    async def _ask(self, process: Process, question: bytes) -> bool:
        """Put one question; a process that did not answer it is not asked again."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(question)
            answer = await process.stdout.readexactly(1)
        except BaseException:
            self._alive.discard(process)
            with suppress(ProcessLookupError):
                process.kill()
            raise
        self._idle.append(process)
        return answer == b"1"
