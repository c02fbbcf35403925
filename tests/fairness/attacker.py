"""Runs one attack of ``attacks`` against a proxy on this machine, in a process of its own.

``python -m tests.fairness.attacker NAME PORT TOKEN [SECONDS [SHARE]]`` prints when it began (on the
monotonic clock) and, at its end, one line of JSON: an ``Account`` of what it did. ``SHARE`` is the
fraction of the attack's connections that it opens.

It ends by itself. It is one loop over non-blocking sockets, with all bytes prepared: an attacker
that needs a whole core would measure the machine, not the proxy.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import math
import os
import re
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from sidecar.core.tokens import generate
from tests.fairness.attacks import ATTACKS, Attack

NICENESS: Final = 10
OPENED_AT_ONCE: Final = 100
"""How many connections to open before serving those that are open."""
LATE_SECONDS: Final = 30.0
"""How much longer than its time an attack may take to open its connections."""
_PIECE_BYTES: Final = 256 * 1024
_FRESH: Final = b"{fresh}"
_BIND_ADDRESS_NO_PORT: Final = 24
"""``IP_BIND_ADDRESS_NO_PORT``: choose the port when connecting, by destination (ip(7))."""
_status: Final = re.compile(rb"HTTP/1\.1 (\d\d\d)")
_STATUS_BYTES: Final = 12
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Account:
    """What an attacker did, and how the proxy reacted. Times are of the monotonic clock."""

    began: float = 0.0
    ended: float = 0.0
    rounds: int = 0
    opened: int = 0
    closed: int = 0
    """By the proxy."""
    held: int = 0
    """Connections that were open at the end."""
    sent_bytes: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    """By status."""

    @classmethod
    def read(cls, text: str) -> Account:
        told = json.loads(text)
        return cls(**{**told, "answers": {int(key): n for key, n in told["answers"].items()}})


class Attacker:
    """All connections of one attack."""

    def __init__(self, attack: Attack, port: int, token: str, seconds: float) -> None:
        self.attack = attack
        self.answers: Counter[int] = Counter()
        self.account = Account()
        self.selector = selectors.DefaultSelector()
        self.drip = attack.drip.replace(b"{token}", token.encode())
        self._opening = attack.opening().replace(b"{token}", token.encode())
        self._is_fresh = _FRESH in self._opening
        self._port = port
        self._seconds = seconds
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._to_open = 0
        self.live = 0

    def opening(self) -> bytes:
        """Return the bytes that a round begins with."""
        if not self._is_fresh:
            return self._opening
        pieces = self._opening.split(_FRESH)
        made = [generate("sct_", os.urandom).encode() for _ in pieces[1:]]
        return b"".join(itertools.chain(*zip(pieces, [*made, b""], strict=True)))

    def may_begin_a_round(self) -> bool:
        """Count another round, unless the limit is reached."""
        if self.account.rounds >= self.attack.most_rounds:
            return False
        self.account.rounds += 1
        return True

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function in so many seconds."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serial), call))

    def replace(self, seconds: float = 0.0) -> None:
        """Replace a connection that has ended, in so many seconds."""
        if self.account.rounds < self.attack.most_rounds:
            self.later(seconds, self._open_one)

    def run(self) -> Account:
        """Attack until all rounds are over, or the time is up and every connection was opened.

        On a busy machine the latter may take ``LATE_SECONDS`` longer.
        """
        self.account.began = time.monotonic()
        print(self.account.began, flush=True)
        end = self.account.began + self._seconds
        self._to_open = self.attack.connections
        while not self._is_done():
            now = time.monotonic()
            if now >= (end + LATE_SECONDS if self._to_open else end):
                break
            self._open_some()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            due = min(self._timers[0][0] if self._timers else end, end)
            wait = 0.0 if self._to_open else max(0.0, due - time.monotonic())
            for key, events in self.selector.select(wait):
                key.data.on_event(events)
        self.account.held = self.live
        self.account.ended = time.monotonic()
        self.account.answers = dict(self.answers)
        return self.account

    def _is_done(self) -> bool:
        return (
            self.account.rounds >= self.attack.most_rounds
            and not self.live
            and not self._timers
            and not self._to_open
        )

    def _open_some(self) -> None:
        for _ in range(min(self._to_open, OPENED_AT_ONCE)):
            self._to_open -= 1
            self._open_one()

    def _open_one(self) -> None:
        source = f"127.0.0.{2 + self.account.opened % self.attack.addresses}"
        self.account.opened += 1
        Connection(self, source, self._port)


class Connection:
    """One connection of the attacker."""

    __slots__ = ("_attack", "_attacker", "_copies", "_is_slow", "_left", "_socket", "_tail", "_to")

    def __init__(self, attacker: Attacker, source: str, port: int) -> None:
        self._attacker = attacker
        self._attack = attacker.attack
        self._is_slow = bool(self._attack.read_bytes)
        self._left = memoryview(b"")
        self._copies = 0
        self._to = 0  # answers in this round so far
        self._tail = b""
        self._socket = sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        if self._is_slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((source, 0))
        attacker.live += 1
        if sock.connect_ex(("127.0.0.1", port)) not in (0, errno.EINPROGRESS):
            self._end()
            return
        attacker.selector.register(sock, selectors.EVENT_WRITE, self)
        self._begin()

    def on_event(self, events: int) -> None:
        """Write and read as much as possible."""
        try:
            if events & selectors.EVENT_WRITE:
                self._write()
            if events & selectors.EVENT_READ:
                self._read(_PIECE_BYTES)
        except BlockingIOError:
            pass
        except OSError:
            self._end()

    def _begin(self) -> None:
        if not self._attacker.may_begin_a_round():
            self._close()
            return
        self._to, self._copies = 0, self._attack.copies - 1
        self._left = memoryview(self._attacker.opening())
        self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _write(self) -> None:
        while self._left:
            sent = self._socket.send(self._left[:_PIECE_BYTES])
            self._attacker.account.sent_bytes += sent
            self._left = self._left[sent:]
            if not self._left and self._copies:
                self._copies -= 1
                self._left = memoryview(self._attacker.opening())
        self._on_sent()

    def _on_sent(self) -> None:
        if self._attack.resets:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._close()
            self._attacker.replace()
        elif self._attacker.drip and not self._attack.drip_seconds:
            self._left = memoryview(self._attacker.drip)
        else:
            self._watch(0 if self._is_slow else selectors.EVENT_READ)
            self._end_round()
            if self._attacker.drip or self._is_slow:
                self._attacker.later(self._attack.drip_seconds, self._drip)

    def _drip(self) -> None:
        if self._socket.fileno() < 0:
            return
        try:
            if self._attacker.drip:
                self._attacker.account.sent_bytes += self._socket.send(self._attacker.drip)
            if self._is_slow:
                self._read(self._attack.read_bytes)
        except BlockingIOError:
            pass
        except OSError:
            self._end()
            return
        if self._socket.fileno() >= 0:
            self._attacker.later(self._attack.drip_seconds, self._drip)

    def _read(self, size: int) -> None:
        piece = self._socket.recv(size)
        if not piece:
            self._end()
            return
        if self._is_slow:
            return
        seen = self._tail + piece
        statuses = _status.findall(seen)
        # The rest is too short to contain a status that was counted.
        self._tail = seen[1 - _STATUS_BYTES :]
        self._attacker.answers.update(map(int, statuses))
        self._to += len(statuses)
        self._end_round()

    def _end_round(self) -> None:
        """Begin another round if everything is sent and all answers have come."""
        is_sent = not self._left and not self._copies
        if not self._attack.answers or self._to < self._attack.answers or not is_sent:
            return
        if self._attack.keeps:
            self._begin()
        else:
            self._close()
            self._attacker.replace()

    def _watch(self, events: int) -> None:
        selector = self._attacker.selector
        if events:
            if self._socket in selector.get_map():
                selector.modify(self._socket, events, self)
            else:
                selector.register(self._socket, events, self)
        elif self._socket in selector.get_map():
            selector.unregister(self._socket)

    def _end(self) -> None:
        """Note that the proxy closed the connection."""
        self._attacker.account.closed += 1
        self._close()
        if self._attack.reopens:
            self._attacker.replace(self._attack.reopen_seconds)

    def _close(self) -> None:
        if self._socket.fileno() >= 0:
            self._watch(0)
            self._socket.close()
            self._attacker.live -= 1


def main(name: str, port: str, token: str, seconds: str = "", share: str = "1") -> None:
    """Run the attack and print its account."""
    os.nice(NICENESS)
    attack = ATTACKS[name]
    attack = replace(attack, connections=math.ceil(attack.connections * float(share)))
    attacker = Attacker(attack, int(port), token, float(seconds or attack.seconds))
    print(json.dumps(asdict(attacker.run())), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
