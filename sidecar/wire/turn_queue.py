"""Whose turn it is when more has arrived than one turn of the event loop may serve.

Work runs at once, inside the callback that delivers its data, until the loop's current turn has
lasted ``TURN_SECONDS``, or a little longer (``is_turn_over``). What arrives after that waits here,
and is served a slice at a time; the loop looks at its sockets between two slices, so that no amount
of work keeps others unheard.

The order is fair, not first come, first served. There are two rings: one of accounts (connections
whose last request was let pass) and one of networks (strangers). They alternate, and each ring
takes one connection of each member in turn. So however many connections an account or a network
has, and however much they send, each of the others waits for one connection of it at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final, Protocol

MOST_READERS: Final = 8
"""So many begin to read in one slice, as each may bring a piece of a body at once."""

UNWATCHED_WORK: Final = 128
"""So much work is begun before the time is watched: a request is 1, a piece of a body 16."""

PIECE_WORK: Final = 16
"""What a piece of a body counts, which is up to 256 KiB."""

TURN_SECONDS: Final = 0.002
"""How long one turn of the loop may serve what it has just read, and how long a slice is."""


class QueuedConnection(Protocol):
    """A connection that waits for its turn."""

    @property
    def account(self) -> str:
        """Who is known to be calling; empty: a stranger."""

    @property
    def network(self) -> str:
        """Where a stranger calls from."""

    def take_turn(self) -> bool:
        """Do a bounded amount of work, and nothing if the work is gone; ``True`` if that was to
        begin to read: what it reads is work of the loop's next look at its sockets.
        """


class RoundRobin:
    """What waits, by owner; each ``take`` serves the next owner."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, deque[QueuedConnection]] = {}

    def push(self, owner: str, one: QueuedConnection) -> None:
        """Put one behind what else its owner has waiting."""
        line = self._lines.get(owner)
        if line is None:
            self._lines[owner] = deque((one,))
        else:
            line.append(one)

    def pop(self) -> QueuedConnection | None:
        """Return the first one of the owner whose turn it is; ``None``: nothing waits."""
        for owner in self._lines:
            line = self._lines.pop(owner)
            one = line.popleft()
            if line:
                self._lines[owner] = line  # behind the others
            return one
        return None


class TurnQueue:
    """The line of one event loop. What enters is told ``take_turn``, once each time."""

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
        """Tell whether new work has to wait in line: others do already, or the loop has served for
        long enough since it last looked at its sockets. Counts the ``work`` that is begun if not.

        No loop tells when its turn began, and a call that runs in its next turn costs as much as a
        system call. So only ``UNWATCHED_WORK`` on, which may have come over many turns, such a call
        is asked for, and the time until it comes is watched.
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
        """Have ``one`` take its turn later."""
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
        finally:  # whatever one does, the others have their turn
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
