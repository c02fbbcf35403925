"""How a connection to an upstream is opened: a TCP or unix connection, then TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sidecar.outgoing.connector import Connector
from sidecar.outgoing.resolver import CachingResolver, Clock
from sidecar.wire.destination import Destination
from sidecar.wire.upstream import UpstreamConnection


class Dialer:
    """Opens connections, and remembers which names and addresses work; one per process."""

    def __init__(
        self, resolver: CachingResolver | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._connector = Connector(resolver, clock)

    async def open(
        self,
        destination: Destination,
        loop: asyncio.AbstractEventLoop,
        make_connection: Callable[[], UpstreamConnection],
    ) -> UpstreamConnection:
        """Open a connection, including TLS, within the destination's connect time-out.

        Raises ``TimeoutError``, or another ``OSError`` (``ssl.SSLError`` is one).
        """
        budget = self._connector.budget(destination.connect_timeout_seconds)
        if destination.unix_path:
            async with budget.step():
                _, connection = await loop.create_unix_connection(
                    make_connection,
                    destination.unix_path,
                    ssl=destination.tls,
                    server_hostname=destination.tls_name,
                )
            return connection
        connected, address = await self._connector.connect(
            destination.host, destination.port, budget
        )
        try:
            async with budget.step():
                _, connection = await loop.create_connection(
                    make_connection,
                    sock=connected,
                    ssl=destination.tls,
                    server_hostname=destination.tls_name,
                )
        except OSError:  # TimeoutError is one
            self._connector.note_late(address, destination.port)
            raise
        self._connector.note_good(address, destination.port)
        return connection
