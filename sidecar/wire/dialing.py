"""How a connection to an upstream is opened: a TCP or unix connection, then TLS."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

from sidecar.outgoing.connector import Connector
from sidecar.outgoing.racing import EXHAUSTED
from sidecar.outgoing.resolver import CachingResolver, Clock
from sidecar.wire.destination import Destination
from sidecar.wire.last_bytes import TlsTail
from sidecar.wire.upstream import UpstreamConnection

_FREEING_SECONDS: Final = 0.01  # an aborted connection is closed by the loop's next iterations


class Dialer:
    """Opens connections, and remembers which names and addresses work; one per process."""

    def __init__(
        self, resolver: CachingResolver | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._connector = Connector(resolver, clock)
        self.free_descriptors: Callable[[], None] = _free_none
        """Closes what can be done without, when the process has run out of descriptors."""

    async def open(
        self,
        destination: Destination,
        loop: asyncio.AbstractEventLoop,
        make_connection: Callable[[], UpstreamConnection],
    ) -> UpstreamConnection:
        """Open a connection, including TLS, within the destination's connect time-out.

        Raises ``TimeoutError``, or another ``OSError`` (``ssl.SSLError`` is one). One of
        ``EXHAUSTED`` is raised if nothing could be freed.
        """
        try:
            return await self._open(destination, loop, make_connection)
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
        self.free_descriptors()
        await asyncio.sleep(_FREEING_SECONDS)
        return await self._open(destination, loop, make_connection)

    async def _open(
        self,
        destination: Destination,
        loop: asyncio.AbstractEventLoop,
        make_connection: Callable[[], UpstreamConnection],
    ) -> UpstreamConnection:
        budget = self._connector.budget(destination.connect_timeout_seconds)
        if destination.unix_path:
            async with budget.step():
                return await _start(destination, loop, make_connection, None)
        connected, address = await self._connector.connect(
            destination.host, destination.port, budget
        )
        try:
            async with budget.step():
                connection = await _start(destination, loop, make_connection, connected)
        except OSError:  # TimeoutError is one
            self._connector.note_late(address, destination.port)
            raise
        self._connector.note_good(address, destination.port)
        return connection


def _free_none() -> None:
    """Free no descriptors: there are none to be had."""


async def _start(
    destination: Destination,
    loop: asyncio.AbstractEventLoop,
    make_connection: Callable[[], UpstreamConnection],
    connected: socket.socket | None,
) -> UpstreamConnection:
    """Make a connection of a connected socket, or of the destination's unix socket."""
    connection = make_connection()
    protocol = asyncio.Protocol() if destination.tls else connection
    transport: asyncio.Transport
    if connected is None:
        path = destination.unix_path
        transport, _ = await loop.create_unix_connection(lambda: protocol, path)
    else:
        transport, _ = await loop.create_connection(lambda: protocol, sock=connected)
    if destination.tls is not None:
        try:
            encrypted = await loop.start_tls(
                transport, connection, destination.tls, server_hostname=destination.tls_name
            )
        except BaseException:
            transport.abort()
            raise
        assert encrypted is not None
        TlsTail(loop, transport, connection)
        connection.connection_made(encrypted)
    return connection
