"""How each kind of Redis is reached: one, the master that Sentinels name, or a Cluster.

Only masters are ever asked: a replica may not have heard of a revocation. The library's own
retries, back-off, health checks and time-outs are off: every call here has one budget for
connecting and answering (``faults.budget``), which a busy loop does not spend.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from typing import Any, cast

from redis.asyncio import (
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.backoff import NoBackoff

from sidecar.store.address import Address, Topology
from sidecar.store.cluster import Cluster
from sidecar.store.commands import Channel, PipelineChannel
from sidecar.store.link import Endpoint, Link, LinkT, Login, Tracker, open_link
from sidecar.store.link_channel import LinkChannel
from sidecar.store.lookups import Lookups
from sidecar.store.sentinels import Sentinels

Client = Redis | RedisCluster

_RESP2 = 2  # replies of one form whatever the server's version, and no push messages to wait for


class _TlsConnection(SSLConnection):
    """One of the library's, with the context that all share.

    Left to itself, the library makes one for each connection, which takes the processor 50 ms.
    """

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls


class _ManagedTlsConnection(SentinelManagedConnection, _TlsConnection):
    """The same, to whichever master the Sentinels name."""


class Reach:
    """The ways to a Redis: a channel for commands, and look-ups on links of their own."""

    def __init__(
        self,
        address: Address,
        budget_seconds: float,
        probe_key: bytes,
        tracker: Tracker | None = None,
    ) -> None:
        self._address = address
        self._budget_seconds = budget_seconds
        self._probe_key = probe_key
        self._tracker = tracker
        self._tls = _tls_context(address) if address.is_tls else None
        is_cluster, is_sentinel = (
            address.topology is kind for kind in (Topology.CLUSTER, Topology.SENTINEL)
        )
        self._cluster = self._make_cluster() if is_cluster else None
        self._sentinels = self._make_sentinels() if is_sentinel else None

    def _make_cluster(self) -> Cluster:
        return Cluster(
            self._address.nodes,
            self._connect,
            self._budget_seconds,
            self._probe_key,
            self._tracker,
        )

    @cached_property
    def client(self) -> Client:
        """Return the library's client, for what it alone can do."""
        return self._make_client()

    @cached_property
    def channel(self) -> Channel:
        """Return the way that commands go."""
        return self._cluster or PipelineChannel(cast(Redis, self.client))

    @cached_property
    def quick_channel(self) -> Channel:
        """Return the way of commands that are given often: on a link, not with the library."""
        return self._cluster or LinkChannel(self._open_link)  # no tracker: changes are told once

    def make_lookups(self) -> Lookups | Cluster:
        """Return look-ups on links of their own, of which the tracker is told."""
        open_link = partial(self._open_link, self._tracker)
        return self._cluster or Lookups(open_link, self._budget_seconds, self._probe_key)

    async def close(self) -> None:
        """Close all connections but those of look-ups."""
        if self._cluster is not None:
            await self._cluster.close()
        quick = vars(self).get("quick_channel")
        if isinstance(quick, LinkChannel):
            await quick.close()
        await self._leave()
        if self._sentinels is not None:
            await self._sentinels.close()

    async def _leave(self) -> None:
        """Close the library's connections; what is asked next makes new ones."""
        if "client" in vars(self):
            await self.client.aclose()

    def _make_client(self) -> Client:
        address = self._address
        if address.topology is Topology.CLUSTER:
            nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
            tls = {**address.tls_options, "ssl": address.is_tls}
            return RedisCluster(startup_nodes=nodes, **self._options(address.login), **tls)
        if self._sentinels is None:
            return self._make_redis(address.nodes[0], address.login)
        options = self._options(address.login) | self._tls_options(_ManagedTlsConnection)
        return cast(Redis, self._sentinels.master_for(address.service, **options))

    def _make_sentinels(self) -> Sentinels:
        address = self._address
        clients = [self._make_redis(node, address.sentinel_login) for node in address.nodes]
        return Sentinels(clients, address.service, self._budget_seconds)

    def _make_redis(self, endpoint: Endpoint, login: Login) -> Redis:
        options = self._options(login) | self._tls_options(_TlsConnection)
        if endpoint.path is not None:
            options |= {"connection_class": UnixDomainSocketConnection, "path": endpoint.path}
        else:
            options |= {"host": endpoint.host, "port": endpoint.port}
        return Redis.from_pool(ConnectionPool(**options))

    def _options(self, login: Login) -> dict[str, Any]:
        options: dict[str, Any] = {
            "protocol": _RESP2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": None,
        }
        if self._address.topology is not Topology.CLUSTER:
            options["db"] = login.database
        if login.password is not None:
            options |= {"username": login.username, "password": login.password}
        return options

    def _tls_options(self, kind: type[SSLConnection]) -> dict[str, Any]:
        return {"connection_class": kind, "tls": self._tls} if self._tls is not None else {}

    async def _open_link(self, tracker: Tracker | None = None) -> Link:
        make = partial(Link, tracker)
        if self._sentinels is None:
            return await self._connect(self._address.nodes[0], make)
        master = await self._sentinels.find_master()
        link = await self._connect(master, make, partial(self._sentinels.confirm, master))
        self._sentinels.stay_at(master, link, self._leave)
        return link

    async def _connect(
        self,
        endpoint: Endpoint,
        make: Callable[[], LinkT],
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> LinkT:
        means = self._address.login, self._tls, self._probe_key
        return await open_link(endpoint, *means, make, self._budget_seconds, confirm)


def _tls_context(address: Address) -> ssl.SSLContext:
    """Build the context the way the client does, so that both read the ``ssl_`` options alike."""
    return SSLConnection(**dict(address.tls_options)).ssl_context.get()
