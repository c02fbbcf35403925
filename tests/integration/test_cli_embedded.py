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

from tests.proxy_process import ROOT, free_port

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
CREATE = ("token", "create", "--account", "acme", "--days", "1", "--name")


@pytest.fixture
def place() -> Iterator[Path]:
    """A working directory with a short path: a unix socket's has about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="here-") as directory:
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


def command_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sidecar", *arguments, "--config", "sidecar.yaml"]


def try_in(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_of(*arguments),
        cwd=place,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def run_in(place: Path, *arguments: str) -> Any:
    done = try_in(place, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running_sidecar(place: Path) -> Iterator[None]:
    process = subprocess.Popen(command_of("run"), cwd=place, env=ENVIRONMENT)
    try:
        while try_in(place, "healthcheck").returncode:
            assert process.poll() is None
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        assert process.wait(20) == 0


def names_in(place: Path) -> list[str]:
    return [token["name"] for token in run_in(place, "token", "list")]


def test_tokens_made_beside_a_running_sidecar_are_its_own_and_outlive_it(place: Path) -> None:
    with running_sidecar(place):
        run_in(place, *CREATE, "beside")
        assert names_in(place) == ["beside"]
    assert names_in(place) == ["beside"]


def test_tokens_made_while_none_runs_are_there_when_one_does(place: Path) -> None:
    run_in(place, *CREATE, "before")
    with running_sidecar(place):
        assert names_in(place) == ["before"]


def test_a_directory_too_deep_for_a_socket_is_the_same_store_too(place: Path) -> None:
    deep = place / ("deep" * 30)
    deep.mkdir()
    (place / "sidecar.yaml").rename(deep / "sidecar.yaml")
    with running_sidecar(deep):
        run_in(deep, *CREATE, "deep down")
        assert run_in(deep, "throttle", "list") == []
    assert names_in(deep) == ["deep down"]
