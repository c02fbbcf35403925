"""``sidecar demo`` as a newcomer meets it: each printed line works, and Ctrl-C ends all of it."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT

START = "Ctrl-C stops all of it."
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

FORMS = [
    "Authorization: Bearer",
    "Authorization: access_token",
    "Authorization without a scheme",
    "the access_token header",
    "the jwt_token header",
    "?access_token= in the URL",
    "?token= in the URL",
    "?jwt_token= in the URL",
    "account and password",
    "the same in the username and password headers",
    "a token as the user name",
    "a token as the account's password",
    "a JWT as Authorization: Bearer",
    "a JWT in the jwt_token header",
    "a JWT as ?jwt_token= in the URL",
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as a unix socket's has about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="try-") as directory:
        yield Path(directory)


@contextmanager
def running_demo(directory: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the demo in a place of its own; yields the process and the lines it printed first."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process, lines_until(process.stdout, START)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        process.stdout.close()
    assert process.returncode == 0


def lines_until(stream: IO[str], last: str) -> list[str]:
    lines: list[str] = []
    while not lines or lines[-1] != last:
        line = stream.readline()
        assert line, f"the demo ended early: {lines}"
        lines.append(line.rstrip("\n"))
    return lines


def calls_in(lines: list[str]) -> dict[str, list[str]]:
    """Return the printed curl lines as words, by the comment before each."""
    return {
        before.removeprefix("# "): shlex.split(line)
        for before, line in itertools.pairwise(lines)
        if line.startswith("curl ")
    }


def ports_of(lines: list[str]) -> set[str]:
    """Return the ports of the proxy, the page and the operations listener."""
    told = [line for line in lines if not line.startswith("Not free")]
    return set(re.findall(r"http://127\.0\.0\.1:([0-9]+)", "\n".join(told)))


def run_curl(words: list[str]) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [*words, "-s", "-w", "\n%{http_code}"], capture_output=True, text=True, check=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def processes_in(directory: Path) -> list[str]:
    """Return the command lines of all processes that work in or below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "cwd").readlink().is_relative_to(directory):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_printed_call_is_answered_and_a_signal_leaves_nothing(
    place: Path, number: signal.Signals
) -> None:
    with running_demo(place) as (process, lines):
        calls = calls_in(lines)
        assert list(calls) == FORMS
        for form, words in calls.items():
            status, answer = run_curl(words)
            assert (form, status, answer["account"]) == (form, 200, "acme")
            assert answer["credential_arrived"] is False
            assert answer["query"] == ""
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(calls[FORMS[0]][-1])
        assert len(processes_in(place)) > 1, "Redis works in the demo's directory"
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[-1] == "Stopped; all data of the demo is deleted."
    assert processes_in(place) == []
    assert list(place.iterdir()) == []


def test_the_page_is_where_the_demo_says_and_its_password_signs_in(place: Path) -> None:
    with running_demo(place) as (_, lines):
        (line,) = (line for line in lines if line.startswith("API keys page: "))
        found = re.search(r"(http://\S+) \(account (\S+), password (\S+)\)", line)
        assert found is not None
        address, account, password = found.groups()
        with urllib.request.urlopen(address) as response:
            assert "Sign in" in response.read().decode()
        words = ["curl", "-u", f"{account}:{password}", f"{address}api/tokens"]
        status, answer = run_curl(words)
        assert status == 200
        assert len(answer) == 2, "the token and the JWT"


def test_two_demos_run_beside_each_other_on_ports_of_their_own(place: Path) -> None:
    with running_demo(place) as (_, first), running_demo(place) as (_, second):
        ports = [ports_of(lines) for lines in (first, second)]
        assert not ports[0] & ports[1]
        for ours, lines in zip(ports, (first, second), strict=True):
            # Tests beside this one run demos, too: either may have these ports, or neither.
            assert lines[0].startswith("Not free: port") == (ours != {"2020", "2021", "2022"})
        directories = [
            set(re.findall(r"/\S+/sidecar.yaml", "\n".join(lines))) for lines in (first, second)
        ]
        assert len(directories[0] | directories[1]) == 2, "each has its own data"
        assert run_curl(calls_in(second)[FORMS[0]])[0] == 200
        wrong = calls_in(first)[FORMS[0]][:-1] + calls_in(second)[FORMS[0]][-1:]
        assert run_curl(wrong)[0] == 401
