"""Where connections are accepted: which sockets are bound, and who listens on which.

A TCP address has a socket of its own for each slot (``SO_REUSEPORT``): the kernel spreads
connections evenly over them, where a socket shared by all processes lets whoever wakes first take a
whole burst. What waits in a slot's queue is lost only when the last descriptor of that socket is
closed; so whoever holds it open lets another process accept it (``Listeners.take_over``).

A unix socket has one queue, which all slots share.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

BACKLOG: Final = 4096

Slots = list[list[socket.socket]]
"""The sockets of one address, by slot."""
Factory = Callable[[], asyncio.BaseProtocol]


class Closable(Protocol):
    """What accepts connections until it is closed."""

    def close(self) -> None:
        """Accept nothing more."""


Accept = Callable[[socket.socket], Awaitable[Closable]]
"""Accepts connections from a socket that is its own to close."""


def bind(host: str, port: int, unix_path: str | None, count: int = 1) -> Slots:
    """Return listening sockets for ``count`` slots. Raises ``OSError``.

    An address that another process listens on is refused, even if that one would share it.
    """
    if unix_path is not None:
        shared = _bind_unix(unix_path)
        return [[shared] for _ in range(count)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    if port:
        for family, address in places:
            _bind_tcp(family, address, is_shared=False).close()
    slots: Slots = [[] for _ in range(count)]
    try:
        for family, address in places:
            _bind_slots(slots, family, address)
    except OSError:
        close_all(slots)
        raise
    return slots


def extend(slots: Slots, count: int) -> None:
    """Bind more sockets, at the addresses of the first slot, until there are ``count`` slots."""
    while len(slots) < count:
        slots.append(
            [
                one if one.family == socket.AF_UNIX else _bind_tcp(one.family, one.getsockname())
                for one in slots[0]
            ]
        )


def close_all(slots: Slots) -> None:
    """Close this process's descriptors of these sockets."""
    for one in {id(one): one for slot in slots for one in slot}.values():
        one.close()


async def accept(factory: Factory, listener: socket.socket) -> asyncio.Server:
    """Accept connections from ``listener``, which is closed with the server, as the loop does it:
    one in each of its turns, and without a bound. For listeners that callers do not reach.
    """
    loop = asyncio.get_running_loop()
    listen = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
    return await listen(factory, sock=listener, backlog=BACKLOG)


class Listeners:
    """What one process accepts: the connections of its slot, and of slots that nobody serves."""

    def __init__(self, sockets: Mapping[str, Slots], slot: int) -> None:
        """``sockets`` by their use; this process's descriptors of them are closed with it."""
        self._sockets = dict(sockets)
        self._own = slot
        self._foreign: frozenset[int] = frozenset()
        self._ways: dict[str, Accept] = {}
        self._servers: dict[tuple[str, int], list[Closable]] = {}
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Listeners slot={self._own} foreign={sorted(self._foreign)} {sorted(self._ways)}>"

    @property
    def ports(self) -> dict[str, int]:
        """The TCP port of each use, as it was bound."""
        return {
            use: slots[self._own][0].getsockname()[1]
            for use, slots in self._sockets.items()
            if slots[self._own][0].family != socket.AF_UNIX
        }

    async def open(self, use: str, factory: Factory) -> None:
        """Accept connections for ``use`` from now on, as ``accept`` does."""
        await self.open_with(use, partial(accept, factory))

    async def open_with(self, use: str, way: Accept) -> None:
        """Accept connections for ``use`` from now on, in a way of its own."""
        async with self._changing:
            self._ways[use] = way
            await self._accept(use, {self._own, *self._foreign})

    async def take_over(self, slots: Collection[int]) -> None:
        """Accept what comes in on these slots as well, and no longer on others."""
        async with self._changing:
            self._foreign = frozenset(slots) - {self._own}
            for use, slot in list(self._servers):
                if slot != self._own and slot not in self._foreign:
                    _close(self._servers.pop((use, slot)))
            for use in self._ways:
                await self._accept(use, self._foreign)

    def close(self, *uses: str) -> None:
        """Accept nothing more for these uses, and let go of their sockets."""
        for use in uses:
            self._ways.pop(use, None)
            for key in [key for key in self._servers if key[0] == use]:
                _close(self._servers.pop(key))
            close_all(self._sockets.pop(use, []))

    def close_all(self) -> None:
        """Accept nothing more."""
        self.close(*self._sockets)

    async def _accept(self, use: str, slots: Iterable[int]) -> None:
        way = self._ways[use]
        by_slot = self._sockets[use]
        for slot in slots:
            is_shared = slot != self._own and _is_same(by_slot, slot, self._own)
            if (use, slot) in self._servers or slot >= len(by_slot) or is_shared:
                continue
            self._servers[use, slot] = [await way(one.dup()) for one in by_slot[slot]]


def _is_same(by_slot: Slots, slot: int, other: int) -> bool:
    return slot < len(by_slot) and by_slot[slot] == by_slot[other]


def _close(servers: list[Closable]) -> None:
    for server in servers:
        server.close()


def _bind_slots(slots: Slots, family: int, address: tuple[object, ...]) -> None:
    first = _bind_tcp(family, address)
    slots[0].append(first)
    for slot in slots[1:]:
        slot.append(_bind_tcp(family, first.getsockname()))  # its port, if any was free to choose


def _bind_tcp(family: int, address: tuple[object, ...], *, is_shared: bool = True) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if is_shared:
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_unix(path: str) -> socket.socket:
    """Bind a unix socket; one left behind by a process that has gone is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            Path(path).unlink()
            listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_abandoned(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return Path(path).is_socket()
        except OSError:
            return False
    return False
