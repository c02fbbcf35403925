"""How each kind of Redis is reached: one server, the master that Sentinels name, or a Cluster.

Only masters are ever asked: a replica may not have heard of a revocation. The retries, back-off,
health checks and time-outs of redis-py are off: every call has one budget for connecting and
answering (``faults.budget``), which a busy loop does not spend.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from typing import Any, cast

from redis.asyncio import (
    ConnectionPool,
    Redis,
    RedisCluster,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sidecar.store.cluster import Cluster
from sidecar.store.commands import CommandChannel, PipelineChannel
from sidecar.store.dialing import DialedConnection, DialedMasterConnection, StoreDialer
from sidecar.store.endpoints import Endpoint, Login
from sidecar.store.link_channel import LinkChannel
from sidecar.store.lookups import Lookups
from sidecar.store.redis_link import RedisLink, RedisLinkT, Tracker, open_link
from sidecar.store.sentinels import Sentinels
from sidecar.store.store_url import StoreUrl, Topology
from sidecar.store.tls import tls_context

Client = Redis | RedisCluster

_RESP2 = 2  # replies have one form with any server version, and there are no push messages


class RedisConnector:
    """Opens the connections to a Redis: for commands, and links for look-ups."""

    def __init__(
        self,
        url: StoreUrl,
        budget_seconds: float,
        probe_key: bytes,
        tracker: Tracker | None = None,
    ) -> None:
        self._url = url
        self._budget_seconds = budget_seconds
        self._probe_key = probe_key
        self._tracker = tracker
        self._dialer = StoreDialer(tls_context(url.tls_options) if url.is_tls else None)
        is_cluster, is_sentinel = (
            url.topology is kind for kind in (Topology.CLUSTER, Topology.SENTINEL)
        )
        self._cluster = self._make_cluster() if is_cluster else None
        self._sentinels = self._make_sentinels() if is_sentinel else None

    def _make_cluster(self) -> Cluster:
        return Cluster(
            self._url.nodes,
            self._connect,
            self._budget_seconds,
            self._probe_key,
            self._tracker,
        )

    @cached_property
    def client(self) -> Client:
        """The client of redis-py, for what only it can do."""
        return self._make_client()

    @cached_property
    def channel(self) -> CommandChannel:
        """The channel for commands."""
        return self._cluster or PipelineChannel(cast(Redis, self.client))

    @cached_property
    def quick_channel(self) -> CommandChannel:
        """The channel for frequent commands: a link, which costs a third of redis-py."""
        return self._cluster or LinkChannel(
            self._open_link
        )  # no tracker: one link reports the changes

    def make_lookups(self) -> Lookups | Cluster:
        """Return look-ups on links of their own, which report changes to the tracker."""
        open_link = partial(self._open_link, self._tracker)
        return self._cluster or Lookups(open_link, self._budget_seconds, self._probe_key)

    async def close(self) -> None:
        """Close all connections except those of look-ups."""
        if self._cluster is not None:
            await self._cluster.close()
        quick = vars(self).get("quick_channel")
        if isinstance(quick, LinkChannel):
            await quick.close()
        await self._leave()
        if self._sentinels is not None:
            await self._sentinels.close()

    async def _leave(self) -> None:
        """Close redis-py's connections; the next command opens new ones."""
        if "client" in vars(self):
            await self.client.aclose()

    def _make_client(self) -> Client:
        url = self._url
        if url.topology is Topology.CLUSTER:
            nodes = [ClusterNode(node.host, node.port) for node in url.nodes]
            tls = {**url.tls_options, "ssl": url.is_tls}
            return RedisCluster(startup_nodes=nodes, **self._options(url.login), **tls)
        if self._sentinels is None:
            return self._make_redis(url.nodes[0], url.login)
        options = self._options(url.login) | self._dialed(DialedMasterConnection)
        return cast(Redis, self._sentinels.master_for(url.service, **options))

    def _make_sentinels(self) -> Sentinels:
        url = self._url
        clients = [self._make_redis(node, url.sentinel_login) for node in url.nodes]
        return Sentinels(clients, url.service, self._budget_seconds)

    def _make_redis(self, endpoint: Endpoint, login: Login) -> Redis:
        options = self._options(login)
        if endpoint.path is not None:
            options |= {"connection_class": UnixDomainSocketConnection, "path": endpoint.path}
        else:
            options |= self._dialed(DialedConnection)
            options |= {"host": endpoint.host, "port": endpoint.port}
        return Redis.from_pool(ConnectionPool(**options))

    def _options(self, login: Login) -> dict[str, Any]:
        options: dict[str, Any] = {
            "protocol": _RESP2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": None,
        }
        if self._url.topology is not Topology.CLUSTER:
            options["db"] = login.database
        if login.password is not None:
            options |= {"username": login.username, "password": login.password}
        return options

    def _dialed(self, kind: type[DialedConnection]) -> dict[str, Any]:
        return {"connection_class": kind, "dialer": self._dialer}

    async def _open_link(self, tracker: Tracker | None = None) -> RedisLink:
        make = partial(RedisLink, tracker)
        if self._sentinels is None:
            return await self._connect(self._url.nodes[0], make)
        master = await self._sentinels.find_master()
        link = await self._connect(master, make, partial(self._sentinels.confirm, master))
        self._sentinels.stay_at(master, link, self._leave)
        return link

    async def _connect(
        self,
        endpoint: Endpoint,
        make: Callable[[], RedisLinkT],
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> RedisLinkT:
        means = self._url.login, self._dialer, self._probe_key
        return await open_link(endpoint, *means, make, self._budget_seconds, confirm)
