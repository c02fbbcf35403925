"""What the supervisor does about workers that hang, do not start, or lose it; and what systemd
hears of all that.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import ask, plain_settings
from tests.e2e.test_workers import call, readiness, until
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder


class Notified:
    """The service manager's end: everything that was said, line by line."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.lines: list[str] = []

    def has(self, *lines: str) -> bool:
        """Tell whether these lines have been said, in this order."""
        self._read()
        rest = iter(self.lines)
        return all(any(line == said for said in rest) for line in lines)

    def _read(self) -> None:
        try:
            while data := self._listener.recv(4096, socket.MSG_DONTWAIT):
                self.lines += data.decode().splitlines()
        except BlockingIOError:
            return


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{tmp_path}")
        yield Notified(listener)


def test_systemd_hears_of_each_turn_and_that_the_workers_live(
    notified: Notified, redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """Ready once all are; alive only while a worker says so; the same process after an upgrade."""
    environment = {"NOTIFY_SOCKET": f"@{tmp_path}", "WATCHDOG_USEC": "1000000"}
    settings = plain_settings(redis, recorder.url) | {"workers": 2}
    with ProxyProcess(tmp_path, settings, environment) as proxy:
        ready = ("READY=1", f"MAINPID={proxy.pid}", "STATUS=2 workers ready")
        until(lambda: notified.has(*ready, "WATCHDOG=1", "WATCHDOG=1"))
        proxy.signal(signal.SIGHUP)
        until(lambda: notified.has("RELOADING=1", "STATUS=reading the configuration", *ready))
        proxy.signal(signal.SIGUSR2)
        until(lambda: notified.has("RELOADING=1", "STATUS=upgrading", *ready, "WATCHDOG=1"))
        proxy.signal_workers(signal.SIGSTOP)
        try:
            until(lambda: is_quiet(notified))
        finally:
            proxy.signal_workers(signal.SIGCONT)
        notified.lines.clear()
        until(lambda: notified.has("WATCHDOG=1"))
    assert notified.has("STOPPING=1", "STATUS=draining")


def is_quiet(notified: Notified) -> bool:
    notified.has()
    before = len(notified.lines)
    time.sleep(2.5)
    notified.has()
    return len(notified.lines) == before


def test_what_keeps_every_worker_from_starting_ends_the_start_with_the_reason(
    redis: RedisServer, tmp_path: Path
) -> None:
    pipe = tmp_path / "log.pipe"
    os.mkfifo(pipe)
    settings = plain_settings(redis, "http://127.0.0.1:9") | {"workers": 2}
    proxy = ProxyProcess(tmp_path, settings | {"access_log": {"path": str(pipe)}})
    with pytest.raises(AssertionError, match="ended at once"):
        proxy.start()
    assert proxy.wait() == 2
    assert f"the access log {pipe} can't be opened: nobody reads this pipe" in proxy.stderr
    assert "Traceback" not in proxy.stderr


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_worker_that_stands_still_is_killed_and_followed_by_another(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """Half a minute of silence; readiness fails from the first moment, and heals."""
    settings = plain_settings(redis, recorder.url) | {"workers": 2}
    with ProxyProcess(tmp_path, settings) as proxy:
        still = proxy.workers()[0]
        os.kill(still, signal.SIGSTOP)
        until(lambda: any("does not answer" in why for why in reasons(proxy)))
        until(lambda: still not in proxy.workers(), 120)
        until(lambda: reasons(proxy) == [])
        until(lambda: "is killed: it does not answer" in proxy.stderr)
        assert call(proxy, 40) == {200: 40}


def reasons(proxy: ProxyProcess) -> list[str]:
    """Ask until a worker answers that does not stand still."""
    while True:
        try:
            told = readiness(proxy)
        except TimeoutError:
            continue
        return list(told["reasons"])


def test_an_address_is_never_shared_by_mistake_and_no_worker_outlives_its_supervisor(
    redis: RedisServer, tmp_path: Path
) -> None:
    """Workers have a socket each of one address; another sidecar is refused it, until all end."""
    settings = plain_settings(redis, "http://127.0.0.1:9") | {"workers": 2}
    first = ProxyProcess(tmp_path, settings)
    first.start()
    (tmp_path / "other").mkdir()
    other = ProxyProcess(tmp_path / "other", settings | {"listen": first.settings["listen"]})
    with pytest.raises(AssertionError, match="Address already in use"):
        other.start()
    assert other.wait() == 2
    workers = first.workers()
    first.kill()
    until(lambda: not any(is_alive(pid) for pid in workers))


def is_alive(pid: int) -> bool:
    try:
        return b"sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_an_upgrade_keeps_store_and_sockets_and_applies_what_needs_a_restart(
    recorder: Recorder, tmp_path: Path
) -> None:
    """The same Redis, with its tokens, and the same unix socket, under fewer workers.

    When the only one of them is killed, callers wait for the next.
    """
    program = tmp_path / "sidecar_here.py"
    program.write_text(
        f"import os, sys\nos.chdir({str(tmp_path)!r})\n"
        "from sidecar.cli.main import main\nsys.exit(main())\n"
    )
    settings = embedded_settings(recorder.url, tmp_path)
    with ProxyProcess(tmp_path, settings, program=program) as proxy:
        store, old = redis_of(proxy), proxy.workers()
        asked = ["token", "create", "--account", "acme", "--name", "kept", "--days", "1"]
        command = [sys.executable, str(program), *asked, "--config", str(proxy.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        portal = f"127.0.0.1:{free_port()}"
        proxy.settings |= {"workers": 1, "portal": {"address": portal}}
        proxy.config.write_text(yaml.safe_dump(proxy.settings))
        proxy.signal(signal.SIGUSR2)
        until(lambda: len(proxy.workers()) == 1 and not set(old) & set(proxy.workers()))
        assert redis_of(proxy) == store
        until(proxy.is_ready)
        for _ in range(20):  # some of them on the socket of the worker that is no more
            assert readiness(proxy)["configuration"]["needs_restart"] == []
        until(lambda: status_of(f"http://{portal}/") == 200)  # 503 while its secret is not read
        os.kill(proxy.worker, signal.SIGKILL)
        for _ in range(8):
            client = RawClient(proxy.connect())
            assert ask(client, f"access_token: {done.stdout.strip()}".encode()).status == 200
            client.close()
        until(lambda: readiness(proxy)["workers"] == {"ready": 1, "of": 1})
    until(lambda: not is_alive(store))


def status_of(url: str) -> int:
    try:
        with urlopen(url) as page:
            return int(page.status)
    except HTTPError as error:
        error.close()
        return error.code


def embedded_settings(upstream: str, directory: Path) -> dict[str, object]:
    return {
        "upstreams": {"listener": {"url": upstream}},
        "routes": [{"path": "/v1/dynamic/listener/{id}"}],
        "accounts": {"acme": {}},
        "store": {"url": "embedded"},
        "listen": {"address": f"unix:{directory}/proxy.sock"},
        "workers": 2,
        "drain": {"timeout": "5s"},
    }


def redis_of(proxy: ProxyProcess) -> int:
    """Return the process that keeps an eye on the embedded Redis."""
    children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    (watchdog,) = [
        int(pid)
        for pid in children
        if b"sidecar-redis" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return watchdog
