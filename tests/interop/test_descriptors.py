"""164 callers at once where only 64 files may be open: nginx, Caddy and HAProxy beside us.

A process that small serves few at once. What is asked is that nobody is reset, that no error is
made up for it, and that the process can still be asked how it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.e2e.conftest import plain_settings, redis_binary
from tests.interop.decision_fronts import pick_port
from tests.interop.peers import CADDY_HEAD, HAPROXY_HEAD, NGINX_HEAD, limited, running_peer
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ENVIRONMENT, ROOT, SIDECAR, ProxyProcess
from tests.redis_servers import RedisServer, running_redis

DESCRIPTORS = 64
CALLERS = 164
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

CONFIGURATIONS = {
    "nginx": NGINX_HEAD
    + """
http {{
    access_log off;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{service}; }} }}
}}
""",
    "caddy": CADDY_HEAD
    + """
}}
http://127.0.0.1:{port} {{
    reverse_proxy 127.0.0.1:{service}
}}
""",
    "haproxy": """
global
    nbthread 1
    maxconn 12
"""
    + HAPROXY_HEAD
    + """
frontend all
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server one 127.0.0.1:{service}
""",
}


class LimitedProxy(ProxyProcess):
    """A sidecar that may open few files."""

    def __init__(self, directory: Path, settings: dict[str, Any], descriptors: int) -> None:
        super().__init__(directory, settings)
        self._command = limited(self._command, descriptors)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextlib.asynccontextmanager
async def slow_service() -> AsyncIterator[int]:
    """Run a service that thinks for a fifth of a second; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.2)
                writer.write(ANSWER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


class Play(NamedTuple):
    """How each caller behaves: what it sends before and after its request, and its silence."""

    waits_seconds: float = 0.0
    stays_seconds: float = 0.0
    fields: str = ""


PLAYS = {
    "one request each": Play(),
    "kept open afterwards": Play(stays_seconds=0.5),
    "connected long before": Play(waits_seconds=0.3),
    "closing": Play(fields="Connection: close\r\n"),
    "with a body": Play(fields="Content-Length: 4\r\n"),
}


async def call(port: int, play: Play, patience_seconds: float) -> str:
    """Return the status that one caller got, or the name of what went wrong."""
    try:
        async with asyncio.timeout(patience_seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                await asyncio.sleep(play.waits_seconds)
                body = "1234" if "Length" in play.fields else ""
                fields = f"Host: 127.0.0.1\r\n{play.fields}"  # the name that Caddy's site has
                writer.write(f"GET /status HTTP/1.1\r\n{fields}\r\n{body}".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(play.stays_seconds)
    except (OSError, asyncio.IncompleteReadError) as error:
        return type(error).__name__
    return head.split()[1].decode()


async def ask_health(port: int, found: Counter[str]) -> None:
    """Ask again and again, each time over a new connection."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                async with asyncio.timeout(PATIENCE_SECONDS):  # 3.11's wait_for may lose a cancel
                    answer = await reader.read()
            found[answer.split()[1].decode() if answer else "closed"] += 1
        except OSError as error:
            found[type(error).__name__] += 1
        await asyncio.sleep(0.05)


async def crowd(port: int, play: Play, patience_seconds: float = PATIENCE_SECONDS) -> Counter[str]:
    calls = [call(port, play, patience_seconds) for _ in range(CALLERS)]
    return Counter(await asyncio.gather(*calls))


@pytest.mark.parametrize("name", PLAYS)
def test_every_caller_is_answered_and_the_health_too(
    redis: RedisServer, tmp_path: Path, name: str
) -> None:
    health: Counter[str] = Counter()

    async def play() -> Counter[str]:
        async with slow_service() as service:
            settings = plain_settings(redis, f"http://127.0.0.1:{service}")
            proxy = LimitedProxy(tmp_path, settings, DESCRIPTORS)
            await asyncio.to_thread(proxy.start)
            operations = int(proxy.settings["operations"]["address"].rpartition(":")[2])
            asking = asyncio.create_task(ask_health(operations, health))
            try:
                return await crowd(proxy.port, PLAYS[name])
            finally:
                asking.cancel()
                await asyncio.wait({asking})
                await asyncio.to_thread(proxy.stop)
                assert "upstream_unreachable" not in proxy.stderr
                assert "limits.connections is 10000, and the limit of 64 open files" in proxy.stderr

    assert asyncio.run(play()) == {"200": CALLERS}
    assert set(health) == {"200"}


@pytest.mark.parametrize("peer", CONFIGURATIONS)
def test_no_peer_answers_more_of_them(tmp_path: Path, peer: str) -> None:
    """All are answered by us (above): that can be equalled, and is not by each of the peers."""

    async def play() -> Counter[str]:
        port = pick_port()
        async with slow_service() as service:
            text = CONFIGURATIONS[peer].format(
                port=port, service=service, directory=tmp_path, connections=1024
            )
            with running_peer(peer, tmp_path, port, text, descriptors=DESCRIPTORS):
                return await crowd(port, PLAYS["one request each"], patience_seconds=10.0)

    answered = asyncio.run(play())
    print(peer, dict(answered))
    assert answered["200"] <= CALLERS


def limited_command(
    config: Path, descriptors: int, *words: str
) -> subprocess.CompletedProcess[str]:
    command = limited([*SIDECAR, *words, "--config", str(config)], descriptors)
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**ENVIRONMENT, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def written(place: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    settings = {
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "upstreams": {"a": {"url": "http://127.0.0.1:1"}},
        "routes": [{"path": "/**", "public": True}],
    }
    change(settings)
    config = place / "sidecar.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


@pytest.mark.parametrize(
    ("descriptors", "limits", "pool", "warns"),
    [
        (64, {}, 512, True),
        (1024, {}, 512, True),
        (1024, {"connections": 300}, 512, False),
        (1024, {"connections": 600}, 16, False),
        (1024, {"connections": 800}, 16, True),
        (20_000, {}, 512, False),
    ],
)
def test_check_warns_of_a_limit_that_is_too_small_with_the_numbers(
    tmp_path: Path, descriptors: int, limits: dict[str, Any], pool: int, warns: bool
) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["limits"] = limits
        settings["upstreams"]["a"]["max_connections"] = pool

    done = limited_command(written(tmp_path, change), descriptors, "check")
    assert done.returncode == 0, done.stderr
    assert ("warning: limits.connections" in done.stderr) == warns
    if warns:
        assert f"the limit of {descriptors} open files" in done.stderr
        assert f"Upstreams may take {pool} more" in done.stderr
