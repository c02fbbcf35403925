"""Real Clusters and real masters with replicas and Sentinels, on ports of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.redis_servers import RedisServer, command_on

SLOTS = 16384
NODE_TIMEOUT_MS = 1000
DOWN_AFTER_MS = 1000
SERVICE = "tokens"


def wait_until(
    is_so: Callable[..., object], *arguments: object, seconds: float = PATIENCE_SECONDS
) -> None:
    deadline = time.monotonic() + seconds
    while not is_so(*arguments):
        assert time.monotonic() < deadline, f"never: {is_so.__name__}{arguments}"
        time.sleep(0.02)


class ClusterOfServers:
    """Masters that share the slots evenly, and perhaps a replica of each."""

    def __init__(self, servers: list[RedisServer], count: int) -> None:
        self.servers = servers
        self.masters = servers[:count]
        self.replicas = servers[count:]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}"

    def command(self, *words: Any) -> Any:
        """Run one command at the master of its key, or at every master if it has none."""
        if words[0] == "FLUSHALL":
            return [server.command(*words) for server in self.masters_now]
        return self.master_of(str(words[1])).command(*words)

    def form(self) -> None:
        """Share the slots out, introduce everybody to everybody, and wait until all agree."""
        count = len(self.masters)
        for number, master in enumerate(self.masters):
            first, end = SLOTS * number // count, SLOTS * (number + 1) // count
            master.command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            master.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            self.introduce(server)
        for server in self.servers:
            wait_until(self._knows_all, server)
        for master, replica in zip(self.masters, self.replicas, strict=False):
            replica.command("CLUSTER", "REPLICATE", master.node_id)
        for replica in self.replicas:
            wait_until(is_synced, replica)
        self.wait_until_well()

    def welcome(self, newcomer: RedisServer) -> None:
        """Let a server join that serves no slots yet."""
        self.servers.append(newcomer)
        self.introduce(newcomer)
        for server in self.servers:
            wait_until(self._knows_all, server)
            wait_until(is_well, server)

    def dismiss(self, newcomer: RedisServer) -> None:
        """Make all forget a server that serves no slots any more."""
        self.servers.remove(newcomer)
        node_id = newcomer.node_id
        newcomer.kill()
        for server in self.servers:
            server.command("CLUSTER", "FORGET", node_id)

    def replace(self, master: RedisServer) -> None:
        """Have a replica take over from its master in good order."""
        replica = self.replicas[self.masters.index(master)]
        replica.command("CLUSTER", "FAILOVER")

    def introduce(self, server: RedisServer) -> None:
        address = ("127.0.0.1", server.port, server.bus_port)
        self.servers[0].command("CLUSTER", "MEET", *address)

    def _knows_all(self, node: RedisServer) -> bool:
        return f"cluster_known_nodes:{len(self.servers)}".encode() in raw(node, "CLUSTER", "INFO")

    def wait_until_well(self) -> None:
        """Wait until every server that runs thinks that all slots are served."""
        for server in self.running:
            wait_until(is_well, server)

    @property
    def running(self) -> list[RedisServer]:
        return [server for server in self.servers if server.is_running]

    @property
    def masters_now(self) -> list[RedisServer]:
        return [server for server in self.running if role_of(server) == b"master"]

    def master_of(self, key: str) -> RedisServer:
        """Return the running server that serves a key, as the others see it."""
        slot = key_slot(key.encode())
        for server in self.masters_now:
            if owns(server, slot):
                return server
        raise AssertionError(f"nobody serves slot {slot}")

    def migrate(self, slot: int, source: RedisServer, target: RedisServer, rest: float = 0) -> None:
        """Move a slot as ``redis-cli --cluster reshard`` does, resting before each key."""
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            time.sleep(rest)
            self.move_key(keys[0], source, target)
        time.sleep(rest)
        for server in (target, source):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", target.node_id)

    @staticmethod
    def move_key(key: bytes | str, source: RedisServer, target: RedisServer) -> None:
        source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)


def raw(server: RedisServer, *words: object) -> bytes:
    """Return a bulk reply as it is."""
    reply = server.command(*words)
    return reply if isinstance(reply, bytes) else repr(reply).encode()


def is_well(server: RedisServer) -> bool:
    return b"cluster_state:ok" in raw(server, "CLUSTER", "INFO")


def is_synced(server: RedisServer) -> bool:
    told = server.command("INFO", "replication")
    return bool(told["role"] == "slave" and told["master_link_status"] == "up")


def role_of(server: RedisServer) -> bytes:
    return bytes(server.command("ROLE")[0])


def owns(server: RedisServer, slot: int) -> bool:
    myself = server.node_id
    return any(
        first <= slot <= last and owner[2] == myself
        for first, last, owner, *_ in server.command("CLUSTER", "SLOTS")
    )


@contextmanager
def running_cluster(
    binary: str,
    directory: Path,
    *settings: str,
    masters: int = 3,
    has_replicas: bool = False,
    tls: Sequence[str] = (),
) -> Iterator[ClusterOfServers]:
    """Run a Cluster for as long as the block lasts."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(cluster_server(binary, directory / str(number), *settings, tls=tls))
            for number in range(masters * 2 if has_replicas else masters)
        ]
        cluster = ClusterOfServers(servers, masters)
        cluster.form()
        yield cluster


