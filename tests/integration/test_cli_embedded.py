"""Commands on an embedded store: that of the sidecar that runs here, else one for the while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import run_command
from tests.ports import free_port
from tests.proxy_process import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
CONFIG = Path("sidecar.yaml")
CREATE = ("token", "create", "--account", "acme", "--days", "1", "--name")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a short path: a unix socket's has about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="here-") as directory:
        monkeypatch.chdir(directory)
        settings = {
            "listen": {"address": f"127.0.0.1:{free_port()}"},
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{free_port()}"}},
            "routes": [{"path": "/v1/{id}"}],
            "accounts": {"acme": {}},
            "store": {"url": "embedded"},
            "operations": {"address": f"127.0.0.1:{free_port()}"},
        }
        (Path(directory) / "sidecar.yaml").write_text(yaml.safe_dump(settings))
        yield Path(directory)


def run(*arguments: str) -> Any:
    done = run_command(*arguments, "--json", config=CONFIG)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running_sidecar() -> Iterator[None]:
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(CONFIG)]
    process = subprocess.Popen(command, env=ENVIRONMENT)
    try:
        while run_command("healthcheck", config=CONFIG).returncode:
            assert process.poll() is None
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        assert process.wait(20) == 0


def names() -> list[str]:
    return [token["name"] for token in run("token", "list")]


@pytest.mark.usefixtures("place")
def test_tokens_made_beside_a_running_sidecar_are_its_own_and_outlive_it() -> None:
    with running_sidecar():
        run(*CREATE, "beside")
        assert names() == ["beside"]
    assert names() == ["beside"]


@pytest.mark.usefixtures("place")
def test_tokens_made_while_none_runs_are_there_when_one_does() -> None:
    run(*CREATE, "before")
    with running_sidecar():
        assert names() == ["before"]


def test_a_directory_too_deep_for_a_socket_is_the_same_store_too(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = place / ("deep" * 30)
    deep.mkdir()
    CONFIG.rename(deep / CONFIG)
    monkeypatch.chdir(deep)
    with running_sidecar():
        run(*CREATE, "deep down")
        assert run("throttle", "list") == []
    assert names() == ["deep down"]
