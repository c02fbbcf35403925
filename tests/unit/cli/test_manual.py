"""sidecar(1): current, complete, and clean to the programs that show it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from sidecar.cli.main import build_parser
from sidecar.cli.manual import PAGES, write_page
from sidecar.config import settings
from tests.command_line import run_command
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT
from tests.unit.cli.test_help import COMMANDS

FOLDER = ROOT / "sidecar" / "cli"
FILES = {"sidecar": FOLDER / "sidecar.1", "sidecar.yaml": FOLDER / "sidecar.yaml.5"}
PAGE = FILES["sidecar"]

each_page = pytest.mark.parametrize("page", PAGES)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )


@each_page
def test_the_page_that_is_installed_is_current(page: str) -> None:
    written = FILES[page].read_text(encoding="ascii")
    assert written == "\n".join(write_page(page, build_parser())) + "\n", "make man"
    assert run_command("manual", page).stdout == written


def test_the_page_of_the_command_is_the_usual_one() -> None:
    assert run_command("manual").stdout == run_command("manual", "sidecar").stdout


@each_page
def test_no_line_is_one_that_roff_would_take_for_a_macro(page: str) -> None:
    macros = {".TH", ".SH", ".SS", ".TP", ".PP", ".SY", ".YS", ".RS", ".RE", ".nf", ".fi"}
    begun = {
        line.split()[0] for line in FILES[page].read_text().splitlines() if line[:1] in (".", "'")
    }
    assert begun <= macros | {".nr", ".nh", ".ad"}


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@each_page
def test_mandoc_has_nothing_to_say_against_it(page: str) -> None:
    assert run("mandoc", "-T", "lint", FILES[page]).stdout == ""


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


def keys_in(model: type[BaseModel]) -> set[str]:
    """Return the names of a model's keys, and of those of the models in it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(name)
        for part in re.findall(r"[A-Za-z]+Settings", str(field.annotation)):
            found |= keys_in(getattr(settings, part))
    return found


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_every_key_of_the_configuration() -> None:
    shown = run("man", "--warnings", "-P", "cat", "-l", FILES["sidecar.yaml"])
    assert (shown.returncode, shown.stderr) == (0, "")
    named = re.findall(r"^ {3,7}([a-z_]+(?:(?:\[\])?\.[A-Za-z_]+)*)(?: \(.*)?$", shown.stdout, re.M)
    keys = {word for place in named for word in re.findall(r"[a-z_]+", place)}
    assert keys_in(settings.Settings) - keys == set()


def test_they_are_installed_where_man_looks() -> None:
    text = (ROOT / "setup.cfg").read_text()
    assert "share/man/man1 = sidecar/cli/sidecar.1\n" in text
    assert "share/man/man5 = sidecar/cli/sidecar.yaml.5\n" in text
