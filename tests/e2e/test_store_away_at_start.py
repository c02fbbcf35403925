"""A sidecar whose Redis is away when it starts says so as an error, and when it is back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.conformance.raw_client import RawClient
from tests.e2e.conftest import ask, plain_settings, redis_binary
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.02)


def test_a_store_away_at_the_start_is_an_error_until_it_is_back(
    recorder: Recorder, tmp_path: Path
) -> None:
    home = tmp_path / "redis"
    home.mkdir()
    redis = RedisServer(redis_binary(), home)
    settings = plain_settings(redis, recorder.url)
    settings["store"] = {**settings["store"], "url": f"redis://u:hunter2@127.0.0.1:{redis.port}"}
    proxy = ProxyProcess(tmp_path, settings | {"workers": 2})
    shown = f"the store (redis://127.0.0.1:{redis.port})"
    starting = threading.Thread(target=proxy.start)  # until it is ready, which needs the store
    starting.start()
    try:
        until(lambda: f"{shown} can't be used: " in proxy.stderr)
        assert "Connection refused. Until it can, requests that need it are answered 503" in (
            proxy.stderr
        )
        until(lambda: "listening on" in proxy.stderr)
        client = RawClient(proxy.connect())
        assert ask(client, target=b"/status").status == 200
        client.close()
        redis.start()
        until(lambda: f"{shown} still can't be used: " in proxy.stderr)
        assert "(WRONGPASS)" in proxy.stderr
        redis.command("ACL", "SETUSER", "u", "on", ">hunter2", "~*", "+@all")
        until(lambda: f"{shown} can be used again, after " in proxy.stderr)
        assert proxy.stderr.count(f"{shown} can't be used: ") == 1, "one of the workers says it"
        assert "hunter2" not in proxy.stderr
        starting.join(PATIENCE_SECONDS)
    finally:
        proxy.stop()
        redis.kill()
