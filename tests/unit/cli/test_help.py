"""``--help``: every command shows examples that work, and fits the terminal."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from sidecar.cli.arguments import Parser, commands_of
from sidecar.cli.main import build_parser, main

FEWEST, MOST = 2, 4


def parsers_below(parser: argparse.ArgumentParser) -> Iterator[Parser]:
    for _, below in commands_of(parser):
        assert isinstance(below, Parser)
        yield below
        yield from parsers_below(below)


PARSERS = [build_parser(), *parsers_below(build_parser())]
GROUPS = [parser for parser in PARSERS if dict(commands_of(parser))]
COMMANDS = [parser for parser in PARSERS if parser not in GROUPS]
EXAMPLES = [(parser, line) for parser in COMMANDS for line in parser.examples]

each_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.prog)


def words_of(line: str) -> list[str]:
    """Return the words after ``sidecar``, up to what a shell does with its output."""
    line = re.sub(r"[$<]\((.*)\)", r" \1", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>")
    lexer.whitespace_split = True
    words = [*lexer]
    start = words.index("sidecar") + 1
    ends = (at for at in range(start, len(words)) if set(words[at]) <= set("|<>"))
    return words[start : next(ends, len(words))]


@each_command
def test_every_command_has_a_few_examples(command: Parser) -> None:
    assert FEWEST <= len(command.examples) <= MOST
    assert len(set(command.examples)) == len(command.examples)


@pytest.mark.parametrize(
    ("command", "line"), EXAMPLES, ids=[f"{command.prog}-{line}" for command, line in EXAMPLES]
)
def test_every_example_is_a_line_of_its_own_command(command: Parser, line: str) -> None:
    words = words_of(line)
    asked = build_parser().parse_args(words)
    assert words[: len(command.prog.split()) - 1] == command.prog.split()[1:]
    assert asked.run is not None
    assert len(line) <= 78, "it stands in the help, indented by two, and can't be wrapped"


@each_parser
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_is_no_wider_than_the_terminal(
    parser: Parser, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    examples = {f"  {line}" for line in parser.examples}
    lines = parser.format_help().splitlines()
    assert [line for line in lines if len(line) > columns and line not in examples] == []
    assert examples <= set(lines)


@each_parser
def test_help_is_plain_text_even_where_colour_is_asked_for(
    parser: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in parser.format_help()


@each_parser
def test_every_option_and_command_says_what_it_does(parser: Parser) -> None:
    assert parser.description
    said = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    groups = [action for action in said if isinstance(action, argparse._SubParsersAction)]
    assert [action for action in said if not action.help and action not in groups] == []
    for group in groups:
        assert len(group._get_subactions()) == len(group.choices)
        for listed in group._get_subactions():
            assert listed.help


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.prog)
def test_a_group_without_a_command_prints_its_help_and_is_wrong_usage(
    group: Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(group.prog.split()[1:]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == group.format_help()


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("check --conect", "did you mean --connect?"),
        ("check --conect --json", "did you mean --connect?"),
        ("token list --acount=acme", "did you mean --account?"),
        ("token --jsno list", "did you mean --json?"),
        ("--jsn check", "did you mean --json?"),
        ("check --xyzzy", ""),
    ],
)
def test_a_mistyped_option_is_told_what_it_was_meant_to_be(
    line: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert hint in told
    assert ("did you mean" in told) == bool(hint)
