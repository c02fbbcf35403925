"""Hashes passwords in separate processes, so that the event loop never waits for a hash.

Threads would not do, although hashing releases the interpreter lock: the lock must be taken again
afterwards, and on a busy machine a low-priority thread that is descheduled while it holds the lock
stops the event loop until it runs again. A process shares no lock.

Processes are started by ``subprocess``, which blocks the loop for half a millisecond (vfork). The
loop's own call would copy this process's page table: 12 ms for 200 MB.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, cast

from sidecar.core.errors import Overloaded
from sidecar.core.passwords import verify

Verify = Callable[[str, str], Awaitable[bool]]
"""Tells whether a password matches a hash (PHC string). May raise ``Overloaded``."""

_MAX_SIZE: Final = 4
_PACKAGE: Final = Path(__file__).resolve().parent.parent
_COMMAND: Final = (sys.executable, "-P", "-m", "sidecar.auth.hash_worker")

_log = logging.getLogger("sidecar")


async def verify_in_thread(password: str, phc: str) -> bool:
    """Verify a password in a thread, for a process that does nothing else."""
    return await asyncio.to_thread(verify, password, phc)


def pool_size(workers: int) -> int:
    """Return the pool size for each of so many workers: together they may use half the cores."""
    return max(1, min(_MAX_SIZE, (os.cpu_count() or 1) // 2 // workers))


class HashPool:
    """At most ``size`` hash processes, started on demand; each checks one password at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[_HashWorker] = []
        self._alive: set[_HashWorker] = set()
        self._ending: set[asyncio.Task[int]] = set()

    def __repr__(self) -> str:
        return f"<HashPool alive={len(self._alive)} idle={len(self._idle)}>"

    def verify(self, password: str, phc: str) -> asyncio.Future[bool]:
        """Tell whether a password matches a hash. The caller keeps to ``size`` calls at a time.

        The future raises ``Overloaded`` if no process can be started, or if one ends without
        answering.
        """
        question = json.dumps([password, phc]).encode() + b"\n"
        if self._idle:
            return self._idle.pop().ask(question)
        return asyncio.ensure_future(self._ask_new(question))

    async def close(self) -> None:
        """Kill the processes and reap them."""
        ending = [*self._alive]
        for hasher in ending:
            hasher.end()
        waits = [asyncio.to_thread(hasher.process.wait) for hasher in ending]
        await asyncio.gather(*waits, *self._ending)

    async def _ask_new(self, question: bytes) -> bool:
        """Start a process and send it the question."""
        try:
            return await (await self._start()).ask(question)
        except (OSError, EOFError) as error:
            _log.error("passwords can't be checked: the hash process failed (%s)", error)
            raise Overloaded("no hash process is available to check passwords") from None

    async def _start(self) -> _HashWorker:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = _start_process(theirs)
            hasher = _HashWorker(process, self._on_answered, self._on_lost)
            self._alive.add(hasher)
            await asyncio.get_running_loop().create_unix_connection(lambda: hasher, sock=ours)
        except BaseException:
            ours.close()
            raise
        return hasher

    def _on_answered(self, hasher: _HashWorker) -> None:
        self._idle.append(hasher)

    def _on_lost(self, hasher: _HashWorker) -> None:
        """Remove a process that has ended. If it has answered before, a new one gets its question.

        Anything on the machine may have killed it, even while it was idle.
        """
        self._alive.discard(hasher)
        ending = asyncio.ensure_future(asyncio.to_thread(hasher.process.wait))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if hasher in self._idle:
            self._idle.remove(hasher)
        answer = hasher.answer
        if answer is None or answer.done():
            return
        if hasher.has_answered and not hasher.is_ended:
            again = asyncio.ensure_future(self._ask_new(hasher.question))
            again.add_done_callback(partial(_pass_on, answer))
        else:
            answer.set_exception(EOFError("it ended"))


class _HashWorker(asyncio.Protocol):
    """A process and the socket to it. One question at a time, so an answer needs no number."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_answered: Callable[[_HashWorker], None],
        on_lost: Callable[[_HashWorker], None],
    ) -> None:
        self.process = process
        self.question = b""
        self.answer: asyncio.Future[bool] | None = None
        self.has_answered = False
        self.is_ended = False
        self._on_answered = on_answered
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    def ask(self, question: bytes) -> asyncio.Future[bool]:
        """Send a question. A caller that no longer wants the answer may cancel the future."""
        self.question = question
        answer = self.answer = self._loop.create_future()
        if self._transport is None:
            answer.set_exception(EOFError("it ended"))
        else:
            self._transport.write(question)
        return answer

    def end(self) -> None:
        """Kill the process, answered or not."""
        self.is_ended = True
        self._kill()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer, self.answer, self.question = self.answer, None, b""
        self.has_answered = True
        self._on_answered(self)
        if answer is not None and not answer.done():
            answer.set_result(data == b"1")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._kill()
        self._on_lost(self)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()


def _start_process(channel: socket.socket) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, (str(_PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(  # noqa: S603 (our own module)
        _COMMAND,
        stdin=channel.fileno(),
        stdout=channel.fileno(),
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # signals of a terminal are for the parent alone
    )


def _pass_on(answer: asyncio.Future[bool], found: asyncio.Future[bool]) -> None:
    """Copy the result of one future to the other."""
    if found.cancelled():
        answer.cancel()
    elif (error := found.exception()) is not None:
        if not answer.done():
            answer.set_exception(error)
    elif not answer.done():
        answer.set_result(found.result())
