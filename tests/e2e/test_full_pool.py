"""Slow bodies fill all connections to the service, and an honest caller is served all the same."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.conformance.raw_client import Answer, RawClient
from tests.e2e.conftest import plain_settings
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Exchange, Recorder, UpstreamConnection

PLACES = 8
BODY_BYTES = 1 << 30
PIECE = bytes(1 << 18)
HOLD_SECONDS = 20.0
ACCOUNTS = ("acme", "zeta")


def fill_reader(connection: UpstreamConnection, exchange: Exchange) -> None:
    """Answer with more than any buffers hold."""
    connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
    with contextlib.suppress(OSError):
        while True:
            connection.sock.sendall(PIECE)


@dataclass
class Stage:
    """A proxy with few connections to its service, and those that hold them up."""

    proxy: ProxyProcess
    recorder: Recorder
    tokens: dict[str, str]
    slow: list[RawClient] = field(default_factory=list)

    def open(self) -> RawClient:
        return RawClient(self.proxy.connect(), timeout_seconds=HOLD_SECONDS)

    def _hold_up(self, head: bytes) -> None:
        mark = self.recorder.mark()
        for _ in range(PLACES):
            client = self.open()
            client.send(head)
            self.slow.append(client)
        _wait_until(lambda: len(self.recorder.requests_since(mark)) == PLACES)

    def upload(self, path: bytes, *fields: bytes) -> None:
        """Begin as many uploads as there are connections; a byte of each comes now and then."""
        length = b"Content-Length: %d" % BODY_BYTES
        self._hold_up(
            b"\r\n".join([b"POST %s HTTP/1.1" % path, b"Host: a", length, *fields, b"", b""])
        )
        threading.Thread(target=self._trickle, daemon=True).start()

    def download(self, path: bytes, *fields: bytes) -> None:
        """Ask for as many endless answers as there are connections, and read none of them."""
        self.recorder.play(*[(fill_reader,)] * PLACES)
        self._hold_up(b"\r\n".join([b"GET %s HTTP/1.1" % path, b"Host: a", *fields, b"", b""]))
        time.sleep(0.5)  # until the buffers are full: before that nobody is slow

    def _trickle(self) -> None:
        for _ in range(round(HOLD_SECONDS / 0.2)):
            for client in [*self.slow]:
                with contextlib.suppress(OSError):
                    client.sock.send(b"a")
            time.sleep(0.2)

    def bearer(self, account: str) -> bytes:
        return b"Authorization: Bearer " + self.tokens[account].encode()

    def ask(self, account: str) -> Answer | None:
        """Let an honest caller ask, over a connection of its own."""
        client = self.open()
        client.send(
            b"GET /v1/dynamic/listener/a1 HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % self.bearer(account)
        )
        answer = client.read_answer()
        client.close()
        return answer

    def release(self) -> None:
        for client in self.slow:
            client.close()
        self.slow.clear()


def _wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + HOLD_SECONDS
    while not is_so():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def running(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    recorder = Recorder(kept_body_bytes=1024)
    settings = plain_settings(redis, recorder.url)
    settings["store"] = {**settings["store"], "prefix": "fullpool:"}
    settings["upstreams"]["listener"] |= {"max_connections": PLACES, "connect_timeout": "2s"}
    settings["accounts"] = {account: {} for account in ACCOUNTS}
    with ProxyProcess(tmp_path_factory.mktemp("pool"), settings) as proxy:
        tokens = {name: create_token(proxy.config, name, "a token") for name in ACCOUNTS}
        tokens["zeta's other"] = create_token(proxy.config, "zeta", "another token")
        yield Stage(proxy, recorder, tokens)
    recorder.close()


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    yield running
    running.recorder.play()
    running.release()
    time.sleep(0.1)


Attack = Callable[[Stage], None]
ATTACKS: dict[str, Attack] = {
    "uploads of a stranger": lambda stage: stage.upload(b"/status"),
    "uploads of one account": lambda stage: stage.upload(
        b"/v1/dynamic/listener/a1", stage.bearer("zeta")
    ),
    "downloads of a stranger": lambda stage: stage.download(b"/status"),
    "downloads of one account": lambda stage: stage.download(
        b"/v1/dynamic/listener/a1", stage.bearer("zeta")
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_honest_caller_is_served_while_all_connections_are_held_up(
    attack: Attack, stage: Stage
) -> None:
    attack(stage)
    statuses = [answer.status for _ in range(20) if (answer := stage.ask("acme")) is not None]
    assert statuses == [200] * 20


def test_a_token_is_served_while_another_of_its_account_holds_all_connections_up(
    stage: Stage,
) -> None:
    stage.upload(b"/v1/dynamic/listener/a1", stage.bearer("zeta"))
    answer = stage.ask("zeta's other")
    assert answer is not None
    assert answer.status == 200


def test_an_upload_that_made_room_is_told_so_and_never_looks_whole_to_the_service(
    stage: Stage,
) -> None:
    mark = stage.recorder.mark()
    stage.upload(b"/status")
    assert stage.ask("acme") is not None
    answers = [answer for client in stage.slow if (answer := _answer_so_far(client)) is not None]
    (answer,) = answers
    assert (answer.status, answer.values("Retry-After")) == (503, ["1"])
    assert answer.values("Connection") == ["close"]
    assert b'"code": "overloaded"' in answer.body
    uploads = [one for one in stage.recorder.requests_since(mark) if one.method == b"POST"]
    _wait_until(lambda: any(upload.ended.is_set() for upload in uploads))
    assert [upload.is_complete for upload in uploads] == [False] * PLACES
    _wait_until(lambda: _codes(stage, "/status").count("overloaded") >= 1)


def test_an_answer_that_made_room_is_cut_and_noted(stage: Stage) -> None:
    before = _codes(stage, "/status").count("overloaded")
    stage.download(b"/status")
    assert stage.ask("acme") is not None
    _wait_until(lambda: _codes(stage, "/status").count("overloaded") > before)
    line = next(
        line
        for line in reversed(stage.proxy.access_lines())
        if line["path"] == "/status" and line["code"] == "overloaded"
    )
    assert line["status"] == 200
    assert 0 < line["bytes_out"] < BODY_BYTES


def _answer_so_far(client: RawClient) -> Answer | None:
    client.sock.settimeout(0.05)
    try:
        return client.read_answer()
    except TimeoutError:
        return None


def _codes(stage: Stage, path: str) -> list[str]:
    return [line["code"] for line in stage.proxy.access_lines() if line["path"] == path]
