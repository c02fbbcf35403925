"""Which addresses a host name has: looked up once for all callers, and cached briefly.

A look-up is getaddrinfo(3), which blocks its thread for as long as the resolver likes, and libuv
and asyncio have only a few threads for all names. So each look-up gets its own thread, at most one
per name and 64 in all, and a slow name delays no other.

An answer is fresh for five seconds. In the last of them the next connection starts a look-up and
does not wait for it, so that a name in use stays fresh without anybody waiting. An older answer is
used if the look-up takes longer than a caller likes to wait, or took longer the last time, for an
hour at most (RFC 8767). Only "no such name" ends that use at once: it is an answer, whereas a
failure or a time-out is not.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

_FRESH_SECONDS: Final = 5.0
_EARLY_SECONDS: Final = 4.0
"""The age at which an answer that is still fresh is looked up again."""
_STALE_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 1.0
"""The shortest time between a look-up that failed, or whose addresses did, and the next one."""
_MOST_ADDRESSES: Final = 32
_MOST_THREADS: Final = 64
_NEVER: Final = float("-inf")
_NO_SUCH_NAME: Final = frozenset(
    {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY}  # see gai_strerror(3)
)


class ResolvedAddress(NamedTuple):
    """An IP address in the form that sockets take."""

    family: int
    host: str
    scope_id: int = 0

    def sockaddr(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return the address that ``socket.connect`` takes."""
        if self.family == socket.AF_INET6:
            return (self.host, port, 0, self.scope_id)
        return (self.host, port)


ResolvedAddresses = tuple[ResolvedAddress, ...]
Resolve = Callable[[str], ResolvedAddresses]
"""Looks up the addresses of a name, best first. May block; raises ``OSError``."""
Clock = Callable[[], float]


def resolve(host: str, flags: int = 0) -> ResolvedAddresses:
    """Ask the system's resolver; it sorts by RFC 6724. Blocks; raises ``OSError``."""
    try:
        name = host.encode("ascii")  # as bytes: for a str, Python loads its IDNA tables
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "Name not in ASCII") from None
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=flags)
    addresses = [
        ResolvedAddress(family, str(sockaddr[0]), int(sockaddr[3]) if len(sockaddr) == 4 else 0)
        for family, _, _, _, sockaddr in found
    ]
    return tuple(dict.fromkeys(addresses))


def read_literal(host: str) -> ResolvedAddresses:
    """Return the address that ``host`` is a literal of; empty if it is a name. Never blocks."""
    try:
        return resolve(host, socket.AI_NUMERICHOST)
    except OSError:
        return ()


class CachingResolver:
    """Caches the addresses of the names that connections are opened to."""

    def __init__(self, resolve: Resolve = resolve, clock: Clock = time.monotonic) -> None:
        self._resolve = resolve
        self._clock = clock
        self._names: dict[str, _CachedName] = {}
        self._threads = _Threads(_MOST_THREADS)

    def __repr__(self) -> str:
        return f"<CachingResolver {[*self._names.values()]}>"

    async def find(self, host: str, patience_seconds: float) -> ResolvedAddresses:
        """Return the addresses of ``host``, at least one. Raises ``OSError``.

        Without a cached answer, waits for as long as the resolver takes. With one that is not
        fresh, waits until the look-up, whoever started it, has taken ``patience_seconds``, and not
        at all if the look-up before it took longer.
        """
        return read_literal(host) or await self._name(host).find(patience_seconds)

    def refresh_soon(self, host: str) -> None:
        """Look the name up again soon: no address accepted a connection, so it may have moved."""
        name = self._names.get(host)
        if name is not None:
            name.refresh_soon()

    def _name(self, host: str) -> _CachedName:
        name = self._names.get(host)
        if name is None:
            self._names = {host: one for host, one in self._names.items() if one.is_wanted}
            name = self._names[host] = _CachedName(host, self._resolve, self._clock, self._threads)
        return name


