"""Whose turn it is when more has arrived than one turn of the event loop may serve.

Work runs at once, inside the callback that delivers its data, until the loop's current turn has
lasted ``TURN_SECONDS``, or a little longer (``is_turn_over``). Connections whose data arrives after
that queue here, and are served in slices. The loop polls its sockets between two slices, so no
amount of work keeps other clients waiting to be read.

The order is fair rather than first come, first served. There are two round robins: one of accounts
(connections whose last request was let pass) and one of networks (everyone else). They alternate,
and each serves one connection of each of its members in turn. So however many connections an
account or a network has, and however much they send, every other one waits for at most one
connection of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final, Protocol

MOST_READERS: Final = 8
"""How many connections may resume reading in one slice: each may deliver a piece of a body."""

UNWATCHED_WORK: Final = 128
"""Work that is done before the time is measured: a request counts 1, a piece of a body 16."""

PIECE_WORK: Final = 16
"""The work that a piece of a body, of up to 256 KiB, counts as."""

TURN_SECONDS: Final = 0.002
"""How long one turn of the loop may serve what it has just read, and the length of a slice."""


class QueuedConnection(Protocol):
    """A connection that waits for its turn."""

    @property
    def account(self) -> str:
        """The account of the caller; empty if it is not known."""

    @property
    def network(self) -> str:
        """The network that the caller connects from."""

    def take_turn(self) -> bool:
        """Do a bounded amount of work, or none if there is none left.

        Return ``True`` if the connection has resumed reading, so that more work follows when the
        loop polls its sockets.
        """


class RoundRobin:
    """A queue per owner; each ``pop`` serves the next owner."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[str, deque[QueuedConnection]] = {}

    def push(self, owner: str, one: QueuedConnection) -> None:
        """Add ``one`` at the end of its owner's queue."""
        queue = self._queues.get(owner)
        if queue is None:
            self._queues[owner] = deque((one,))
        else:
            queue.append(one)

    def pop(self) -> QueuedConnection | None:
        """Remove and return the first of the owner whose turn it is; ``None`` if all are empty."""
        for owner in self._queues:
            queue = self._queues.pop(owner)
            one = queue.popleft()
            if queue:
                self._queues[owner] = queue  # at the end, behind the other owners
            return one
        return None


class TurnQueue:
    """The queue of one event loop. Each ``enqueue`` leads to one call of ``take_turn``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn_seconds: float = TURN_SECONDS) -> None:
        self._loop = loop
        self._turn_seconds = turn_seconds
        self._accounts = RoundRobin()
        self._strangers = RoundRobin()
        self._is_accounts_turn = True
        self._is_scheduled = False
        self._waiting = 0
        self._work = 0
        self._is_watched = False
        self._watched_from = 0.0

    def __repr__(self) -> str:
        return f"<TurnQueue waiting={self._waiting}>"

    def __len__(self) -> int:
        return self._waiting

    def is_turn_over(self, work: int = 1) -> bool:
        """Tell whether new work has to queue: others do already, or the loop has worked for long
        enough since it last polled its sockets. Counts ``work`` if it may start.

        An event loop does not tell when its turn began, and to schedule a callback for its next
        turn costs as much as a system call. So that is done only after ``UNWATCHED_WORK``, which
        may have come over many turns; the time until the callback runs is then measured.
        """
        if self._waiting:
            return True
        self._work += work
        if self._work < UNWATCHED_WORK:
            return False
        now = monotonic()
        if self._is_watched:
            return now - self._watched_from > self._turn_seconds
        self._is_watched = True
        self._watched_from = now
        self._loop.call_soon(self._begin_turn)
        return False

    def _begin_turn(self) -> None:
        self._is_watched = False
        self._work = 0

    def enqueue(self, one: QueuedConnection) -> None:
        """Call ``one.take_turn`` when its turn comes."""
        account = one.account
        if account:
            self._accounts.push(account, one)
        else:
            self._strangers.push(one.network, one)
        self._waiting += 1
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._serve_slice)

    def _serve_slice(self) -> None:
        self._is_scheduled = False
        until = monotonic() + self._turn_seconds
        try:
            readers = 0
            while self._waiting:
                self._waiting -= 1
                readers += self._next().take_turn()
                if readers >= MOST_READERS or monotonic() >= until:
                    break
        finally:  # even if one raises, the others get their turn
            if self._waiting:
                self._schedule()

    def _next(self) -> QueuedConnection:
        first, second = self._accounts, self._strangers
        if not self._is_accounts_turn:
            first, second = second, first
        self._is_accounts_turn = not self._is_accounts_turn
        one = first.pop() or second.pop()
        assert one is not None
        return one
