"""How each kind of Redis is reached: one, the master that Sentinels name, or a Cluster.

Only masters are ever asked: a replica may not have heard of a revocation. The library's own
retries, back-off and health checks are off, as every call here has one budget for connecting and
answering.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sidecar.store.address import Address, Topology
from sidecar.store.cluster import Cluster
from sidecar.store.commands import Channel, PipelineChannel
from sidecar.store.link import Endpoint, Link, LinkT, Login, Tracker, open_link
from sidecar.store.lookups import Lookups
from sidecar.store.sentinels import Sentinels

Client = Redis | RedisCluster

_RESP2 = 2  # replies of one form whatever the server's version, and no push messages to wait for


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

    def make_lookups(self) -> Lookups | Cluster:
        """Return look-ups on links of their own, of which the tracker is told."""
        return self._cluster or Lookups(self._open_link, self._budget_seconds, self._probe_key)

    async def close(self) -> None:
        """Close all connections but those of look-ups."""
        if self._cluster is not None:
            await self._cluster.close()
        await self._leave()
        if self._sentinels is not None:
            await self._sentinels.close()

    async def _leave(self) -> None:
        """Close the library's connections; what is asked next makes new ones."""
        if "client" in vars(self):
            await self.client.aclose()

    def _make_client(self) -> Client:
        address = self._address
        options = self._options(address.login) | {"retry": _no_retry()}
        if address.topology is Topology.CLUSTER:
            nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
            return RedisCluster(startup_nodes=nodes, **options)
        options["db"] = address.login.database
        if self._sentinels is not None:
            return cast(Redis, self._sentinels.master_for(address.service, **options))
        node = address.nodes[0]
        if node.path is not None:
            return Redis(unix_socket_path=node.path, **options)
        return Redis(host=node.host, port=node.port, **options)

    def _make_sentinels(self) -> Sentinels:
        address = self._address
        own = self._options(address.sentinel_login) | {"retry": _no_retry()}
        return Sentinels(address.nodes, address.service, self._budget_seconds, sentinel_kwargs=own)

    def _options(self, login: Login) -> dict[str, Any]:
        options: dict[str, Any] = {
            "protocol": _RESP2,
            "socket_timeout": self._budget_seconds,
            "socket_connect_timeout": self._budget_seconds,
            **self._address.tls_options,
        }
        if self._address.is_tls:
            options["ssl"] = True
        if login.password is not None:
            options |= {"username": login.username, "password": login.password}
        return options

    async def _open_link(self) -> Link:
        make = partial(Link, self._tracker)
        if self._sentinels is None:
            return await self._connect(self._address.nodes[0], make)
        master = await self._sentinels.find_master()
        link = await self._connect(master, make)
        await self._sentinels.stay_at(master, link, self._leave)
        return link

    async def _connect(self, endpoint: Endpoint, make: Callable[[], LinkT]) -> LinkT:
        return await open_link(endpoint, self._address.login, self._tls, self._probe_key, make)


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


def _tls_context(address: Address) -> Any:
    """Build the context the way the client does, so that both read the ``ssl_`` options alike."""
    return SSLConnection(**dict(address.tls_options)).ssl_context.get()
