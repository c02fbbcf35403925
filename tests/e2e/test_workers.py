"""Several workers behind one supervisor: as one proxy to callers, and to those who watch it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import LISTENER, Tokens, ask, plain_settings
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Act, Recorder

TUNNEL = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
WEBSOCKET = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
ASKED = "sidecar_requests_total"


@pytest.fixture(scope="module")
def pair(
    redis: RedisServer, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """Return a proxy of two workers, with its access log in a file."""
    directory = tmp_path_factory.mktemp("pair")
    settings = plain_settings(redis, recorder.url) | {
        "workers": 2,
        "access_log": {"path": str(directory / "access.log")},
    }
    with ProxyProcess(directory, settings) as running:
        yield running


def until(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.02)


def fetch(proxy: ProxyProcess, path: str) -> tuple[int, str]:
    """Ask the operations listener over a new connection, which a stopped worker may get."""
    host, _, port = proxy.settings["operations"]["address"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def readiness(proxy: ProxyProcess) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(fetch(proxy, "/readyz")[1])
    return told


def metric(proxy: ProxyProcess, start: str) -> float:
    """Return the sum of all samples that begin like this."""
    lines = fetch(proxy, "/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def call(proxy: ProxyProcess, times: int = 1, target: bytes = b"/status") -> Counter[int]:
    """Call over a connection for each request; return how often there was which status."""
    statuses: Counter[int] = Counter()
    for _ in range(times):
        with closing(RawClient(proxy.connect())) as client:
            statuses[ask(client, target=target).status] += 1
    return statuses


def test_all_workers_serve_and_are_one_to_who_watches(pair: ProxyProcess) -> None:
    """Connections spread over workers; any of them knows what all have counted, at once."""
    assert len(pair.workers()) == 2
    assert readiness(pair)["workers"] == {"ready": 2, "of": 2}
    before = metric(pair, ASKED)
    for round_number in range(1, 6):
        assert call(pair, 40) == {200: 40}
        assert metric(pair, ASKED) - before == 40 * round_number
    before_them = sockets_of(pair)
    with calling(pair, 40) as clients:
        assert {ask(client, target=b"/status").status for client in clients} == {200}
        shares = sockets_of(pair) - before_them
    assert len(shares) == 2
    assert min(shares.values()) > 5, shares


@contextmanager
def calling(proxy: ProxyProcess, number: int) -> Iterator[list[RawClient]]:
    """Hold so many connections open."""
    clients = [RawClient(proxy.connect()) for _ in range(number)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def sockets_of(proxy: ProxyProcess) -> Counter[int]:
    """Return how many sockets each worker has open."""
    return Counter({pid: sum(map(is_socket, descriptors_of(pid))) for pid in proxy.workers()})


def descriptors_of(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/fd").iterdir()


def is_socket(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor).startswith("socket:")
    except OSError:  # closed meanwhile
        return False


def test_a_killed_worker_is_followed_by_another_and_no_count_goes_back(pair: ProxyProcess) -> None:
    """What was told on a page stays counted; who calls meanwhile is served by the others."""
    call(pair, 30)
    before = metric(pair, ASKED)
    victim = pair.workers()[0]
    os.kill(victim, signal.SIGKILL)
    assert call(pair, 30) == {200: 30}
    assert metric(pair, ASKED) >= before + 30
    until(lambda: len(pair.workers()) == 2 and pair.is_ready())
    assert victim not in pair.workers()
    assert metric(pair, ASKED) >= before + 30
    assert metric(pair, "sidecar_worker_restarts_total") == 1
    until(lambda: "ended (SIGKILL); replacing it" in pair.stderr)


def test_an_upgrade_changes_every_worker_and_refuses_nobody(pair: ProxyProcess) -> None:
    """The supervisor keeps its process; idle connections get one more request answered."""
    before, old = metric(pair, ASKED), pair.workers()
    kept = RawClient(pair.connect())
    assert ask(kept, target=b"/status").status == 200
    pair.signal(signal.SIGUSR2)
    calls, deadline = 1, time.monotonic() + PATIENCE_SECONDS
    while set(pair.workers()) & set(old):
        assert call(pair) == {200: 1}
        calls += 1
        assert time.monotonic() < deadline, "the old workers are still there"
    kept.close()
    assert pair.is_running
    until(pair.is_ready)
    until(lambda: metric(pair, ASKED) == before + calls)  # the last word of those that have ended
    until(lambda: "upgraded: 2 old workers may finish" in pair.stderr)


def test_a_program_that_does_not_start_is_not_taken_up(pair: ProxyProcess) -> None:
    """The file is faulty, so that it would end at once: nobody notices but who reads the log."""
    good, workers = pair.config.read_text(), pair.workers()
    pair.config.write_text(good + "\nnonsense: 1\n")
    try:
        pair.signal(signal.SIGUSR2)
        until(lambda: "does not start (exit status 2); keeping this one" in pair.stderr)
        until(lambda: "sidecar.yaml:" in pair.stderr)
        assert pair.workers() == workers
        assert call(pair, 10) == {200: 10}
        until(lambda: not readiness(pair)["configuration"]["valid"])
        assert pair.is_ready(), "what is in force serves"
    finally:
        pair.config.write_text(good)
    until(lambda: bool(readiness(pair)["configuration"]["valid"]))


def test_logs_are_reopened_in_every_worker(pair: ProxyProcess, tmp_path: Path) -> None:
    """After SIGUSR1 nothing more is written to the file that was moved away."""
    log = Path(pair.settings["access_log"]["path"])
    moved = log.with_suffix(".1")
    log.rename(moved)
    pair.signal(signal.SIGUSR1)
    until(log.exists)
    until(lambda: len(lines_after(pair, log)) >= 20)
    assert moved.stat().st_size == (size := moved.stat().st_size)
    call(pair, 20)
    time.sleep(0.3)
    assert moved.stat().st_size == size


def lines_after(proxy: ProxyProcess, log: Path) -> list[str]:
    call(proxy, 20)
    return log.read_text().splitlines()


def test_an_account_that_the_file_disables_is_refused_by_every_worker(
    pair: ProxyProcess, tokens: Tokens, recorder: Recorder
) -> None:
    """Within two seconds of the write; its WebSockets end. SIGHUP brings it back at once."""
    recorder.play(*[(TUNNEL, Act.HOLD)] * 8)
    settings = yaml.safe_load(pair.config.read_text())
    line = b"access_token: " + tokens.valid.encode()
    with calling(pair, 16) as callers, calling(pair, 8) as tunnels:
        open_tunnels(tunnels, line)
        change_account(pair, settings, line, callers)
        assert all(tunnel.is_closed() for tunnel in tunnels)
    # One worker tells of each change, for all; it may do so after the change is in force.
    until(lambda: pair.stderr.count("accounts.acme.disabled") >= 2)
    assert pair.stderr.count("accounts.acme.disabled") == 2


def open_tunnels(clients: list[RawClient], line: bytes) -> None:
    for client in clients:
        asked = [line, b"Upgrade: websocket", b"Connection: Upgrade", *WEBSOCKET]
        first = b"GET %s HTTP/1.1" % LISTENER
        client.send(b"\r\n".join([first, b"Host: a", *asked, b"", b""]))
        assert client.read_until(b" 101 Switching Protocols\r\n")
        assert client.read_until(b"\r\n\r\n")


def change_account(
    pair: ProxyProcess, settings: dict[str, Any], line: bytes, callers: list[RawClient]
) -> None:
    assert {ask(caller, line, target=LISTENER).status for caller in callers} == {200}
    settings["accounts"]["acme"]["disabled"] = True
    pair.config.write_text(yaml.safe_dump(settings))
    written = time.monotonic()
    until(lambda: {ask(caller, line, target=LISTENER).status for caller in callers} == {403})
    took = time.monotonic() - written
    print(f"\nrefused by every worker {took:.2f} s after the write")
    assert took < 2 + PATIENCE_SECONDS / 3  # two seconds, on a busy machine
    settings["accounts"]["acme"]["disabled"] = False
    pair.config.write_text(yaml.safe_dump(settings))
    pair.signal(signal.SIGHUP)
    until(lambda: {ask(caller, line, target=LISTENER).status for caller in callers} == {200})
