"""Which sockets are bound, and which process accepts connections from which of them.

Each TCP address has one socket per slot (``SO_REUSEPORT``): the kernel spreads connections evenly
over them, whereas on a socket shared by all processes the first to wake takes a whole burst.
Connections in a slot's queue are lost only when the last descriptor of its socket is closed; as
long as one process holds it open, another can accept them (``Listeners.take_over``).

A unix socket has a single queue, which all slots share. Who may connect to it is settled before it
listens.

An address is bound for a use, such as ``proxy``. A use with several addresses has further names,
``proxy.1`` and so on, each with slots of its own: what is said of ``proxy`` counts for them all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

BACKLOG: Final = 4096

Slots = list[list[socket.socket]]
"""The sockets of one address, by slot."""
Factory = Callable[[], asyncio.BaseProtocol]


class Closable(Protocol):
    """Something that accepts connections until it is closed."""

    def close(self) -> None:
        """Stop accepting connections."""


@dataclass(frozen=True, slots=True)
class UnixAccess:
    """Who may connect to a unix socket: its permissions, and its group if that is to be set."""

    mode: int = 0o660
    group: int | None = None

    def grant(self, path: str) -> None:
        """Set group and permissions of the socket at ``path``. Raises ``OSError``."""
        if self.group is not None:
            os.chown(path, -1, self.group)
        os.chmod(path, self.mode)


StartAccepting = Callable[[socket.socket], Awaitable[Closable]]
"""Starts to accept connections from a socket, and takes ownership of it."""


def name_of_use(use: str, number: int) -> str:
    """Return the name of a use's address: of the first, the use itself."""
    return f"{use}.{number}" if number else use


def is_of_use(name: str, use: str) -> bool:
    """Return whether ``name`` is that of one of the use's addresses."""
    return name.partition(".")[0] == use


def bind(
    host: str,
    port: int,
    unix_path: str | None,
    count: int = 1,
    *,
    access: UnixAccess = UnixAccess(),
    is_v6_only: bool = True,
) -> Slots:
    """Return listening sockets for ``count`` slots. Raises ``OSError``.

    Fails if another process listens on the address, even if that process would share it. Unless
    ``is_v6_only``, an IPv6 address takes IPv4 connections too (RFC 4291 section 2.5.5.2).
    """
    if unix_path is not None:
        shared = _bind_unix(unix_path, access)
        return [[shared] for _ in range(count)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    if port:
        for family, address in addresses:
            _bind_tcp(family, address, is_v6_only, is_shared=False).close()
    slots: Slots = [[] for _ in range(count)]
    try:
        for family, address in addresses:
            _bind_slots(slots, family, address, is_v6_only)
    except OSError:
        close_all(slots)
        raise
    return slots


def extend(slots: Slots, count: int) -> None:
    """Bind further sockets, at the addresses of the first slot, until there are ``count`` slots."""
    while len(slots) < count:
        slots.append(
            [
                one
                if one.family == socket.AF_UNIX
                else _bind_tcp(one.family, one.getsockname(), _is_v6_only(one))
                for one in slots[0]
            ]
        )


def close_all(slots: Slots) -> None:
    """Close this process's descriptors of these sockets."""
    for one in {id(one): one for slot in slots for one in slot}.values():
        one.close()


async def accept(factory: Factory, listener: socket.socket) -> asyncio.Server:
    """Accept connections from ``listener`` with the loop's own server, which closes it at the end.

    The loop accepts one connection per iteration and sets no limit: for listeners that callers do
    not reach.
    """
    loop = asyncio.get_running_loop()
    listen = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
    return await listen(factory, sock=listener, backlog=BACKLOG)


class Listeners:
    """The sockets that one process listens on: those of its own slot, and those of slots whose
    worker is gone.
    """

    def __init__(self, sockets: Mapping[str, Slots], slot: int) -> None:
        """``sockets`` by their use; ``close`` closes this process's descriptors of them."""
        self._sockets = dict(sockets)
        self._own = slot
        self._foreign: frozenset[int] = frozenset()
        self._starters: dict[str, StartAccepting] = {}
        self._servers: dict[tuple[str, int], list[Closable]] = {}
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return (
            f"<Listeners slot={self._own} foreign={sorted(self._foreign)} {sorted(self._starters)}>"
        )

    @property
    def ports(self) -> dict[str, int]:
        """The TCP port bound for each use."""
        return {
            use: slots[self._own][0].getsockname()[1]
            for use, slots in self._sockets.items()
            if slots[self._own][0].family != socket.AF_UNIX
        }

    async def open(self, use: str, factory: Factory) -> None:
        """Start to accept connections for ``use`` with the loop's own server (``accept``)."""
        await self.open_with(use, partial(accept, factory))

    async def open_with(self, use: str, start: StartAccepting) -> None:
        """Start to accept connections for ``use`` with ``start``, called once per socket."""
        async with self._changing:
            for name in [name for name in self._sockets if is_of_use(name, use)]:
                self._starters[name] = start
                await self._accept(name, {self._own, *self._foreign})

    async def take_over(self, slots: Collection[int]) -> None:
        """Accept connections on these slots too, besides our own, and on no others."""
        async with self._changing:
            self._foreign = frozenset(slots) - {self._own}
            for use, slot in list(self._servers):
                if slot != self._own and slot not in self._foreign:
                    _close(self._servers.pop((use, slot)))
            for use in self._starters:
                await self._accept(use, self._foreign)

    def close(self, *uses: str) -> None:
        """Stop accepting connections for these uses, and close their sockets."""
        for name in [name for name in self._sockets for use in uses if is_of_use(name, use)]:
            self._starters.pop(name, None)
            for key in [key for key in self._servers if key[0] == name]:
                _close(self._servers.pop(key))
            close_all(self._sockets.pop(name))

    def close_all(self) -> None:
        """Stop accepting connections, and close all sockets."""
        self.close(*{name.partition(".")[0] for name in self._sockets})

    async def _accept(self, use: str, slots: Iterable[int]) -> None:
        start = self._starters[use]
        by_slot = self._sockets[use]
        for slot in slots:
            is_shared = slot != self._own and _is_same(by_slot, slot, self._own)
            if (use, slot) in self._servers or slot >= len(by_slot) or is_shared:
                continue
            self._servers[use, slot] = [await start(one.dup()) for one in by_slot[slot]]


def _is_same(by_slot: Slots, slot: int, other: int) -> bool:
    return slot < len(by_slot) and by_slot[slot] == by_slot[other]


def _close(servers: list[Closable]) -> None:
    for server in servers:
        server.close()


def _bind_slots(slots: Slots, family: int, address: tuple[object, ...], is_v6_only: bool) -> None:
    first = _bind_tcp(family, address, is_v6_only)
    slots[0].append(first)
    for slot in slots[1:]:  # with its port: the kernel chose it if 0 was asked for
        slot.append(_bind_tcp(family, first.getsockname(), is_v6_only))


def _is_v6_only(listener: socket.socket) -> bool:
    if listener.family != socket.AF_INET6:
        return True
    return listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def _bind_tcp(
    family: int, address: tuple[object, ...], is_v6_only: bool, *, is_shared: bool = True
) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(is_v6_only))
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if is_shared:
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_unix(path: str, access: UnixAccess) -> socket.socket:
    """Bind a unix socket; replace one that a dead process left behind."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            Path(path).unlink()
            listener.bind(path)
        access.grant(path)  # nobody can connect before it listens
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
