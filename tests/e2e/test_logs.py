"""No log stops traffic: not a pipe that is not read, not a disk that is full."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import IO

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import ask, plain_settings
from tests.e2e.test_workers import metric, until
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder

TOTAL = 10_000
CALLS = 1000  # several times what a pipe holds


class Unread(ProxyProcess):
    """Nobody reads its standard output until ``read`` is set."""

    read: threading.Event

    def _collect(self, name: str, pipe: IO[bytes]) -> None:
        if name == "stdout":
            self.read.wait()
        super()._collect(name, pipe)


def call(proxy: ProxyProcess, times: int) -> None:
    client = RawClient(proxy.connect())
    for _ in range(times):
        assert ask(client, target=b"/nowhere").status == 404
    client.close()


def call_at_once(proxy: ProxyProcess, times: int) -> None:
    """Send fifty requests in one piece, so many times."""
    with proxy.connect(20) as client:
        for _ in range(times):
            client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
            answers = b""
            while answers.count(b'"request_id"') < 50:
                piece = client.recv(1 << 16)
                assert piece
                answers += piece


def test_a_blocked_pipe_under_the_access_log_stops_no_worker(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """And once it is read again, every line is there and whole, whichever worker wrote it."""
    settings = plain_settings(redis, recorder.url) | {"workers": 2}
    proxy = Unread(tmp_path, settings)
    proxy.read = threading.Event()
    with proxy:
        for _ in range(4):
            call(proxy, CALLS // 4)
        assert proxy.is_ready()
        assert proxy.stdout == ""
        proxy.read.set()
        until(lambda: len(proxy.access_lines()) == CALLS)
        assert {line["code"] for line in proxy.access_lines()} == {"no_route"}
        assert metric(proxy, "sidecar_access_log_dropped_total ") == 0


def test_a_full_disk_under_the_access_log_costs_its_lines_and_nothing_else(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    settings = plain_settings(redis, recorder.url) | {"workers": 2}
    settings |= {"access_log": {"path": "/dev/full"}}
    with ProxyProcess(tmp_path, settings) as proxy:
        for _ in range(4):
            call(proxy, 50)
        assert proxy.is_ready()
        until(lambda: metric(proxy, "sidecar_access_log_dropped_total ") == 200)


def test_ten_thousand_requests_are_as_many_on_the_page_and_in_the_log(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """Over two workers, and the moment that the last is answered; no line is mixed or missing."""
    log = tmp_path / "access.log"
    settings = plain_settings(redis, recorder.url) | {"workers": 2}
    with ProxyProcess(tmp_path, settings | {"access_log": {"path": str(log)}}) as proxy:
        callers = [threading.Thread(target=call_at_once, args=(proxy, 25)) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert metric(proxy, "sidecar_requests_total{") == TOTAL
        assert metric(proxy, "sidecar_request_duration_seconds_count") == TOTAL
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == TOTAL
    assert len({line["request_id"] for line in lines}) == TOTAL
    assert os.stat(log).st_mode & 0o037 == 0
