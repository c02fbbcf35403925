"""``sidecar manual``: prints sidecar(1), made from the parser and its examples, or sidecar.yaml(5).

Both pages are also files of the package, ``sidecar.1`` and ``sidecar.yaml.5``, which are installed
where man looks. They use the macros of man(7), which groff and mandoc both know.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Final

from sidecar.cli.arguments import Parser, commands_of
from sidecar.cli.options import DEFAULT_FILES, Subparsers
from sidecar.cli.roff import bold, escape, italic, literal, paragraph

_EXAMPLES: Final = (
    "sidecar manual | man -l -",
    "sidecar manual sidecar.yaml | man -l -",
    "sidecar manual >/usr/local/share/man/man1/sidecar.1",
)

_WRITTEN: Final = "2026-11-29"
"""When this module's own sentences last changed; the page can't be without a date."""

PAGES: Final = ("sidecar", "sidecar.yaml")
_SHARED: Final = ("--help", "--config", "--json")
"""Options of most commands, described once."""

_FILES: Final = {
    DEFAULT_FILES[0]: "The configuration, if neither --config nor $SIDECAR_CONFIG names one.",
    DEFAULT_FILES[1]: "The same, if the first one does not exist.",
    DEFAULT_FILES[2]: "The same, if neither of them exists.",
    "data/": "Beside the configuration: the tokens, if the store is embedded.",
}
_ENVIRONMENT: Final = {
    "SIDECAR_CONFIG": "The configuration, if --config does not name one.",
    "SIDECAR_DEBUG": "1: an internal error shows its traceback, without values.",
    "NO_COLOR": "Not empty: nothing is coloured.",
    "FORCE_COLOR": "Not empty and not 0: colour is used in pipes and files, too.",
    "COLUMNS": "The width of lists and of help; default: that of the terminal.",
}
_STATUSES: Final = {
    "0": "Done.",
    "1": "Failed.",
    "2": "Wrong usage, or a faulty configuration. Nothing was done.",
}
_SIGNALS: Final = {
    "SIGTERM, SIGINT": "sidecar run lets requests under way finish, and ends.",
    "SIGHUP": "It reads its configuration again.",
    "SIGUSR1": "It opens its access log again, after that was moved away.",
    "SIGUSR2": "It is replaced by the program that is installed now, and drops no connection.",
}


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "manual",
        help="print the manual page, for man -l -",
        description="Print a manual page, sidecar(1) or sidecar.yaml(5), in the language of "
        "man(7). Both are also installed with the program, so that man finds them.",
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "page",
        metavar="PAGE",
        nargs="?",
        choices=PAGES,
        default=PAGES[0],
        help=f"{' or '.join(PAGES)} (default: {PAGES[0]})",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    print(*write_page(arguments.page, arguments.parser), sep="\n")
    return 0


def write_page(page: str, parser: Parser) -> Iterator[str]:
    """Return the lines of one of ``PAGES``."""
    if page == PAGES[0]:
        return write_manual(parser)
    from sidecar.cli.configuration_manual import write_configuration_manual
    from sidecar.config.schema import json_schema

    return write_configuration_manual(json_schema(), _WRITTEN)


def write_manual(parser: Parser) -> Iterator[str]:
    """Yield the lines of the page, of at most 80 characters."""
    yield f'.TH SIDECAR 1 {_WRITTEN} auth\\-sidecar "User Commands"'
    yield from (".nr HY 0", ".nh", ".ad l")  # what is hyphenated can't be copied
    yield from (".SH NAME", r"sidecar \- authenticating reverse proxy and its tokens")
    yield ".SH SYNOPSIS"
    for command in _commands_below(parser):
        yield from (f'.SY "{escape(command.prog)}"', *_synopsis(command), ".YS")
    yield ".SH DESCRIPTION"
    yield from paragraph(parser.description or "")
    yield ".PP"
    yield from paragraph(
        "A new installation begins with sidecar init, or with sidecar demo, which needs nothing."
    )
    yield ".SH OPTIONS"
    yield from paragraph("Most commands take these, before or after their name:")
    for action in parser._actions:
        if action.option_strings:
            yield from _option(action)
    yield ".SH COMMANDS"
    for command in _commands_below(parser):
        yield from _command(command)
    for title, rows in (
        ("EXIT STATUS", _STATUSES),
        ("SIGNALS", _SIGNALS),
        ("ENVIRONMENT", _ENVIRONMENT),
        ("FILES", {str(path): about for path, about in _FILES.items()}),
    ):
        yield f".SH {title}"
        for name, about in rows.items():
            yield from (".TP", bold(name), *paragraph(about))
    yield ".SH SEE ALSO"
    yield r"\fBsidecar.yaml\fR(5), \fBcurl\fR(1), \fBredis\-server\fR(1), \fBsystemctl\fR(1)"


def _command(command: Parser) -> Iterator[str]:
    yield f'.SS "{escape(command.prog)}"'
    yield from paragraph(command.description or "")
    for action in command._actions:
        if not set(action.option_strings) & set(_SHARED):
            yield from _option(action)
    yield from (".PP", "Examples:", ".PP", *literal(iter(command.examples)))


def _synopsis(command: Parser) -> Iterator[str]:
    """Yield what may follow the command's name, each part kept whole."""
    for action in command._actions:
        if set(action.option_strings) & set(_SHARED):
            continue
        shown = _values_of(action)
        if action.option_strings:
            shown = f"{bold(action.option_strings[0])}{f' {shown}' if shown else ''}"
        is_needed = action.required or (not action.option_strings and action.nargs != "?")
        text = shown if is_needed else f"[{shown}]"
        yield text.replace(" ", r"\ ")


def _option(action: argparse.Action) -> Iterator[str]:
    values = _values_of(action)
    names = ", ".join(map(bold, action.option_strings)) or values
    yield ".TP"
    yield f"{names} {values}" if action.option_strings and values else names
    help_text = re.sub(r"\Ashow", "print", action.help or "")
    yield from paragraph(help_text[:1].upper() + help_text[1:] + ".")


def _values_of(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    name = action.metavar or "|".join(map(str, action.choices or ())) or action.dest
    return italic(str(name))


def _commands_below(parser: argparse.ArgumentParser) -> Iterator[Parser]:
    """Yield each command that does something, not its group."""
    for _, below in commands_of(parser):
        if dict(commands_of(below)):
            yield from _commands_below(below)
        elif isinstance(below, Parser):
            yield below
