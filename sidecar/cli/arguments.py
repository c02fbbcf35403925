"""What may be written where on the command line, and what a mistyped word was meant to be.

``--config`` and ``--json`` may stand before a command's name as well as after it.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from sidecar.cli.options import add_config, add_json
from sidecar.config.diagnostics import near_miss

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_WITH_VALUE = "--config"


class Parser(argparse.ArgumentParser):
    """An argument parser that never echoes a long word, which may be a misplaced token."""

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print help, version or usage; raise ``OSError`` if that fails, on each Python alike."""
        stream = sys.stderr if file is None else file
        stream.write(message)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        hint = _hint_at(message)
        super().error(re.sub(r"[^\s'\",:]{16,}", "…", message) + hint)


def _hint_at(message: str) -> str:
    choice = re.search(r"invalid choice: '([^']{1,32})' \(choose from (.*)\)", message)
    if choice is not None:
        meant = near_miss(choice[1], re.findall(r"[\w-]+", choice[2]))
        return f"; did you mean {meant}?" if meant is not None else ""
    if re.search(r"unrecognized arguments: \S+\.ya?ml\Z", message):
        return "; did you mean --config FILE?"
    return ""


def accept_anywhere(parser: argparse.ArgumentParser) -> None:
    """Let ``parser`` and its groups take ``--config`` and ``--json``, for the command below them.

    What stands after the command's name wins.
    """
    for option, add in (("--config", add_config), ("--json", add_json)):
        add(parser)
        for below in _parsers_below(parser):
            own = [action for action in below._actions if option in action.option_strings]
            if not own and dict(_commands_of(below)):
                add(below)
                own = below._actions[-1:]
            for action in own:
                action.default = argparse.SUPPRESS  # else it would undo what stands before


def has_option(parser: argparse.ArgumentParser, words: Sequence[str], option: str) -> bool:
    """Tell whether the command that ``words`` name takes an option after its name."""
    for word in _plain(words):
        commands = dict(_commands_of(parser))
        if not commands:
            break
        parser = commands.get(word, parser)
    return any(option in action.option_strings for action in parser._actions)


def command_of(words: Sequence[str]) -> str | None:
    """Return the first word that is neither an option nor the value of one."""
    return next(_plain(words), None)


def _plain(words: Sequence[str]) -> Iterator[str]:
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            yield word
        is_value = word == _WITH_VALUE


def _commands_of(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _parsers_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for _, below in _commands_of(parser):
        yield below
        yield from _parsers_below(below)
