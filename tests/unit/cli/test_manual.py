"""sidecar(1): current, complete, and clean to the programs that show it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.cli.main import build_parser
from sidecar.cli.manual import write_manual
from tests.command_line import run_command
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT
from tests.unit.cli.test_help import COMMANDS

PAGE = ROOT / "sidecar" / "cli" / "sidecar.1"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )


def test_the_page_that_is_installed_is_current() -> None:
    written = PAGE.read_text(encoding="ascii")
    assert written == "\n".join(write_manual(build_parser())) + "\n", "make man"
    assert run_command("manual").stdout == written


def test_no_line_is_one_that_roff_would_take_for_a_macro() -> None:
    macros = {".TH", ".SH", ".SS", ".TP", ".PP", ".SY", ".YS", ".RS", ".RE", ".nf", ".fi"}
    begun = {line.split()[0] for line in PAGE.read_text().splitlines() if line[:1] in (".", "'")}
    assert begun <= macros | {".nr", ".nh", ".ad"}


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_nothing_to_say_against_it() -> None:
    assert run("mandoc", "-T", "lint", PAGE).stdout == ""


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_every_command_with_its_options_and_examples() -> None:
    shown = run("man", "--warnings", "-P", "cat", "-l", PAGE)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = [line.strip() for line in shown.stdout.splitlines()]
    words = set(shown.stdout.replace(",", " ").split())
    for command in COMMANDS:
        assert command.prog in lines
        assert {option for action in command._actions for option in action.option_strings} <= words
        for example in command.examples:
            assert example.replace("…", "...") in lines
    examples = {line.replace("…", "...") for command in COMMANDS for line in command.examples}
    broken = [line for line in shown.stdout.splitlines() if line.strip() not in examples]
    assert max(map(len, broken)) <= 80


def test_it_is_installed_where_man_looks() -> None:
    assert "share/man/man1 = sidecar/cli/sidecar.1" in (ROOT / "setup.cfg").read_text()
