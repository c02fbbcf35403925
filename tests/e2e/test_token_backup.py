"""Export, flush, import: every token passes again and ends when it would have ended."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.keys import generate_key
from tests.command_line import run_command
from tests.e2e.conftest import plain_settings, redis_binary
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, running_redis
from tests.upstream_recorder import Recorder

IMPORTED = "of-the-old-system/1234567890"
ENDS = """
local ttl, now = redis.call('PTTL', KEYS[1]), redis.call('TIME')
return ttl < 0 and ttl or now[1] * 1000 + math.floor(now[2] / 1000) + ttl
"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(
    redis: RedisServer, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    settings = plain_settings(redis, recorder.url)
    settings["jwt"] = {
        "keys": [{"id": "k", "algorithm": "EdDSA", "private_key": generate_key("EdDSA")}]
    }
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), settings) as running:
        yield running


def command(proxy: ProxyProcess, *words: str, stdin: str | None = None) -> str:
    done = run_command(*words, "--config", str(proxy.config), stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(proxy: ProxyProcess, name: str, days: int, *more: str) -> str:
    asked = ("--account", "acme", "--name", name, "--days", str(days))
    return command(proxy, "token", "create", *asked, *more).strip()


def status_of(proxy: ProxyProcess, token: str) -> int:
    with closing(
        http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)
    ) as client:
        client.request("GET", "/v1/dynamic/listener/a1", headers={"access_token": token})
        return client.getresponse().status


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.05)


def listed(proxy: ProxyProcess) -> dict[str, dict[str, Any]]:
    found = json.loads(command(proxy, "token", "list", "--json"))
    return {token["name"]: token for token in found}


def ends_of(redis: RedisServer) -> dict[str, int]:
    """Return when each record ends, in Unix milliseconds; -1: never."""
    keys = redis.command("KEYS", "sidecar:token:*")
    return {key.decode(): redis.command("EVAL", ENDS, 1, key) for key in keys}


def make_tokens(proxy: ProxyProcess) -> dict[str, str]:
    tokens = {
        "day": create(proxy, "day", 1),
        "unlimited": create(proxy, "unlimited", 0),
        "jwt": create(proxy, "jwt", 9, "--kind", "jwt"),
        "jwt unlimited": create(proxy, "jwt unlimited", 0, "--kind", "jwt"),
        "limited": create(proxy, "limited", 1, "--path", "/v1/**"),
        "imported": IMPORTED,
    }
    asked = ("--account", "acme", "--name", "imported", "--days", "3")
    command(proxy, "token", "import", *asked, stdin=IMPORTED)
    return tokens


def test_every_token_works_again_and_a_revoked_one_does_not(
    proxy: ProxyProcess, redis: RedisServer, tmp_path: Path
) -> None:
    tokens = make_tokens(proxy)
    revoked = [
        create(proxy, "revoked", 1),
        create(proxy, "revoked jwt", 1, "--kind", "jwt"),
    ]
    for name in ("revoked", "revoked jwt"):
        command(proxy, "token", "revoke", listed(proxy)[name]["id"])
    old = create(proxy, "rotated", 30)
    new = command(proxy, "token", "rotate", listed(proxy)["rotated"]["id"]).strip()
    tokens |= {"rotated": old, "successor": new}
    assert {name: status_of(proxy, token) for name, token in tokens.items()} == dict.fromkeys(
        tokens, 200
    )
    wait_until(lambda: all(token["last_used_at"] for token in listed(proxy).values()))
    before, ends = command(proxy, "token", "list", "--json"), ends_of(redis)

    backup = command(proxy, "store", "export")
    assert not any(token in backup for token in [*tokens.values(), *revoked])
    redis.command("FLUSHALL")
    wait_until(lambda: {status_of(proxy, token) for token in tokens.values()} == {401})
    done = json.loads(command(proxy, "store", "import", "--json", stdin=backup))

    assert done["created"] == len(tokens)
    assert command(proxy, "token", "list", "--json") == before
    wait_until(lambda: {status_of(proxy, token) for token in tokens.values()} == {200})
    assert [status_of(proxy, token) for token in revoked] == [401, 401]
    restored = ends_of(redis)
    assert restored.keys() == ends.keys()
    assert [key for key in ends if abs(restored[key] - ends[key]) > 1000] == []
    assert sorted(ends.values())[:2] == [-1, -1]


def test_what_has_come_back_can_be_revoked(proxy: ProxyProcess, redis: RedisServer) -> None:
    redis.command("FLUSHALL")
    token = create(proxy, "again", 1)
    backup = command(proxy, "store", "export")
    redis.command("FLUSHALL")
    command(proxy, "store", "import", stdin=backup)
    wait_until(lambda: status_of(proxy, token) == 200)
    command(proxy, "token", "revoke", "--account", "acme", "--all")
    wait_until(lambda: status_of(proxy, token) == 401)
    assert redis.command("KEYS", "sidecar:token:*") == []
