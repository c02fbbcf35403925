"""Fixtures of the soak tests: a Redis of their own, and an upstream that names the account."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.passwords import hash_password
from tests.e2e.conftest import redis_binary
from tests.fairness.verdict import table
from tests.redis_servers import RedisServer, running_redis

PASSWORD = "correct horse battery"
FIGURES = pytest.StashKey[list[tuple[str, ...]]]()
"""Rows of the table at the end of a run; see ``tests.fairness.verdict``."""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print how the attacks on fairness affected honest callers."""
    if rows := config.stash.get(FIGURES, []):
        terminalreporter.section("honest callers under attack")
        terminalreporter.write_line(table(rows))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(redis_binary(), tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """Return the URL of a process that answers with the account it received."""
    program = Path(__file__).with_name("echo_upstream.py")
    command = [sys.executable, str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def settings_for(
    redis: RedisServer | str, upstream: str, directory: Path, accounts: int = 1
) -> dict[str, Any]:
    """Return settings with this many accounts, which share a password, and with a log file.

    ``redis`` is a server or the URL of a store.
    """
    password_hash = hash_password(PASSWORD)
    return {
        "upstreams": {"listener": {"url": upstream}},
        "routes": [{"path": "/v1/dynamic/listener/{id}"}],
        "accounts": {
            name_of(number): {"password_hash": password_hash} for number in range(accounts)
        },
        "store": {"url": redis if isinstance(redis, str) else redis.unix_url},
        "throttle": {"failures": 1_000_000, "window": "1m", "ban": "1s"},
        "access_log": {"path": str(directory / "access.log")},
    }


def name_of(number: int) -> str:
    return f"account-{number}"