class _Threads:
    """Runs each look-up in a thread of its own; those beyond ``most`` wait for one to end.

    ``start`` and ``end`` are called on the event loop.
    """

    __slots__ = ("_most", "_running", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._waiting: deque[_CachedName] = deque()

    def start(self, name: _CachedName) -> None:
        """Start the look-up of a name, or have it wait."""
        if self._running >= self._most:
            self._waiting.append(name)
            return
        self._running += 1
        try:
            name.start_thread()
        except RuntimeError as error:  # the system allows no more threads
            self._running -= 1
            name.store((), OSError(str(error)))

    def end(self) -> None:
        """Start the look-up that has waited longest: a thread has ended."""
        self._running -= 1
        while self._waiting and self._running < self._most:
            self.start(self._waiting.popleft())


class _CachedName:
    """The cached answer for one name, and the look-up for it that may be in progress."""

    __slots__ = (
        "_addresses",
        "_answered_at",
        "_asked_at",
        "_clock",
        "_error",
        "_fresh_until",
        "_host",
        "_pending",
        "_refresh_at",
        "_resolve",
        "_threads",
        "_took_seconds",
    )

    def __init__(self, host: str, resolve: Resolve, clock: Clock, threads: _Threads) -> None:
        self._host = host
        self._resolve = resolve
        self._clock = clock
        self._addresses: ResolvedAddresses = ()
        self._answered_at = _NEVER
        self._asked_at = _NEVER
        self._refresh_at = _NEVER
        self._fresh_until = _NEVER
        self._took_seconds = 0.0  # by the last look-up that has ended
        self._threads = threads
        self._error = OSError("the name has never been looked up")
        self._pending: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<_CachedName {self._host} {[address.host for address in self._addresses]}>"

    @property
    def is_wanted(self) -> bool:
        """Tell whether the name was asked for within the last hour, or is awaited now."""
        return self._pending is not None or self._clock() - self._asked_at < _STALE_SECONDS

    def refresh_soon(self) -> None:
        """Consider the answer out of date."""
        self._refresh_at = min(self._refresh_at, self._asked_at + _RETRY_SECONDS)
        self._fresh_until = _NEVER

    async def find(self, patience_seconds: float) -> ResolvedAddresses:
        pending = self._refresh_if_due()
        if pending is not None:
            await self._wait_for(pending, patience_seconds)
        if self._has_answer():
            return self._addresses
        kind = socket.gaierror if isinstance(self._error, socket.gaierror) else OSError
        raise kind(self._error.errno, self._error.strerror or str(self._error))

    def _has_answer(self) -> bool:
        return bool(self._addresses) and self._clock() - self._answered_at < _STALE_SECONDS

    async def _wait_for(self, pending: asyncio.Future[None], patience_seconds: float) -> None:
        """Wait for the look-up, which continues if this task is cancelled: others may wait too."""
        seconds = None
        if self._has_answer():
            if self._clock() < self._fresh_until or self._took_seconds > patience_seconds:
                return
            seconds = self._asked_at + patience_seconds - self._clock()
        if seconds is None or seconds > 0:
            await asyncio.wait((pending,), timeout=seconds)

    def _refresh_if_due(self) -> asyncio.Future[None] | None:
        """Return the look-up in progress, if any; start one if the answer is out of date."""
        if self._pending is None and self._clock() >= self._refresh_at:
            self._asked_at = self._clock()
            self._pending = asyncio.get_running_loop().create_future()
            self._threads.start(self)
        return self._pending

    def start_thread(self) -> None:
        """Start the look-up. Raises ``RuntimeError`` if the system allows no more threads."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._look_up, args=(loop,), name="resolver", daemon=True).start()

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask the resolver, in a thread; always deliver an outcome to the waiting tasks."""
        found: ResolvedAddresses = ()
        error = OSError("the resolver gave no address")
        try:
            found = self._resolve(self._host)
        except OSError as raised:
            error = raised
        finally:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._on_looked_up, found, error)

    def _on_looked_up(self, found: ResolvedAddresses, error: OSError) -> None:
        self.store(found, error)
        self._threads.end()

    def store(self, found: ResolvedAddresses, error: OSError) -> None:
        """Take the outcome of the look-up, and resume who waits for it."""
        now = self._clock()
        self._took_seconds = now - self._asked_at
        if found:
            self._addresses = found[:_MOST_ADDRESSES]
            self._answered_at = now
            self._refresh_at = now + _EARLY_SECONDS
            self._fresh_until = now + _FRESH_SECONDS
        else:
            self._error = error
            self._refresh_at = now + _RETRY_SECONDS
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
                self._addresses = ()
        pending, self._pending = self._pending, None
        if pending is not None and not pending.done():
            pending.set_result(None)
