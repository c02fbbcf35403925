"""Colour: on a terminal, unless the environment says otherwise, and never in what others read."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.cli.color import Style, has_color, paint, paint_problem
from tests.command_line import run_command
from tests.proxy_process import ROOT
from tests.terminal import run_in_terminal

RED, YELLOW, GREEN = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m"
WARNED = """
upstreams: {a: {url: "http://127.0.0.1:1"}}
routes: [{path: "/v1/:id"}]
accounts: {acme: {}}
"""


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("environ", "on_terminal", "in_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "0"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": ""}, True, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR_FORCE": "0"}, True, False),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "1"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}, False, False),
    ],
)
def test_the_environment_is_asked_before_the_terminal(
    environ: Mapping[str, str], on_terminal: bool, in_pipe: bool
) -> None:
    assert has_color(Stream(True), environ) is on_terminal
    assert has_color(Stream(False), environ) is in_pipe


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize(
    ("line", "painted"),
    [
        ("a.yaml:1:2: x: is wrong", f"{RED}a.yaml:1:2:\x1b[0m x: is wrong"),
        (
            "a.yaml:1:2: warning: odd\n    x\n    ^",
            f"\x1b[1ma.yaml:1:2:\x1b[0m{YELLOW} warning:\x1b[0m odd\n    x\n    {YELLOW}^\x1b[0m",
        ),
        ("sidecar: no such account", f"{RED}sidecar:\x1b[0m no such account"),
        ("anything else: 1:2", "anything else: 1:2"),
        ("", ""),
    ],
)
def test_a_problem_shows_where_it_is(line: str, painted: str) -> None:
    assert paint_problem(line, Stream(True)) == painted
    assert paint_problem(line, Stream(False)) == line
    assert paint("", Style.BAD, Stream(True)) == ""


@pytest.mark.usefixtures("plain_environment")
def test_check_is_coloured_on_a_terminal_and_plain_without_colour(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text(WARNED)
    (tmp_path / "sidecar.yaml").chmod(0o640)
    command = [sys.executable, "-m", "sidecar", "check", "--strict"]
    here = {"PYTHONPATH": str(ROOT)}
    status, shown = run_in_terminal(command, cwd=tmp_path, environment=here)
    assert (status, YELLOW in shown, RED in shown) == (2, True, True)
    _, plain = run_in_terminal(command, cwd=tmp_path, environment={**here, "NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert "warning:" in plain
    _, dumb = run_in_terminal(command, cwd=tmp_path, environment={**here, "TERM": "dumb"})
    assert dumb == plain


@pytest.mark.usefixtures("plain_environment")
def test_json_is_never_coloured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sidecar.yaml").write_text(WARNED)
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = run_command("check", config=tmp_path / "sidecar.yaml")
    assert f"{GREEN}ok" in coloured.stdout
    assert "\x1b" not in run_command("check", "--json", config=tmp_path / "sidecar.yaml").stdout
    assert (
        "\x1b"
        not in run_command("account", "list", "--json", config=tmp_path / "sidecar.yaml").stdout
    )
