"""How a connection to Redis is opened: by name or on a unix socket, with TLS or without.

Names are looked up by ``outgoing``, for redis-py's connections too: the event loop would resolve
them in a few threads that it has for all names.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from redis.asyncio import Connection
from redis.asyncio.sentinel import SentinelManagedConnection

from sidecar.outgoing.connector import Connector
from sidecar.store.endpoints import Endpoint

_MOST_SECONDS: Final = 60.0
"""No connection takes that long: callers limit the time of a whole step (``budgets``)."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


class StoreDialer:
    """Opens connections with one TLS context, or without TLS if there is none."""

    def __init__(self, tls: ssl.SSLContext | None, connector: Connector | None = None) -> None:
        self.tls = tls
        self._connector = connector or Connector()

    async def open(self, endpoint: Endpoint, make_protocol: Callable[[], ProtocolT]) -> ProtocolT:
        """Return a connected protocol. Raises ``OSError``; does not limit its time."""
        loop = asyncio.get_running_loop()
        if endpoint.path is not None:
            return (await loop.create_unix_connection(make_protocol, endpoint.path))[1]
        connected = await self.connect(endpoint.host, endpoint.port)
        name = endpoint.host if self.tls is not None else None
        return (
            await loop.create_connection(
                make_protocol, sock=connected, ssl=self.tls, server_hostname=name
            )
        )[1]

    async def connect(self, host: str, port: int) -> socket.socket:
        """Return a TCP socket connected to a host. Raises ``OSError``."""
        budget = self._connector.budget(_MOST_SECONDS)
        return (await self._connector.connect(host, port, budget))[0]


class DialedConnection(Connection):
    """A connection of redis-py that a dialer opens.

    By itself, redis-py makes a TLS context for each connection, which takes 50 ms of CPU.
    """

    def __init__(self, *, dialer: StoreDialer, **options: Any) -> None:
        super().__init__(**options)
        self._dialer = dialer
        self._socket: socket.socket | None = None

    async def _connect(self) -> None:
        self._socket = await self._dialer.connect(self.host, self.port)
        await super()._connect()  # type: ignore[no-untyped-call]

    def _connection_arguments(self) -> Mapping[str, Any]:
        tls = self._dialer.tls
        secured = {} if tls is None else {"ssl": tls, "server_hostname": self.host}
        return {"sock": self._socket, **secured}


class DialedMasterConnection(SentinelManagedConnection, DialedConnection):
    """The same, to the master that the Sentinels name."""
