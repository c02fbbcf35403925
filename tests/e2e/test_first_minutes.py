"""A new user's first ten minutes: ``sidecar init``, and then every line that it says to type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.config.load import load
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ENVIRONMENT, ROOT
from tests.terminal import run_in_terminal
from tests.upstream_recorder import Recorder

SIDECAR = [sys.executable, "-m", "sidecar"]
NEW = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}

UPSTREAM = "URL of the service behind [http://127.0.0.1:8080]: "
PATH = "Path pattern that may be called [/**]: "
ACCOUNT = "Account that may call it [acme]: "
STORE = "Redis for its tokens: embedded, or redis://HOST:6379/0 [embedded]: "
KEY = "Make a key that signs JWTs? [y/N]: "


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as a unix socket's has about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="try-") as directory:
        yield Path(directory)


def answer(place: Path, *answers: tuple[str, str], more: tuple[str, ...] = ()) -> tuple[int, str]:
    return run_in_terminal(
        [*SIDECAR, "init", *more], answers, cwd=place, environment={"PYTHONPATH": str(ROOT)}
    )


def test_enter_takes_what_is_in_brackets(place: Path) -> None:
    status, shown = answer(
        place, *((asked, "\n") for asked in (UPSTREAM, PATH, ACCOUNT, STORE, KEY))
    )
    assert status == 0, shown
    settings = load(place / "sidecar.yaml", {})
    assert str(settings.upstreams["service"].url) == "http://127.0.0.1:8080"
    assert settings.jwt.keys == ()


def test_an_impossible_answer_is_explained_and_asked_for_again(place: Path) -> None:
    status, shown = answer(
        place,
        (UPSTREAM, "127.0.0.1:9000\n"),
        ("is not the URL of an upstream", ""),
        (UPSTREAM, "http://127.0.0.1:9000\n"),
        (PATH, "/v1/:id\n"),
        ("for any one segment, write", ""),
        (PATH, "/v1/{id}\n"),
        (ACCOUNT, "a b\n"),
        ("use 1 to 128 of", ""),
        (ACCOUNT, "shop@example.com\n"),
        (STORE, "redis\n"),
        (STORE, "\n"),
        (KEY, "maybe\n"),
        ("answer y or n", ""),
        (KEY, "y\n"),
    )
    assert status == 0, shown
    assert "http://127.0.0.1:2020/v1/1" in shown
    settings = load(place / "sidecar.yaml", {})
    assert str(settings.upstreams["service"].url) == "http://127.0.0.1:9000"
    assert [*settings.accounts] == ["shop@example.com"]
    assert len(settings.jwt.keys) == 1


def test_what_an_option_says_is_not_asked(place: Path) -> None:
    options = ("--upstream", "http://127.0.0.1:1", "--path", "/x", "--account", "a", "--no-jwt")
    status, shown = answer(place, (STORE, "\n"), more=options)
    assert status == 0, shown
    assert shown.count("]: ") == 1
    status, shown = answer(place, more=("other", "--yes"))
    assert (status, shown.count("]: ")) == (0, 0)


# Behind the ^C comes an Enter: a signal of the very moment between the prompt and the wait for a
# key is noticed at the next key.
@pytest.mark.parametrize(
    ("keys", "status", "told"), [("\x04", 2, "ended"), ("\x03\n", 1, "interrupted")]
)
def test_one_who_stops_answering_leaves_nothing_behind(
    place: Path, keys: str, status: int, told: str
) -> None:
    ended, shown = answer(place, (UPSTREAM, "\n"), (PATH, keys))
    assert (ended, told in shown) == (status, True), shown
    assert [*place.iterdir()] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_line_that_it_says_to_type_works(place: Path) -> None:
    recorder = Recorder()
    listen = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [*SIDECAR, "init", "--upstream", recorder.url, "--listen", listen],
        cwd=place,
        env=NEW,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    check, run, create, call, listing, revoke = lines
    shell = f'sidecar() {{ "{sys.executable}" -m sidecar "$@"; }}\n'
    try:
        assert type_in(place, f"{shell}{check}").returncode == 0
        process = subprocess.Popen([*SIDECAR, *run.split()[1:]], cwd=place, env=NEW)
        try:
            while type_in(place, f"{shell}sidecar healthcheck").returncode:
                assert process.poll() is None
                time.sleep(0.1)
            status_of = f"{call} -s -o /dev/null -w '%{{http_code}}'"
            done = type_in(place, f'{shell}{create}; {status_of} && echo " $TOKEN"')
            status, token = done.stdout.split()
            assert status == "200"
            listed = json.loads(type_in(place, f"{shell}{listing} --json").stdout)
            script = f"{shell}{revoke.replace('ID', listed[0]['id'])}"
            assert type_in(place, script).returncode == 0
            assert type_in(place, f"TOKEN={token}; {status_of}").stdout == "401"
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        recorder.close()


def type_in(place: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env=NEW,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
