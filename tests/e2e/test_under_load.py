"""Whatever an admin does to it under load, nobody's request fails but those of a killed worker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import LISTENER, Tokens, plain_settings
from tests.e2e.test_workers import readiness
from tests.integration.test_reload import replace, until, write_certificate
from tests.ports import free_port
from tests.proxy_process import ROOT, ProxyProcess
from tests.redis_servers import RedisServer

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

SOAK = [pytest.mark.soak, pytest.mark.timeout(1200)]
CONNECTIONS = 64
UPSTREAM = ROOT / "tests" / "soak" / "echo_upstream.py"
ESTABLISHED = "01"

reload, bad_file, swap, kill, upgrade = "reload", "bad file", "certificate", "kill", "upgrade"
SHORT = [reload, bad_file, kill, upgrade, swap, reload]
LONG = [
    *[reload, reload, bad_file, reload, swap, reload, kill, reload, reload, upgrade, reload],
    *[bad_file, reload, reload, swap, bad_file, reload, kill, reload, reload, reload, bad_file],
    *[upgrade, reload, reload, kill, reload, swap, reload, bad_file, reload, reload, reload],
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    command = [sys.executable, str(UPSTREAM)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


class Admin:
    """Does things to a proxy, and waits until each of them is done."""

    def __init__(self, proxy: ProxyProcess, directory: Path) -> None:
        self._proxy = proxy
        self._directory = directory
        self._count = count(1)
        self.cut = 0
        """How many connections the killed workers had."""
        self.does: dict[str, Callable[[], None]] = {
            "reload": self.reload,
            "bad file": self.write_bad_file,
            "certificate": self.swap_certificate,
            "kill": self.kill_worker,
            "upgrade": self.upgrade,
        }

    def reload(self) -> None:
        settings = yaml.safe_load(self._proxy.config.read_text())
        settings["accounts"][f"other-{next(self._count)}"] = {}
        with self.told("reloaded, generation"):
            self.write(yaml.safe_dump(settings))

    def write_bad_file(self) -> None:
        good = self._proxy.config.read_text()
        with self.told("not reloaded: generation", by=2):
            self.write(good + "routs: []\n")
        self.write(good)
        until(lambda: bool(readiness(self._proxy)["configuration"]["valid"]), 30)
        assert re.search(
            r"sidecar\.yaml:\d+:\d+: routs: there is no such key; did you mean routes\?",
            self._proxy.stderr,
        )

    def write(self, text: str) -> None:
        replace(self._proxy.config, text.encode())

    def swap_certificate(self) -> None:
        with self.told("reloaded, generation"):
            write_certificate(self._directory, f"name-{next(self._count)}")

    def kill_worker(self) -> None:
        victim = self._proxy.workers()[0]
        self.cut += connections_of(victim, self._proxy.port)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in self._proxy.workers() and len(self._proxy.workers()) == 2, 30)
        until(self._proxy.is_ready, 30)

    def upgrade(self) -> None:
        old = self._proxy.workers()
        with self.told("upgraded: 2 workers"):
            self._proxy.signal(signal.SIGUSR2)
        until(lambda: not set(old) & set(self._proxy.workers()), 30)

    @contextmanager
    def told(self, words: str, by: int = 1) -> Iterator[None]:
        """Wait until so many workers have said it once more."""
        before = self._proxy.stderr.count(words)
        yield
        until(lambda: self._proxy.stderr.count(words) >= before + by, 30)


def connections_of(pid: int, port: int) -> int:
    """Return how many callers a worker is connected with."""
    inodes = {
        row.split()[9]
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == ESTABLISHED
    }
    links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum(link[len("socket:[") : -1] in inodes for link in links)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What ``wrk`` has seen."""

    requests: int
    refused: int
    failed_connects: int
    broken: int


def outcome_of(text: str) -> Outcome:
    found = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    connects, *broken = map(int, found.groups()) if found else (0, 0)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    requests = re.search(r"(\d+) requests in", text)
    assert requests is not None, text
    return Outcome(int(requests[1]), int(refused[1]) if refused else 0, connects, sum(broken))


@contextmanager
def load(
    proxy: ProxyProcess, token: str, script: Path, pause_ms: int
) -> Iterator[subprocess.Popen[str]]:
    """Call over all connections, each with a pause between an answer and the next request."""
    url = f"https://127.0.0.1:{proxy.port}{LISTENER.decode()}"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d3600s", "--timeout", "30s"]
    if pause_ms:
        script.write_text(f"function delay() return {pause_ms} end")
        command += ["-s", str(script)]
    with subprocess.Popen(
        [*command, "-H", f"access_token: {token}", url], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("events", "pause_ms"),
    [
        pytest.param(SHORT, 20, id="short", marks=[pytest.mark.soak, pytest.mark.timeout(180)]),
        pytest.param(LONG, 0, id="long", marks=SOAK),
        pytest.param(LONG, 50, id="long, with pauses", marks=SOAK),
    ],
)
def test_no_request_fails_whatever_is_done_meanwhile(
    events: list[str],
    pause_ms: int,
    upstream: str,
    redis: RedisServer,
    tokens: Tokens,
    tmp_path: Path,
) -> None:
    """64 connections all the time; what was in flight on a killed worker is all that may break.

    Without pauses there is always a request under way, with them there is mostly none: then it is
    the end of a kept-alive connection that must not meet a request.
    """
    write_certificate(tmp_path, "first")
    tls = {"certificate": str(tmp_path / "tls.crt"), "private_key": str(tmp_path / "tls.key")}
    settings: dict[str, Any] = plain_settings(redis, upstream) | {"workers": 2}
    settings |= {"access_log": {"path": str(tmp_path / "access.log")}}
    settings["listen"] = {"address": f"127.0.0.1:{free_port()}", "tls": tls}
    with (
        ProxyProcess(tmp_path, settings) as proxy,
        load(proxy, tokens.valid, tmp_path / "pause.lua", pause_ms) as wrk,
    ):
        admin = Admin(proxy, tmp_path)
        time.sleep(0.5)
        for event in events:
            admin.does[event]()
        time.sleep(0.5)
        wrk.send_signal(signal.SIGINT)
        text, _ = wrk.communicate(timeout=30)
    outcome = outcome_of(text)
    print(f"\n{outcome}, cut by kill -9: {admin.cut}")
    assert outcome.requests > 1000
    assert (outcome.refused, outcome.failed_connects) == (0, 0)
    assert outcome.broken <= admin.cut
