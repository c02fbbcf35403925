"""Export and import of a million tokens: little memory, and Redis serves others meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import yaml
from redis import Redis

from sidecar.store.redis import connect
from tests.proxy_process import ROOT, SIDECAR
from tests.redis_servers import RedisServer
from tests.soak.conftest import settings_for
from tests.soak.test_memory import MILLION, fill

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
MOST_RESIDENT_BYTES = 200 * 1024 * 1024
MOST_SILENCE_SECONDS = 0.25  # the time that a look-up may take


def run(config: Path, *words: str, stdin: BinaryIO | None = None, stdout: BinaryIO) -> int:
    """Run a command to its end; return its peak memory in bytes."""
    command = [*SIDECAR, *words, "--config", str(config)]
    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


@contextmanager
def asking_meanwhile(server: RedisServer) -> Iterator[list[float]]:
    """Read a key from Redis over and over; keep how long each read took."""
    durations: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        client = Redis(unix_socket_path=str(server.socket))
        while not is_over.wait(0.005):
            begun = time.monotonic()
            client.get("sidecar:token:nothing")
            durations.append(time.monotonic() - begun)
        client.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield durations
    finally:
        is_over.set()
        thread.join()


def tell(what: str, begun: float, resident: int, durations: list[float]) -> None:
    ordered = sorted(durations)
    print(
        f"\n{what} of {MILLION} tokens: {time.monotonic() - begun:.0f} s, {resident / 2**20:.0f} "
        f"MiB resident, Redis answered others in {ordered[len(ordered) // 2] * 1e3:.1f} ms, "
        f"99 % in {ordered[len(ordered) * 99 // 100] * 1e3:.0f} ms, "
        f"at most {ordered[-1] * 1e3:.0f} ms"
    )


async def test_a_million_tokens_are_exported_and_imported(
    redis: RedisServer, upstream: str, tmp_path: Path
) -> None:
    config, backup = tmp_path / "sidecar.yaml", tmp_path / "tokens.jsonl"
    settings: dict[str, Any] = settings_for(redis, upstream, tmp_path, accounts=1000)
    config.write_text(yaml.safe_dump(settings))
    client = Redis(unix_socket_path=str(redis.socket))
    store = connect(redis.unix_url, prefix="sidecar:")
    fill(client, 1000, store._index)
    await store.close()
    keys = client.dbsize()
    first = f"sidecar:token:{hashlib.sha256(b'0').hexdigest()}"
    ends = time.time() + client.ttl(first)

    with asking_meanwhile(redis) as durations, backup.open("wb") as out:
        begun = time.monotonic()
        resident = run(config, "store", "export", stdout=out)
        tell("export", begun, resident, durations)
    print(f"the file has {backup.stat().st_size / 1e6:.0f} MB")
    assert resident < MOST_RESIDENT_BYTES
    assert sorted(durations)[len(durations) * 99 // 100] < MOST_SILENCE_SECONDS

    client.flushall()
    summary = tmp_path / "summary.json"
    with (
        asking_meanwhile(redis) as durations,
        backup.open("rb") as lines,
        summary.open("wb") as out,
    ):
        begun = time.monotonic()
        resident = run(config, "store", "import", "--json", stdin=lines, stdout=out)
        tell("import", begun, resident, durations)
    assert resident < MOST_RESIDENT_BYTES
    assert sorted(durations)[len(durations) * 99 // 100] < MOST_SILENCE_SECONDS
    counts = json.loads(summary.read_text())
    assert counts["created"] + counts["present"] == MILLION  # present: of a step taken again
    assert client.dbsize() == keys
    assert abs(time.time() + client.ttl(first) - ends) <= 2
    client.close()
