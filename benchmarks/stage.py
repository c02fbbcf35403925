"""The stage of a scenario: Redis, the upstream and the peers it needs, stopped together."""

from __future__ import annotations

import copy
import http.client
import os
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from benchmarks import certificates, measure, tokens, trees, upstream, wrk
from benchmarks.peers import Peer, Place, Running
from benchmarks.peers.registry import PEERS
from benchmarks.processes import BenchError, Cores
from benchmarks.redis_server import RedisServer
from benchmarks.trees import Tree
from benchmarks.upstream import BASE
from sidecar.core.model import TokenRecord
from sidecar.core.tokens import digest
from sidecar.store import record

OLD_DATABASES = 8
"""The first of the Redis databases that the old tree uses."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how large a run is. The defaults are those of a real run.

    ``old`` is the tree to compare with, if any.
    """

    rounds: int = 7
    seconds: int = 5
    warm_up_seconds: int = 1
    settle_seconds: float = 6.0
    peers: tuple[str, ...] = tuple(PEERS)
    rotating_tokens: int = 200_000
    cache_tokens: int = 10_000
    many_tokens: int = 1_000_000
    stream_bytes: int = 2**30
    idle_connections: int = 10_000
    trials: int = 500
    tree: Tree = field(default_factory=trees.ours)
    old: Tree | None = None

    @classmethod
    def tiny(cls) -> Settings:
        """Return the smallest scale that shows that the benchmark itself works."""
        return cls(
            rounds=1,
            seconds=1,
            settle_seconds=0.0,
            rotating_tokens=2_000,
            cache_tokens=100,
            many_tokens=5_000,
            stream_bytes=2**24,
            idle_connections=200,
            trials=10,
        )


class Stage:
    """What runs around the peers. A context manager that stops every program at its end."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory = directory
        self.settings = settings
        self.tree = settings.tree
        self.cores = Cores.of_this_machine()
        self.holder = tokens.Holder()
        self.agreed: dict[str, float] = {}
        """What all plans of a scenario have in common once one of them has measured it, by name."""
        self._stack = ExitStack()
        self._started = 0
        self._first_database = 0

    def __enter__(self) -> Stage:
        self.directory.mkdir(parents=True)
        with ExitStack() as stack:
            self.redis = RedisServer(self.directory / "redis", cores=self.cores.around)
            stack.callback(self.redis.stop)
            self.upstream = upstream.start(
                self.directory / "upstream",
                cores=self.cores.around,
                big_bytes=self.settings.stream_bytes,
            )
            stack.callback(self.upstream.stop)
            self.know([self.holder.token])
            self.certificate = certificates.make(self.directory)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def with_tree(self, tree: Tree) -> Stage:
        """Return the same stage with the sidecar of another tree.

        Redis, the upstream, what was agreed and the cleanup are shared; the directory is not.
        """
        other = copy.copy(self)
        other.tree = tree
        other._first_database = OLD_DATABASES
        other.directory = self.directory / "old"
        other.directory.mkdir()
        return other

    def know(
        self,
        given: list[str],
        *,
        account: str = "",
        database: int = 0,
        lifetime_seconds: float = tokens.LIFETIME_SECONDS,
    ) -> None:
        """Store these tokens for every peer (the peers' keys are in database 0 only).

        They belong to ``account``; empty: to the caller's. The old tree has its tokens in databases
        of its own, in the format that it reads.
        """
        account = account or self.holder.account
        if database == 0:
            self.redis.send(tokens.peers_commands(given, account))
        ours = tokens.sidecar_commands(given, account, lifetime_seconds=lifetime_seconds)
        self.redis.send(ours, database=database)
        if self.settings.old is not None:
            old = tokens.commands_of(
                self.settings.old.root, given, account, lifetime_seconds=lifetime_seconds
            )
            self.redis.send(old, database=OLD_DATABASES + database)

    def record(self, token: str) -> TokenRecord:
        """Return the record of a token in database 0."""
        value = self.redis.ask(b"GET", tokens.sidecar_key(token)) or b""
        known = record.decode(digest(token), value)
        if known is None:
            raise BenchError("a token's record is not in Redis")
        return known

    def start(self, name: str, **changes: object) -> Running:
        """Start a peer and check that it lets only the right caller in.

        ``changes`` are fields of ``Place``. Raises ``UnavailableError``.
        """
        self._started += 1
        place = Place(
            directory=self.directory / f"{self._started}-{name}",
            cores=self.cores.peer,
            upstream_port=self.upstream.port,
            redis_port=self.redis.port,
            holder=self.holder,
            tree=self.tree,
        )
        place = replace(place, **changes)  # type: ignore[arg-type]
        place = replace(place, database=self._first_database + place.database)
        running = PEERS[name].start(place)
        self._stack.callback(running.stop)
        echoes = place.upstream_port == self.upstream.port
        _check_admission(PEERS[name], running, self.holder, echoes=echoes)
        return running

    def load(
        self, running: Running, load: wrk.Load, seconds: int, settle_seconds: float = 0.0
    ) -> tuple[measure.Sample, wrk.Result]:
        """Put a load on a peer for whole seconds (``settle_seconds``: ``measure.under_load``)."""
        return measure.under_load(
            running,
            self.redis,
            load,
            seconds=seconds,
            cores=self.cores.around,
            settle_seconds=settle_seconds,
        )


def _check_admission(peer: Peer, running: Running, holder: tokens.Holder, *, echoes: bool) -> None:
    """Raise ``BenchError`` unless the good token passes and all others fail.

    An upstream that ``echoes`` shows whether it received the account, and no token.
    """
    expected = f"{holder.account if peer.authenticates else 'anyone'}|".encode()
    status, body = _ask_who_am_i(running, holder.token)
    if status != 200 or (echoes and body != expected):
        raise BenchError(f"{peer.name} answered a good token with {status}, not as {expected!r}")
    if not peer.authenticates:
        return
    for bad in (*tokens.mint(1), tokens.spoil(holder.token), os.urandom(20).hex(), ""):
        status, _ = _ask_who_am_i(running, bad)
        if status == 503:  # on a busy machine the store may not answer in time
            time.sleep(1.0)
            status, _ = _ask_who_am_i(running, bad)
        if status != 401:
            raise BenchError(f"{peer.name} answered a bad token with {status}")


def _ask_who_am_i(running: Running, token: str) -> tuple[int, bytes]:
    connection = _connection_to(running)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", f"{BASE}/whoami", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise BenchError(f"no answer that is HTTP: {error!r}") from error
    finally:
        connection.close()


def _connection_to(running: Running) -> http.client.HTTPConnection:
    if running.certificate is None:
        return http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    context = ssl.create_default_context(cafile=str(running.certificate.certificate))
    return http.client.HTTPSConnection("127.0.0.1", running.port, timeout=10, context=context)
