"""What ``store.url`` means: which Redis, as whom, in which database, with or without TLS.

===================================================  ===============================================
``redis://[user:password@]host[:port][/db]``         one Redis
``rediss://...``                                     the same over TLS
``unix:///path/to/socket[?db=0]``                    one Redis on a unix socket
``redis+sentinel://h1:26379,h2:26379/NAME[/db]``     the master that Sentinels name
``redis+cluster://h1:6379,h2:6379``                  a Cluster
===================================================  ===============================================

``rediss+sentinel://`` and ``rediss+cluster://`` are those over TLS. Query options: ``db``,
``username``, ``password``, ``sentinel_username``, ``sentinel_password``, and the ``ssl_*`` options
of redis-py. Errors never repeat a faulty URL, which may hold a password.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote

from sidecar.core.authority import read_hosts, split_url
from sidecar.core.errors import UsageError
from sidecar.store.endpoints import Endpoint, Login

_TLS_OPTIONS = frozenset(
    f"ssl_{name}"
    for name in (
        *("ca_certs", "ca_path", "certfile", "keyfile", "password"),
        *("cert_reqs", "check_hostname", "ciphers"),
    )
)
_OPTIONS = frozenset(
    ["db", "username", "password", "sentinel_username", "sentinel_password", *_TLS_OPTIONS]
)
_REDIS_PORT = 6379
_SENTINEL_PORT = 26379


class Topology(Enum):
    """How many servers there are, and how the one to ask is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A checked store URL. ``repr`` shows no password."""

    topology: Topology
    nodes: tuple[Endpoint, ...]
    """The Redis, or the Sentinels, or some nodes of the Cluster."""
    login: Login
    is_tls: bool = False
    tls_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """redis-py's ``ssl_*`` options; one of them can be the password of a private key."""
    service: str = ""
    """The name under which Sentinels know the master."""
    sentinel_login: Login = field(default_factory=Login)


_TOPOLOGY_OF_SCHEME = {
    "redis": Topology.SINGLE,
    "unix": Topology.SINGLE,
    "redis+sentinel": Topology.SENTINEL,
    "redis+cluster": Topology.CLUSTER,
}


def parse_store_url(url: str) -> StoreUrl:
    """Return what ``url`` means; ``UsageError`` says what is wrong without repeating the URL."""
    try:
        parts = split_url(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise UsageError("the store's URL is not a URL") from None
    is_tls = parts.scheme.startswith("rediss")
    topology = _TOPOLOGY_OF_SCHEME.get(parts.scheme.replace("rediss", "redis"))
    if topology is None:
        raise UsageError(
            "the store's URL begins with none of redis://, rediss://, unix://, "
            "redis+sentinel://, redis+cluster://"
        )
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise UsageError(f"the store's URL has an unknown option: {', '.join(unknown)}")
    service, database = _split_path(parts, topology)
    return StoreUrl(
        topology=topology,
        nodes=_parse_nodes(parts, topology),
        login=_parse_login(parts, options, database),
        is_tls=is_tls,
        tls_options=_parse_tls(options, is_tls),
        service=service,
        sentinel_login=_login(
            options.get("sentinel_username"), options.get("sentinel_password"), 0
        ),
    )


def _split_path(parts: SplitResult, topology: Topology) -> tuple[str, str]:
    """Return the Sentinels' service name and the database as written; either may be empty."""
    path = unquote(parts.path).strip("/")
    if parts.scheme == "unix":
        return "", ""
    if topology is not Topology.SENTINEL:
        return "", path
    service, _, database = path.partition("/")
    if not service:
        raise UsageError(
            "the store's URL names no master: write redis+sentinel://host:port/NAME/DB"
        )
    return service, database


def _parse_nodes(parts: SplitResult, topology: Topology) -> tuple[Endpoint, ...]:
    if parts.scheme == "unix":
        if not parts.path or parts.netloc.rpartition("@")[2]:
            raise UsageError("the store's URL names no socket: write unix:///path/to/socket")
        return (Endpoint(path=unquote(parts.path)),)
    try:
        hosts = read_hosts(parts.netloc)
    except ValueError:
        raise UsageError("the store's URL has a host or port that can't be read") from None
    if topology is Topology.SINGLE and len(hosts) > 1:
        raise UsageError(
            "the store's URL names several hosts: that is redis+sentinel:// or redis+cluster://"
        )
    default = _SENTINEL_PORT if topology is Topology.SENTINEL else _REDIS_PORT
    return tuple(Endpoint(unquote(host.name), host.port or default) for host in hosts)


def _parse_login(parts: SplitResult, options: Mapping[str, str], database: str) -> Login:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    number = options.get("db", database) or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise UsageError("the store's URL has a database that is not a number")
    if parts.scheme.endswith("+cluster") and int(number):
        raise UsageError("a Redis Cluster has database 0 alone")
    return _login(
        unquote(user) or options.get("username"),
        unquote(password) or options.get("password"),
        int(number),
    )


def _login(username: str | None, password: str | None, database: int) -> Login:
    return Login(username or "default", password or None, database)


def _parse_tls(options: Mapping[str, str], is_tls: bool) -> dict[str, Any]:
    chosen: dict[str, Any] = {name: options[name] for name in _TLS_OPTIONS & options.keys()}
    if chosen and not is_tls:
        raise UsageError(
            "the store's URL has ssl_ options and no TLS: write rediss instead of redis"
        )
    if "ssl_check_hostname" in chosen:
        chosen["ssl_check_hostname"] = chosen["ssl_check_hostname"].lower() in {"true", "1", "yes"}
    if chosen.get("ssl_cert_reqs") == "none":
        chosen["ssl_check_hostname"] = False
    return chosen
