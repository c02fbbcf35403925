"""Redis or an upstream goes away and comes back: "I don't know" is never "no", and it heals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.raw_client import Answer, RawClient
from tests.e2e.conftest import Tokens, ask, key_of, plain_settings, redis_binary
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, running_redis
from tests.upstream_recorder import Recorder

CLIENTS = 50
HEALING_SECONDS = 5.0  # generous: what is promised is one, on a machine with nothing else to do


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    with running_redis(redis_binary(), tmp_path, *arguments) as server:
        yield server


@pytest.fixture
def own_proxy(own_redis: RedisServer, recorder: Recorder, tmp_path: Path) -> Iterator[ProxyProcess]:
    settings = plain_settings(own_redis, recorder.url)
    settings["store"] |= {"outage_grace": "0s", "cache": {"tokens": 1, "max_age": "1s"}}
    directory = tmp_path / "proxy"
    directory.mkdir()
    with ProxyProcess(directory, settings) as running:
        yield running


def ask_all(clients: list[RawClient], line: bytes) -> list[Answer]:
    """Ask on every connection at once."""
    for client in clients:
        client.send(b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % line)
    return [answer for client in clients if (answer := client.read_answer())]


def is_do_not_know(answer: Answer) -> bool:
    return (
        answer.status == 503
        and json.loads(answer.body)["code"] == "store_unavailable"
        and int(answer.values("retry-after")[0]) > 0
    )


def is_so_in_time(condition: Callable[[], bool]) -> bool:
    """Ask until the condition holds; False when it does not within the time to heal."""
    deadline = time.monotonic() + HEALING_SECONDS
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


OUTAGES: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "frozen": (RedisServer.pause, RedisServer.resume),
    "killed": (RedisServer.kill, RedisServer.start),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_while_redis_is_away_every_answer_is_503_and_then_it_heals(
    outage: str, own_proxy: ProxyProcess, own_redis: RedisServer, tokens: Tokens, redis: RedisServer
) -> None:
    go_away, come_back = OUTAGES[outage]
    for token in (tokens.valid, tokens.unlimited):
        own_redis.command("SET", key_of(token), redis.command("GET", key_of(token)))
    seen = b"access_token: " + tokens.valid.encode()
    unseen = b"access_token: " + tokens.unlimited.encode()
    clients = [RawClient(own_proxy.connect()) for _ in range(CLIENTS)]
    assert {answer.status for answer in ask_all(clients, seen)} == {200}
    before = own_proxy.rss_bytes()
    go_away(own_redis)
    try:
        for _ in range(3):
            answers = ask_all(clients, unseen)
            assert len(answers) == CLIENTS
            assert all(map(is_do_not_know, answers))
        assert own_proxy.rss_bytes() - before < 8 << 20
        assert is_so_in_time(lambda: not own_proxy.is_ready())
        assert ask(clients[0], target=b"/status").status == 200
        assert ask(clients[0]).status == 401, "nothing at all is known to be no credential"
    finally:
        come_back(own_redis)
    assert is_so_in_time(lambda: ask(clients[0], unseen).status == 200)
    assert {answer.status for answer in ask_all(clients, seen)} == {200}
    for client in clients:
        client.close()


def test_an_upstream_that_is_down_is_502_and_served_again_when_it_is_back(
    redis: RedisServer, tokens: Tokens, tmp_path: Path
) -> None:
    path = str(tmp_path / "u.sock")
    with ProxyProcess(tmp_path, plain_settings(redis, f"unix:{path}")) as proxy:
        client = RawClient(proxy.connect())
        line = b"access_token: " + tokens.valid.encode()
        answer = ask(client, line)
        assert answer.status == 502
        assert json.loads(answer.body)["code"] == "upstream_unreachable"
        upstream = Recorder(unix_path=path)
        assert ask(client, line).status == 200
        upstream.close()
        Path(path).unlink()
        assert ask(client, line).status == 502
        client.close()
