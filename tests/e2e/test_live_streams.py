"""A tunnel, an event stream and a long body end with the token that began them, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.cli.reach import reached_lifecycle
from sidecar.config.load import load
from sidecar.core.keys import generate_key
from sidecar.core.model import TokenKind
from sidecar.core.passwords import hash_password
from sidecar.store.record import decode, encode
from tests.command_line import run_command
from tests.conformance.jwt_cases import Bench, dump, make_party
from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, key_of, plain_settings, redis_binary
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, running_redis
from tests.upstream_recorder import Recorder, UpstreamConnection

END_SECONDS = 5.0  # milliseconds, on a machine with nothing else to do
TICK = b"tick\n"
PASSWORD = "correct:horse"
HASH = hash_password(PASSWORD)


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a Redis that these tests may empty and stop."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    directory = tmp_path_factory.mktemp("redis")
    with running_redis(redis_binary(), directory, *arguments) as server:
        yield server


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.default_script = (open_stream,)
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def own_proxy(
    own_redis: RedisServer, upstream: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    settings = settings_for(own_redis, upstream)
    with ProxyProcess(tmp_path_factory.mktemp("proxy"), settings) as running:
        yield running


def settings_for(redis: RedisServer, upstream: Recorder) -> dict[str, Any]:
    settings = plain_settings(redis, upstream.url)
    settings["jwt"] = {"keys": [{"id": "k1", "private_key": generate_key("EdDSA")}]}
    settings["accounts"] = {"acme": {"password_hash": HASH}, "globex": {}}
    return settings


HEADS = {
    "WebSocket": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    ),
    "events": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n",
}
LINES = {
    "WebSocket": (
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ),
    "events": (),
    "body": (),
}


def open_stream(connection: UpstreamConnection, exchange: Any) -> None:
    """Answer as ``X-Kind`` says, then send a piece now and then until the proxy has had enough."""
    kind = exchange.values("x-kind")[0].decode()
    if kind == "silence":
        with contextlib.suppress(OSError):
            while connection.sock.recv(65536):
                pass
        connection.close()
        return
    piece = b"5\r\n" + TICK + b"\r\n" if kind == "events" else TICK
    time.sleep(float((exchange.values("x-delay") or [b"0"])[0]))
    connection.sock.sendall(HEADS[kind])
    with contextlib.suppress(OSError):
        while True:
            connection.sock.sendall(piece)
            time.sleep(0.02)
    connection.close()


class Stream:
    """One long exchange as its caller sees it."""

    def __init__(self, proxy: ProxyProcess, kind: str, *lines: bytes) -> None:
        self._client = RawClient(proxy.connect())
        head = (b"GET %s HTTP/1.1" % LISTENER, b"Host: a", b"X-Kind: " + kind.encode())
        self._client.send(b"\r\n".join([*head, *LINES[kind], *lines, b"", b""]))

    def begin(self) -> Stream:
        self.await_head()
        assert self.is_going_on()
        return self

    def await_head(self) -> None:
        assert self._client.read_until(b"\r\n\r\n")

    @property
    def received(self) -> bytes:
        return bytes(self._client.received)

    def is_going_on(self) -> bool:
        """Wait for what the upstream sends from now on: more than could be on its way already."""
        try:
            return all(self._client.read_until(TICK) for _ in range(5))
        except ConnectionError:
            return False

    def seconds_to_end(self) -> float:
        """Read on to the end; return how long that took."""
        began = time.monotonic()
        while self._client.read_until(TICK):
            assert time.monotonic() - began < PATIENCE_SECONDS, "it goes on"
        return time.monotonic() - began

    def close(self) -> None:
        self._client.close()


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer " + token.encode()


@dataclass(slots=True)
class Held:
    """A token, its id, and one stream of each kind that it began."""

    token: str
    id: str
    streams: list[Stream]

    @property
    def are_going_on(self) -> bool:
        return all(stream.is_going_on() for stream in self.streams)

    def end(self) -> None:
        """Assert that each ends within a second, by the clock of the slowest."""
        left = [stream.seconds_to_end() for stream in self.streams]
        assert sum(left) < END_SECONDS, left
        body = self.streams[-2].received
        assert not body.endswith(b"0\r\n\r\n"), "a stream that was cut must not look complete"

    def close(self) -> None:
        for stream in self.streams:
            stream.close()


Hold = Callable[..., Held]
_serial = iter(range(1000))


def make_token(
    proxy: ProxyProcess, account: str = "acme", kind: TokenKind = TokenKind.ACCESS
) -> tuple[str, str]:
    """Make a token as the command line does, in this process; return its id and itself."""

    async def create() -> tuple[str, str]:
        async with reached_lifecycle(load(proxy.config, os.environ)) as lifecycle:
            record, token = await lifecycle.create(account, f"t{next(_serial)}", 1, kind=kind)
            return record.id, token

    return asyncio.run(create())


@pytest.fixture
def hold(own_proxy: ProxyProcess) -> Iterator[Hold]:
    """Return what makes a token and begins one stream of each kind with it."""
    made: list[Held] = []

    def hold_one(kind: str = "access", account: str = "acme") -> Held:
        token_id, token = make_token(own_proxy, account, TokenKind(kind))
        streams = [Stream(own_proxy, kind, bearer(token)) for kind in HEADS]
        made.append(Held(token, token_id, [stream.begin() for stream in streams]))
        return made[-1]

    yield hold_one
    for held in made:
        held.close()


UNANSWERED = {
    "an upload": b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n",
    "a chunked upload": b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
    "a request that waits for its answer": b"GET %s HTTP/1.1\r\nHost: a\r\n",
}


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def unanswered(proxy: ProxyProcess, what: str, token: str) -> RawClient:
    """Begin a request that the service does not answer."""
    client = RawClient(proxy.connect())
    body = b"" if what.startswith("a request") else b"5\r\nabcde\r\n"
    lines = b"X-Kind: silence\r\n" + bearer(token) + b"\r\n\r\n"
    client.send(UNANSWERED[what] % LISTENER + lines + body)
    return client


@pytest.mark.parametrize("what", UNANSWERED)
def test_an_exchange_without_an_answer_yet_gets_the_denial_when_its_token_is_revoked(
    what: str, own_proxy: ProxyProcess, upstream: Recorder
) -> None:
    other_id, other_token = make_token(own_proxy)
    token_id, token = make_token(own_proxy)
    seen = len(upstream.exchanges)
    client = unanswered(own_proxy, what, token)
    other = unanswered(own_proxy, what, other_token)
    eventually(lambda: len(upstream.exchanges) == seen + 2)
    done = run_command("token", "revoke", token_id, config=own_proxy.config)
    assert done.returncode == 0, done.stderr
    answer = client.read_answer()
    assert answer is not None
    assert (answer.status, b"invalid_token" in answer.body) == (401, True)
    assert what.startswith("a request") or client.is_closed()
    assert not other.is_closed(0.2)
    run_command("token", "revoke", other_id, config=own_proxy.config)
    client.close()
    other.close()


@pytest.mark.parametrize("kind", ["access", "jwt"])
def test_all_end_when_the_token_is_revoked_and_those_of_another_go_on(
    kind: str, hold: Hold, own_proxy: ProxyProcess
) -> None:
    other, held = hold("jwt"), hold(kind)
    done = run_command("token", "revoke", held.id, config=own_proxy.config)
    assert done.returncode == 0, done.stderr
    held.end()
    assert other.are_going_on


def test_all_end_when_redis_cli_deletes_the_record(hold: Hold, own_redis: RedisServer) -> None:
    held, other = hold(), hold()
    assert own_redis.command("DEL", key_of(held.token)) == 1
    held.end()
    assert other.are_going_on


def test_all_end_when_redis_is_flushed(hold: Hold, own_redis: RedisServer) -> None:
    held, signed = hold(), hold("jwt")
    own_redis.command("FLUSHDB")
    held.end()
    signed.end()


def test_all_end_when_the_token_expires(hold: Hold, own_redis: RedisServer) -> None:
    held = hold()
    key = key_of(held.token)
    record = decode(key.rpartition(":")[2], own_redis.command("GET", key))
    assert record is not None
    ends = time.time() // 1 + 2
    own_redis.command("SET", key, encode(record.replace(expires_at=ends)))  # no TTL
    assert held.are_going_on
    time.sleep(max(0.0, ends - time.time()))
    held.end()


def test_a_rotated_token_ends_after_its_overlap(hold: Hold, own_proxy: ProxyProcess) -> None:
    held = hold()
    asked = ("token", "rotate", held.id, "--overlap", "0s")
    assert run_command(*asked, config=own_proxy.config).returncode == 0
    held.end()


@contextlib.contextmanager
def reloaded(proxy: ProxyProcess, **changes: Any) -> Iterator[None]:
    """Let the file say otherwise within the block."""
    before = proxy.config.read_text()
    told = proxy.stderr.count("reloaded, generation")
    proxy.config.write_text(yaml.safe_dump({**proxy.settings, **changes}))
    proxy.signal(signal.SIGHUP)
    try:
        _await_reload(proxy, told + 1)
        yield
    finally:
        proxy.config.write_text(before)
        proxy.signal(signal.SIGHUP)
        _await_reload(proxy, told + 2)


def _await_reload(proxy: ProxyProcess, count: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while proxy.stderr.count("reloaded, generation") < count:
        assert time.monotonic() < end, proxy.stderr[-1000:]
        time.sleep(0.01)


def test_all_end_when_the_account_is_disabled(hold: Hold, own_proxy: ProxyProcess) -> None:
    held, other = hold(), hold(account="globex")
    accounts = {"acme": {"password_hash": HASH, "disabled": True}, "globex": {}}
    with reloaded(own_proxy, accounts=accounts):
        held.end()
        assert other.are_going_on


def test_what_a_password_began_ends_with_it_and_what_a_token_began_goes_on(
    hold: Hold, own_proxy: ProxyProcess
) -> None:
    held = hold()
    basic = b"Authorization: Basic YWNtZTpjb3JyZWN0OmhvcnNl"
    streams = [Stream(own_proxy, kind, basic).begin() for kind in HEADS]
    accounts = {"acme": {"password_hash": hash_password("other")}, "globex": {}}
    with contextlib.ExitStack() as closing:
        for stream in streams:
            closing.callback(stream.close)
        with reloaded(own_proxy, tokens={"expiry_notice": "1d"}):
            assert all(stream.is_going_on() for stream in streams)
        with reloaded(own_proxy, accounts=accounts):
            assert sum(stream.seconds_to_end() for stream in streams) < END_SECONDS
            assert held.are_going_on


OUTAGES: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "frozen": (RedisServer.pause, RedisServer.resume),
    "killed": (RedisServer.kill, RedisServer.start),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_nothing_ends_while_redis_is_away_and_what_is_revoked_afterwards_does(
    outage: str, hold: Hold, own_proxy: ProxyProcess, own_redis: RedisServer
) -> None:
    held, other = hold(), hold("jwt")
    go_away, come_back = OUTAGES[outage]
    go_away(own_redis)
    try:
        time.sleep(1.5)  # long enough for the way to Redis to be known as broken
        assert held.are_going_on
    finally:
        come_back(own_redis)
    _await_ready(own_proxy)
    time.sleep(0.3)
    assert held.are_going_on
    assert other.are_going_on
    own_redis.command("DEL", key_of(held.token))
    held.end()
    assert other.are_going_on


def _await_ready(proxy: ProxyProcess) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not proxy.is_ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_was_deleted_while_nobody_listened_ends(
    hold: Hold, own_proxy: ProxyProcess, own_redis: RedisServer
) -> None:
    held, other = hold(), hold()
    with socket.socket(socket.AF_UNIX) as sock:  # both at once, as nobody else can ask between
        sock.connect(str(own_redis.socket))
        sock.sendall(
            b"MULTI\r\nCLIENT KILL TYPE normal SKIPME yes\r\nDEL %s\r\nEXEC\r\n"
            % key_of(held.token).encode()
        )
        assert b"QUEUED" in sock.recv(4096)
        held.end()
    assert other.are_going_on


def test_a_token_revoked_while_the_upstream_takes_its_time_ends_its_stream(
    hold: Hold, own_proxy: ProxyProcess, own_redis: RedisServer, upstream: Recorder
) -> None:
    token = make_token(own_proxy)[1]
    before = len(upstream.exchanges)
    stream = Stream(own_proxy, "events", bearer(token), b"X-Delay: 0.5")
    while len(upstream.exchanges) == before:
        time.sleep(0.01)
    own_redis.command("DEL", key_of(token))
    stream.await_head()  # it may end before much more comes
    with contextlib.closing(stream):
        assert stream.seconds_to_end() < 2 + END_SECONDS


def test_an_end_is_seen_upstream_and_told_in_the_log(
    hold: Hold, own_proxy: ProxyProcess, own_redis: RedisServer, upstream: Recorder
) -> None:
    first = len(upstream.exchanges)
    held = hold()
    own_redis.command("DEL", key_of(held.token))
    held.end()
    for exchange in upstream.exchanges[first:]:
        assert exchange.ended.wait(PATIENCE_SECONDS)
    end = time.monotonic() + PATIENCE_SECONDS
    while not (lines := [li for li in own_proxy.access_lines() if li["token_id"] == held.id][2:]):
        assert time.monotonic() < end
        time.sleep(0.01)
    lines = [line for line in own_proxy.access_lines() if line["token_id"] == held.id]
    assert {line["code"] for line in lines} == {"cut"}
    assert sorted(line["status"] for line in lines) == [101, 200, 200]
    assert held.token not in own_proxy.stderr + own_proxy.stdout


def test_many_streams_of_one_token_end_together(
    own_proxy: ProxyProcess, own_redis: RedisServer
) -> None:
    token = make_token(own_proxy)[1]
    streams = [Stream(own_proxy, "events", bearer(token)).begin() for _ in range(24)]
    ended: list[float] = []
    readers = [
        threading.Thread(target=lambda one=one: ended.append(one.seconds_to_end()))
        for one in streams
    ]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    own_redis.command("DEL", key_of(token))
    for reader in readers:
        reader.join()
    assert len(ended) == len(streams)
    assert time.monotonic() - began < END_SECONDS
    for stream in streams:
        stream.close()


def test_the_denial_of_a_foreign_jwt_ends_its_stream(
    own_redis: RedisServer, upstream: Recorder, tmp_path: Path
) -> None:
    issuer = make_party("https://login.example.com/", "shop", is_own=False)
    (tmp_path / "jwks.json").write_bytes(dump({"keys": [issuer.key().publish()]}))
    trusted = {
        "issuer": issuer.issuer,
        "audience": "shop",
        "jwks_file": "jwks.json",
        "algorithms": ["EdDSA"],
    }
    settings = {**settings_for(own_redis, upstream), "jwt": {"trusted_issuers": [trusted]}}
    with ProxyProcess(tmp_path, settings) as proxy:
        now = int(time.time())
        denied, going_on, expiring = (
            Stream(proxy, "events", bearer(token)).begin()
            for token in (
                Bench(issuer, "acme", "id-1", now, 10).good(),
                Bench(issuer, "acme", "id-2", now, 10).good(),
                Bench(issuer, "acme", "id-3", now, 10).with_claims(exp=now - 8),
            )
        )
        asked = ("token", "revoke", "--issuer", issuer.issuer, "--jti", "id-1")
        assert run_command(*asked, config=proxy.config).returncode == 0
        assert denied.seconds_to_end() < END_SECONDS
        assert going_on.is_going_on()
        assert expiring.seconds_to_end() < 2 + END_SECONDS
        for stream in (denied, going_on, expiring):
            stream.close()


def test_a_key_that_is_dropped_ends_what_it_let_begin_and_one_that_is_added_nothing(
    hold: Hold, own_proxy: ProxyProcess
) -> None:
    held, by_token = hold("jwt"), hold()
    (key,) = own_proxy.settings["jwt"]["keys"]
    other = {"id": "k2", "private_key": generate_key("EdDSA")}
    with reloaded(own_proxy, jwt={"keys": [other, key]}):
        assert held.are_going_on
    with reloaded(own_proxy, jwt={"keys": [other]}):
        held.end()
        assert by_token.are_going_on
