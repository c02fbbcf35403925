"""docs/reference/command-line.md lists every command and every option that there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from sidecar.cli.main import build_parser
from tests.proxy_process import ROOT

PAGE = (ROOT / "docs" / "reference" / "command-line.md").read_text("utf-8")
ROW = re.compile(r"^\| `sidecar ([a-z-]+(?: [a-z-]+)*)", re.M)


def commands_of(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command that does something, with the options of its own."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in groups:
        for word, inner in group.choices.items():
            yield from commands_of(inner, f"{name} {word}".strip())
    if not groups:
        options = {o for action in parser._actions for o in action.option_strings}
        yield name, options - {"-h", "--help"}


COMMANDS = dict(commands_of(build_parser()))


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    documented = {row.partition(" -")[0] for row in ROW.findall(PAGE)} - {"--version"}
    assert documented == set(COMMANDS)


def test_every_option_is_on_the_page() -> None:
    options = set().union(*COMMANDS.values())
    assert sorted(option for option in options if not re.search(rf"{option}\b", PAGE)) == []
