"""``sidecar completion``: prints what has a shell complete commands, options and names of files.

The script is made from the parser, by shtab, and starts no Python at the press of a key.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sidecar.cli.arguments import commands_of
from sidecar.cli.options import Subparsers

SHELLS = ("bash", "zsh", "fish")

_EXAMPLES = (
    "source <(sidecar completion bash)",
    "sidecar completion bash >~/.local/share/bash-completion/completions/sidecar",
    'sidecar completion zsh >"${fpath[1]}/_sidecar"',
    "sidecar completion fish >~/.config/fish/completions/sidecar.fish",
)


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion",
        help="print a script by which bash, zsh or fish completes sidecar's commands",
        description="Print a script by which a shell completes the commands and options of "
        "sidecar, and the names of files. The shell reads it from the places below.",
        examples=_EXAMPLES,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS)}")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    print(complete(arguments.parser, arguments.shell))
    return 0


def complete(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell, of all that ``parser`` knows, which is changed by this."""
    import shtab

    for command in _with_commands(parser):
        for action in command._actions:
            if action.type is Path:
                is_directory = action.metavar == "DIR"
                completed = shtab.DIRECTORY if is_directory else shtab.FILE
                action.complete = completed  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell)
    return text


def _with_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those below it, each with one line that says what it is."""
    yield parser
    helps = {
        listed.dest: listed.help
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for listed in action._get_subactions()
    }
    for name, below in commands_of(parser):
        below.description = helps.get(name)  # zsh shows it beside the command
        yield from _with_commands(below)
