"""The proxies under test, one file each, all with the same task.

The task: accept a request on a kept-alive connection, find the account of its bearer token or
refuse it, remove the credential, set ``X-Account``, forwarding headers and a request id, forward
the request over a kept-alive connection, and write one JSON line to a file. Each peer has one
worker. A peer that can look up tokens in Redis does so by the token's digest; it finds the bare
account name under a key of its own, so that it need not parse a record.

Each module has one function ``start(place) -> Running`` that raises ``UnavailableError`` if the
peer isn't installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.certificates import Certificate
from benchmarks.processes import Program
from benchmarks.tokens import Holder
from benchmarks.trees import Tree

LOG_FIELDS = (
    '{"time":"$time_iso8601","request_id":"$request_id","client":"$remote_addr",'
    '"method":"$request_method","path":"$uri","status":$status,"account":"$account",'
    '"bytes":$body_bytes_sent,"total":$request_time,"upstream":"$upstream_response_time",'
    '"address":"$upstream_addr"}'
)
"""The access-log format of the nginx peers, with the sidecar's fields."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Routes and accounts beside the calling one's, which a peer must tell apart from it.

    ``bases`` are paths, each the base of a route of its own, to the same upstream; ``holders`` are
    accounts, each with one token.
    """

    bases: tuple[str, ...] = ()
    holders: tuple[Holder, ...] = ()


NOBODY = Neighbours()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs, and what it finds there.

    ``workers``, ``certificate`` (to listen with TLS) and ``neighbours`` are for those that can: the
    sidecar, nginx with and without Lua, and Envoy.

    The last four fields are for the sidecar only: the code that it runs, the Redis database with
    its tokens, how many of them it may cache (``None``: the default), and whether it serves the
    token API.
    """

    directory: Path
    cores: str
    upstream_port: int
    redis_port: int
    holder: Holder
    tree: Tree
    workers: int = 1
    certificate: Certificate | None = None
    neighbours: Neighbours = NOBODY
    database: int = 0
    cache_tokens: int | None = None
    has_portal: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A running peer: its port and programs; for the sidecar also its code, its configuration
    file and the port of the API; with TLS, its certificate.
    """

    port: int
    programs: tuple[Program, ...]
    root: Path | None = None
    configuration: Path | None = None
    portal_port: int = 0
    certificate: Certificate | None = None

    @property
    def url(self) -> str:
        """The address of the peer, without a path."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def client_environment(self) -> Mapping[str, str]:
        """What a client of it needs in its environment."""
        return self.certificate.client_environment if self.certificate else {}

    @property
    def pids(self) -> list[int]:
        """The processes that, with their descendants, make up the peer."""
        return [program.pid for program in self.programs]

    def stop(self) -> None:
        """Stop all of its programs."""
        for program in self.programs:
            program.stop()


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy: its name, how to start it, and what it can't do."""

    name: str
    title: str
    start: Callable[[Place], Running]
    authenticates: bool = True
    is_ours: bool = False
    has_store: bool = True
    """Whether it looks up tokens in Redis; if not, it knows only the calling account's token."""
