"""Commands where something is closed, full or narrow: each says so in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.store.embedded import find_binary
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ENVIRONMENT, ROOT, run_sidecar
from tests.redis_servers import RedisServer, running_redis

COMMANDS = {
    "token list": True,
    "account list": True,
    "check": True,
    "store export": True,
    "schema": False,
    "--help": False,
    "--version": False,
}
"""Commands that print something, and whether they take ``--config``."""


class Shell:
    """Runs commands as a shell does, with redirections."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.config = directory / "sidecar.yaml"
        self.config.write_text(
            "upstreams: {a: {url: 'http://127.0.0.1:1'}}\nroutes: [{path: /x}]\n"
            f"accounts: {{acme: {{}}}}\nstore: {{url: '{redis.unix_url}'}}\n"
            f"operations: {{address: '127.0.0.1:{free_port()}'}}\n"
        )
        assert self.run("token create --account acme --name 'naïve “ü”' --days 1").returncode == 0

    def run(self, command: str, redirected: str = "", **environment: str) -> Run:
        named = f"--config {self.config}" if COMMANDS.get(command, True) else ""
        return subprocess.run(
            ["/bin/sh", "-c", f"{sys.executable} -m sidecar {command} {named} {redirected}"],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT, **environment},
        )


Run = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("shell")
    with running_redis(str(find_binary()), directory) as redis:
        yield Shell(directory, redis)


def is_told_well(done: Run) -> bool:
    words = (b"Traceback", b"internal error", b"[Errno", b"Exception ignored")
    return not any(word in done.stderr + done.stdout for word in words)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&-", ">/dev/full", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_is_no_internal_error(
    shell: Shell, command: str, redirected: str
) -> None:
    done = shell.run(command, redirected)
    assert is_told_well(done), done.stderr
    if command.startswith("--"):  # argparse prints these, and takes no notice
        return
    if redirected == ">&-":
        assert done.returncode == 2
        assert done.stderr.startswith(b"sidecar: standard output is closed, so nothing can be")
    elif redirected == ">/dev/full":
        assert done.returncode == 1
        expected = b"sidecar: standard output can't be written (No space left on device)"
        assert done.stderr.startswith(expected)
    else:
        is_audit_lost = command == "store export" and redirected == "2>/dev/full"
        assert done.returncode == (1 if is_audit_lost else 0)
        assert done.stdout


def test_no_token_is_made_where_it_can_not_be_shown(shell: Shell) -> None:
    before = shell.run("token list --json").stdout
    done = shell.run("token create --account acme --name lost --days 1", ">&-")
    assert done.returncode == 2
    assert shell.run("token list --json").stdout == before
    done = shell.run("token create --account acme --name full --days 1", ">/dev/full")
    assert b"revoke what was made: it is not shown again" in done.stderr


def test_what_belongs_on_a_closed_standard_error_does_not_appear_elsewhere(shell: Shell) -> None:
    done = shell.run("token create --account acme --name alone --days 1", "2>&-")
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 1
    assert done.stdout.startswith(b"sct_")


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    for command in COMMANDS:
        assert is_told_well(shell.run(command, "| head -c 1")), command


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("terminal", [ASCII, {"PYTHONIOENCODING": "ascii"}], ids=str)
@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "explain GET /é", "token show é", "token create --account é --name é --days 1"],
)
def test_a_terminal_that_knows_only_ascii_gets_ascii(
    shell: Shell, command: str, terminal: dict[str, str]
) -> None:
    done = shell.run(command, **terminal)
    assert is_told_well(done), done.stderr
    if command != "store export":  # JSON, which is UTF-8 (RFC 8259)
        assert done.stdout.isascii()
    if command == "token list":
        assert rb"na\xefve \u201c\xfc\u201d" in done.stdout


@pytest.mark.parametrize("terminal", [ASCII, {"PYTHONIOENCODING": "latin-1"}, {}], ids=str)
def test_json_stays_json_on_every_terminal(shell: Shell, terminal: dict[str, str]) -> None:
    done = shell.run("token list --json", **terminal)
    assert "naïve “ü”" in [token["name"] for token in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("store import /nowhere", 1, "sidecar: /nowhere: No such file or directory; create it"),
        ("store import /tmp", 1, "sidecar: /tmp: Is a directory; name a file in it"),
        ("healthcheck", 1, "Connection refused; does `sidecar run` run here"),
        ("check --connect", 1, "the connection failed (Connection refused); is the service"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    shell: Shell, command: str, status: int, told: str
) -> None:
    done = shell.run(command)
    assert (done.returncode, told in done.stderr.decode()) == (status, True), done.stderr
    assert is_told_well(done)


def test_run_names_the_address_that_it_can_not_listen_on(shell: Shell) -> None:
    config = shell.config.with_name("taken.yaml")
    config.write_text(f"{shell.config.read_text()}listen: {{address: 'unix:/nowhere/x.sock'}}\n")
    done = run_sidecar("run", config=config)
    told = (
        "sidecar: listen.address: can't listen on unix:/nowhere/x.sock: No such file or directory; "
        "there is no directory /nowhere; create it"
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told)
