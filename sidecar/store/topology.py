"""How each kind of Redis is reached: one, the master that Sentinels name, or a Cluster.

Only masters are ever asked: a replica may not have heard of a revocation. The library's own
retries, back-off and health checks are off, as every call here has one budget for connecting and
answering.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from sidecar.store.address import Address, Topology
from sidecar.store.cluster import ClusterLookups
from sidecar.store.cluster_node import NodeLink
from sidecar.store.link import Endpoint, Link, Login, Tracker, open_link
from sidecar.store.lookups import Lookups

Client = Redis | RedisCluster

_RESP2 = 2  # replies of one form whatever the server's version, and no push messages to wait for
_CLUSTER_ATTEMPTS = 2  # the second one goes where a moved slot now is


class Reach:
    """The two ways to one Redis: a pooled client for commands, and sources for look-ups."""

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
        self._sentinel: Sentinel | None = None
        self.client: Client = self._make_client()

    def make_lookups(self) -> Lookups | ClusterLookups:
        """Return look-ups on links of their own, of which the tracker is told."""
        address = self._address
        if address.topology is Topology.CLUSTER:
            return ClusterLookups(
                address.nodes, self._connect_node, self._budget_seconds, self._tracker
            )
        return Lookups(self._open_link, self._budget_seconds, self._probe_key)

    async def close(self) -> None:
        """Close the client's connections and the Sentinels'."""
        await self.client.aclose()
        for sentinel in self._sentinel.sentinels if self._sentinel is not None else ():
            await sentinel.aclose()

    def _make_client(self) -> Client:
        address = self._address
        if address.topology is Topology.CLUSTER:
            nodes = [ClusterNode(node.host, node.port) for node in address.nodes]
            options = self._options(address.login) | {"retry": _no_retry(_CLUSTER_ATTEMPTS)}
            return RedisCluster(startup_nodes=nodes, **options)
        options = self._options(address.login)
        options |= {"db": address.login.database, "retry": _no_retry()}
        if address.topology is Topology.SENTINEL:
            self._sentinel = self._make_sentinel(options)
            return cast(Redis, self._sentinel.master_for(address.service))
        node = address.nodes[0]
        if node.path is not None:
            return Redis(unix_socket_path=node.path, **options)
        return Redis(host=node.host, port=node.port, **options)

    def _make_sentinel(self, options: dict[str, Any]) -> Sentinel:
        """Ask Sentinels in turn, each in its share of the budget: a dead one costs only that."""
        share = self._budget_seconds / (len(self._address.nodes) + 1)
        own = self._options(self._address.sentinel_login) | {
            "socket_timeout": share,
            "socket_connect_timeout": share,
            "retry": _no_retry(),
        }
        nodes = [(node.host, node.port) for node in self._address.nodes]
        make = cast(Callable[..., Sentinel], Sentinel)  # the library leaves it without types
        return make(nodes, sentinel_kwargs=own, **options)

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
        login = self._address.login
        return await open_link(await self._find_master(), login, self._tls, self._probe_key, make)

    async def _connect_node(self, endpoint: Endpoint, make: Callable[[], NodeLink]) -> NodeLink:
        return await open_link(endpoint, self._address.login, self._tls, self._probe_key, make)

    async def _find_master(self) -> Endpoint:
        if self._sentinel is None:
            return self._address.nodes[0]
        host, port = await self._sentinel.discover_master(self._address.service)
        return Endpoint(str(host), int(port))


def readable(value: Any) -> bytes | None:
    """Return a ``GET``'s value; a key of another type has none. Raises any other error reply."""
    if isinstance(value, ResponseError) and str(value).startswith("WRONGTYPE"):
        return None
    if isinstance(value, Exception):
        raise value
    return cast("bytes | None", value)


def _no_retry(attempts: int = 0) -> Retry:
    return Retry(NoBackoff(), attempts)


def _tls_context(address: Address) -> Any:
    """Build the context the way the client does, so that both read the ``ssl_`` options alike."""
    return SSLConnection(**dict(address.tls_options)).ssl_context.get()
