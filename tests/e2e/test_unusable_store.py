"""A store that can't be used by what the file says: told by the check, refused by whoever reads it.

Whatever ``sidecar check`` passes, starts; what it refuses, neither a reload nor an upgrade takes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.command_line import run_command
from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import ask, plain_settings
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder

FAULTY = [
    "redis://127.0.0.1:6379/a",
    "redis://127.0.0.1:6379?ssl=true",
    "redis://h1:6379,h2:6379",
    "redis://127.0.0.1:6379?socket_timeout=5",
    "redis+sentinel://127.0.0.1:26379",
    "redis+cluster://127.0.0.1:6379/1",
    "redis://:pass/word@127.0.0.1:6379/0",
    "rediss://127.0.0.1:6379?ssl_ca_certs=missing.pem",
    "rediss://127.0.0.1:6379?ssl_cert_reqs=never",
    "unix://",
]


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.02)


def has(proxy: ProxyProcess, text: str, times: int) -> bool:
    return proxy.stderr.count(text) >= times


@pytest.mark.parametrize("url", FAULTY)
def test_the_check_refuses_it_at_its_place(url: str, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yaml"
    settings = {"upstreams": {"a": {"url": "http://h"}}, "routes": [{"path": "/x"}]}
    config.write_text(yaml.safe_dump({**settings, "store": {"url": url}}))
    done = run_command("check", config=config)
    line = config.read_text().splitlines().index("store:") + 2
    assert done.returncode == 2
    assert done.stderr.startswith(f"{config}:{line}:8: store.url: ")
    assert "pass" not in done.stderr.replace("password", "")


def test_neither_a_reload_nor_an_upgrade_takes_it(
    redis: RedisServer, recorder: Recorder, tmp_path: Path
) -> None:
    """The one that runs goes on, and so does a worker that replaces another meanwhile."""
    with ProxyProcess(tmp_path, plain_settings(redis, recorder.url)) as proxy:
        worker = proxy.worker
        for count, url in enumerate(FAULTY, 1):
            faulty = {**proxy.settings, "store": {"url": url}}
            proxy.config.write_text(yaml.safe_dump(faulty, sort_keys=False))
            proxy.signal(signal.SIGHUP)
            until(partial(has, proxy, "sidecar.yaml not reloaded: ", count))
            proxy.signal(signal.SIGUSR2)
            until(partial(has, proxy, "keeping this one", count))
        assert "replacing this program" not in proxy.stderr
        os.kill(worker, signal.SIGKILL)
        until(lambda: worker not in proxy.workers() and proxy.is_ready())
        client = RawClient(proxy.connect())
        assert ask(client, target=b"/status").status == 200
        client.close()
