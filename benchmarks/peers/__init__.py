"""The proxies under test, one file each, all with the same job.

The job: take a call on a kept-alive connection, find the account that its bearer token belongs
to, refuse it otherwise, drop the credential, set ``X-Account``, forwarded headers and a request
id, pass the call on over a kept-alive connection, and write one JSON line to a file. One worker
each. Where a peer can look a token up in Redis, it asks for the digest of the token, and finds
there the bare account name under a key of its own, which spares it the reading of a record.

Each module has one function ``start(place) -> Running`` that raises ``UnavailableError`` if the
peer isn't installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Program
from benchmarks.tokens import Holder
from benchmarks.trees import Tree

LOG_FIELDS = (
    '{"time":"$time_iso8601","request_id":"$request_id","client":"$remote_addr",'
    '"method":"$request_method","path":"$uri","status":$status,"account":"$account",'
    '"bytes":$body_bytes_sent,"total":$request_time,"upstream":"$upstream_response_time",'
    '"address":"$upstream_addr"}'
)
"""The access-log line of the nginx peers, with the fields that the sidecar writes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer is to run, and what it finds there.

    The last four are for ours alone: the code that it runs, the Redis database its tokens are in,
    how many of them it may keep (``None``: as it comes), and whether it serves the token API.
    """

    directory: Path
    cores: str
    upstream_port: int
    redis_port: int
    holder: Holder
    tree: Tree
    database: int = 0
    cache_tokens: int | None = None
    has_portal: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A started peer: where it listens, its programs, and of ours the code that it runs, its file
    and the API's port.
    """

    port: int
    programs: tuple[Program, ...]
    root: Path | None = None
    configuration: Path | None = None
    portal_port: int = 0

    @property
    def pids(self) -> list[int]:
        """The processes whose descendants included make up the peer."""
        return [program.pid for program in self.programs]

    def stop(self) -> None:
        """End all of it."""
        for program in self.programs:
            program.stop()


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy: how it is named, how it is started, and what it can't do."""

    name: str
    title: str
    start: Callable[[Place], Running]
    authenticates: bool = True
    is_ours: bool = False
    has_store: bool = True
    """Whether it can look up a token in Redis; one that can't knows the holder's token alone."""
