"""Which of several addresses accepts a connection first (RFC 8305 section 5).

Each address gets a head start; once that is over, or the attempt fails, the next one is tried in
parallel. The first to accept wins, and the other attempts are closed.

Sockets are connected here rather than by the event loop, because uvloop's ``sock_connect`` resolves
even an IP address in libuv's threads, which slow names may occupy, and loses the IPv6 scope.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from sidecar.outgoing.resolver import ResolvedAddress
from sidecar.timeouts import DueCall

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""The errors of a process, or a system, that has run out of descriptors or memory for them."""

_IN_PROGRESS: Final = (BlockingIOError, InterruptedError)


class Race:
    """One race; ``on_late`` is called for each address that failed or used up its head start.

    A busy event loop does not use up a head start: see ``sidecar.timeouts``.
    """

    __slots__ = (
        "_attempts",
        "_errors",
        "_head_start",
        "_head_start_seconds",
        "_loop",
        "_on_late",
        "_port",
        "_untried",
        "_won",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: Iterable[ResolvedAddress],
        port: int,
        head_start_seconds: float,
        on_late: Callable[[ResolvedAddress], None],
    ) -> None:
        self._loop = loop
        self._untried = deque(addresses)
        self._port = port
        self._head_start_seconds = head_start_seconds
        self._on_late = on_late
        self._attempts: dict[socket.socket, ResolvedAddress] = {}
        self._errors: list[tuple[ResolvedAddress, OSError]] = []
        self._head_start: DueCall | None = None
        self._won: asyncio.Future[socket.socket] = loop.create_future()

    async def run(self) -> tuple[socket.socket, ResolvedAddress]:
        """Return the first socket that connects, and its address.

        Raises ``OSError`` once every address has failed. Leaves no socket open if it is cancelled.
        """
        try:
            self._try_next()
            winner = await self._won
            return winner, self._attempts.pop(winner)
        finally:
            self._stop()

    def _try_next(self) -> None:
        """Start the next attempt, and skip addresses that fail at once."""
        self._end_head_start()
        while self._untried:
            address = self._untried.popleft()
            try:
                self._start(address)
            except OSError as error:
                if error.errno in EXHAUSTED:  # not the address's fault, and no other would do
                    self._untried.clear()
                    self._errors = [(address, error)]
                    break
                self._note_failure(address, error)
                continue
            if self._untried:
                self._give_head_start(address)
            return
        if not self._attempts and not self._won.done():
            self._won.set_exception(_join(self._errors))

    def _start(self, address: ResolvedAddress) -> None:
        attempt = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            attempt.setblocking(False)
            attempt.connect(address.sockaddr(self._port))
        except _IN_PROGRESS:
            pass
        except BaseException:
            attempt.close()
            raise
        self._attempts[attempt] = address
        self._loop.add_writer(attempt, self._conclude, attempt)

    def _conclude(self, attempt: socket.socket) -> None:
        """Handle the end of an attempt: it wins, or it failed and the next one is tried."""
        self._loop.remove_writer(attempt)
        code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0:
            if not self._won.done():
                self._won.set_result(attempt)
            return
        address = self._attempts.pop(attempt)
        attempt.close()
        self._note_failure(address, OSError(code, os.strerror(code)))
        self._try_next()

    def _give_head_start(self, address: ResolvedAddress) -> None:
        self._head_start = DueCall(
            self._loop, self._head_start_seconds, lambda: self._on_head_start_over(address)
        )

    def _on_head_start_over(self, address: ResolvedAddress) -> None:
        self._on_late(address)
        self._try_next()

    def _note_failure(self, address: ResolvedAddress, error: OSError) -> None:
        self._errors.append((address, error))
        self._on_late(address)

    def _end_head_start(self) -> None:
        if self._head_start is not None:
            self._head_start.cancel()
            self._head_start = None

    def _stop(self) -> None:
        self._end_head_start()
        for attempt in self._attempts:
            self._loop.remove_writer(attempt)
            attempt.close()
        self._attempts.clear()
        if self._won.done() and not self._won.cancelled():
            self._won.exception()  # marks it as retrieved, in case ``run`` was cancelled


def _join(errors: list[tuple[ResolvedAddress, OSError]]) -> OSError:
    """Return one error that tells how each address failed."""
    code = errors[0][1].errno
    if len({error.errno for _, error in errors}) == 1:
        return OSError(code, errors[0][1].strerror)
    return OSError(code, "; ".join(f"{to.host}: {error.strerror}" for to, error in errors))