@contextmanager
def cluster_server(
    binary: str, directory: Path, *settings: str, tls: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """Run one server that can join a Cluster."""
    directory.mkdir(parents=True)
    bus_port = free_port()
    own = ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
    own += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0"]
    server = RedisServer(binary, directory, *own, *settings, tls=tls)
    server.bus_port = bus_port
    try:
        server.start()
        yield server
    finally:
        server.kill()


class SentinelGroup:
    """A master with replicas, and Sentinels that watch them."""

    def __init__(self, servers: list[RedisServer], sentinels: list[SentinelProcess]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    def url(self, database: int = 0) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/{database}"

    @property
    def master(self) -> RedisServer:
        """Return the server that most Sentinels name as the master."""
        ports = [sentinel.named_port() for sentinel in self.sentinels if sentinel.is_running]
        port = max(ports, key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def replace(self, _: RedisServer) -> None:
        """Have the Sentinels promote a replica in good order."""
        self.sentinels[0].server.command("SENTINEL", "FAILOVER", SERVICE)

    def master_command(self, database: int) -> Callable[..., Any]:
        """Return what runs one command at the master, in this database."""
        return partial(command_on, self.master.socket, database=database)

    def wait_until_well(self, replicas: int) -> None:
        """Wait until the Sentinels know each other and so many replicas are in sync."""
        for sentinel in self.sentinels:
            others = len(self.sentinels) - 1
            wait_until(sentinel.knows, others, replicas)


class SentinelProcess:
    """One Sentinel."""

    def __init__(
        self, binary: str, directory: Path, master_port: int, tls: Sequence[str] = ()
    ) -> None:
        directory.mkdir(parents=True)
        self.server = RedisServer(binary, directory)
        lines = [
            f"port {0 if tls else self.server.port}",
            f"tls-port {self.server.port if tls else 0}",
            *(f"{name[2:]} {value}" for name, value in zip(tls[::2], tls[1::2], strict=True)),
            f"unixsocket {self.server.socket}",
            f"dir {directory}",
            "bind 127.0.0.1",
            f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        self._file = directory / "sentinel.conf"
        self._file.write_text("\n".join(lines) + "\n")
        self._binary = binary

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def is_running(self) -> bool:
        return self.server.is_running

    def start(self) -> None:
        self.server.run([self._binary, str(self._file), "--sentinel"])

    def named_port(self) -> int:
        return int(self.server.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def knows(self, others: int, replicas: int) -> bool:
        told: Any = self.server.command("SENTINEL", "MASTER", SERVICE)
        told = dict(zip(told[::2], told[1::2], strict=True)) if isinstance(told, list) else told
        told = {as_text(key): as_text(value) for key, value in told.items()}
        is_known = int(told["num-other-sentinels"]) == others
        return is_known and int(told["num-slaves"]) >= replicas


def as_text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@contextmanager
def running_sentinels(
    binary: str,
    directory: Path,
    *settings: str,
    replicas: int = 2,
    sentinels: int = 3,
    tls: Sequence[str] = (),
) -> Iterator[SentinelGroup]:
    """Run a master, its replicas and their Sentinels for as long as the block lasts."""
    with ExitStack() as stack:
        servers: list[RedisServer] = []
        for number in range(1 + replicas):
            home = directory / f"server{number}"
            home.mkdir(parents=True)
            more = ["--repl-diskless-sync-delay", "0", *settings]
            if servers:
                more += ["--replicaof", f"127.0.0.1 {servers[0].port}"]
            servers.append(RedisServer(binary, home, *more, tls=tls))
            stack.callback(servers[-1].kill)
            servers[-1].start()
        for replica in servers[1:]:
            wait_until(is_synced, replica)
        watchers = [
            SentinelProcess(
                binary,
                directory / f"sentinel{number}",
                servers[0].port,
                tls,
            )
            for number in range(sentinels)
        ]
        for sentinel in watchers:
            stack.callback(sentinel.server.kill)
            sentinel.start()
        group = SentinelGroup(servers, watchers)
        group.wait_until_well(replicas)
        yield group
