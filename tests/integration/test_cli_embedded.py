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
from tests.patience import PATIENCE_SECONDS
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
    with running_sidecar():
        assert names() == []
    run(*CREATE, "between")
    with running_sidecar():
        assert names() == ["between"]


SPELLINGS = ["absolute", "link to the file", "link to the directory", "relative", "environment"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_store_is_the_file_s_wherever_a_command_is_run(
    spelling: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link.yaml").symlink_to(place / CONFIG)
    (tmp_path / "link").symlink_to(place)
    config, environment = {
        "absolute": (place / CONFIG, {}),
        "link to the file": (tmp_path / "link.yaml", {}),
        "link to the directory": (tmp_path / "link" / CONFIG, {}),
        "relative": (Path(os.path.relpath(place / CONFIG, tmp_path)), {}),
        "environment": (None, {"SIDECAR_CONFIG": str(place / CONFIG)}),
    }[spelling]

    def names_from_there() -> list[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            done = run_command("token", "list", "--json", config=config, environment=environment)
        assert done.returncode == 0, done.stderr
        return [token["name"] for token in json.loads(done.stdout)]

    with running_sidecar():
        run(*CREATE, "leaked")
        assert names_from_there() == ["leaked"]
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            done = run_command(
                *("token", "revoke", "--account", "acme", "--all"),
                config=config,
                environment=environment,
            )
        assert done.returncode == 0, done.stderr
        assert names() == []
    assert names_from_there() == []
    assert not (tmp_path / "data").exists()


COMMANDS = [
    (*CREATE, "x"),
    ("token", "list"),
    ("token", "revoke", "--account", "acme", "--all"),
    ("token", "show", "abc"),
    ("store", "export"),
    ("throttle", "list"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_begins_no_store_and_says_where_it_looked(
    command: tuple[str, ...], place: Path
) -> None:
    done = run_command(*command, config=CONFIG)
    assert done.returncode == 2
    assert f"there is no store in {place.resolve()}/data; start `sidecar run`, or" in done.stderr
    assert not (place / "data").exists()


def test_a_request_is_explained_before_a_store_has_begun(place: Path) -> None:
    bearer = ("-H", "Authorization: Bearer sct_" + "x" * 43)
    done = run_command("explain", "GET", "/v1/a", *bearer, "--json", config=CONFIG)
    assert json.loads(done.stdout)["status"] == 401, done.stderr
    assert not (place / "data").exists()


def test_the_check_says_where_a_store_will_begin_and_begins_none(place: Path) -> None:
    done = run_command("check", "--connect", config=CONFIG)
    assert f"note: `sidecar run` will begin a new store in {place.resolve()}/data" in done.stderr
    assert not (place / "data").exists()


def in_a_process(*command: str, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *command, "--config", str(config)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def left_by_an_earlier_version(place: Path, tmp_path: Path) -> Path:
    """Make a store with one token, as earlier versions had it: beside nothing, unmarked."""
    with running_sidecar():
        run(*CREATE, "old")
    old = tmp_path / "data"
    (place / "data").rename(old)
    (old / "lock").write_bytes(b"")
    return old


def test_tokens_that_an_earlier_version_left_elsewhere_are_not_lost_in_silence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = left_by_an_earlier_version(place, tmp_path), place.resolve() / "data"
    config = place / CONFIG
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        for command in (("run",), ("token", "list"), ("check", "--connect")):
            done = in_a_process(*command, config=config)
            assert done.returncode != 0
            assert "an earlier version left " in done.stderr
            assert f"(ln -s {old} {new})" in done.stderr
            assert not new.exists()
    new.symlink_to(old)
    with running_sidecar():
        assert names() == ["old"]
    assert names() == ["old"]


def test_a_store_of_another_configuration_in_the_current_directory_is_left_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_sidecar():
        run(*CREATE, "theirs")
    (tmp_path / CONFIG).write_bytes((place / CONFIG).read_bytes())
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(tmp_path / CONFIG)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = [process.stderr.readline()]
        while lines[-1] and "listening on" not in lines[-1]:
            lines.append(process.stderr.readline())
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
    assert f"WARNING a new store begins in {tmp_path.resolve()}/data" in "".join(lines)
    assert names() == ["theirs"]


def test_a_directory_that_cannot_be_written_says_what_to_do(place: Path) -> None:
    (place / "data").write_text("")
    done = in_a_process("run", config=CONFIG)
    assert done.returncode == 2
    assert f"{place.resolve()}/data: cannot keep the tokens here" in done.stderr
    assert "(ln -s " in done.stderr


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
