"""Whose turn it is when more has arrived than one turn of the event loop may serve.

Work runs at once, inside the callback that delivers its data, until the loop's current turn has
lasted ``TURN_SECONDS``. What arrives after that waits here, and is served a slice at a time; the
loop looks at its sockets between two slices, so that no amount of work keeps others unheard.

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

TURN_SECONDS: Final = 0.002
"""How long one turn of the loop may serve what it has just read, and how long a slice is."""


class InLine(Protocol):
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


class Ring:
    """What waits, by owner; each ``take`` serves the next owner."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, deque[InLine]] = {}

    def enter(self, owner: str, one: InLine) -> None:
        """Put one behind what else its owner has waiting."""
        line = self._lines.get(owner)
        if line is None:
            self._lines[owner] = deque((one,))
        else:
            line.append(one)

    def take(self) -> InLine | None:
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
        self._accounts = Ring()
        self._strangers = Ring()
        self._is_accounts_turn = True
        self._is_scheduled = False
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<TurnQueue waiting={self._waiting}>"

    def __len__(self) -> int:
        return self._waiting

    def is_turn_over(self) -> bool:
        """Tell whether new work has to wait in line: others do already, or the loop has served for
        long enough since it last looked at its sockets.

        uvloop's clock stands still during a turn, so it tells when the turn began. asyncio's does
        not: there a turn is never over by the clock. While more than a thousand sockets are ready
        libuv polls again, and its clock goes on; the line holds then, too.
        """
        return self._waiting > 0 or monotonic() - self._loop.time() > self._turn_seconds

    def enter(self, one: InLine) -> None:
        """Have ``one`` take its turn later."""
        account = one.account
        if account:
            self._accounts.enter(account, one)
        else:
            self._strangers.enter(one.network, one)
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

    def _next(self) -> InLine:
        first, second = self._accounts, self._strangers
        if not self._is_accounts_turn:
            first, second = second, first
        self._is_accounts_turn = not self._is_accounts_turn
        one = first.take() or second.take()
        assert one is not None
        return one
