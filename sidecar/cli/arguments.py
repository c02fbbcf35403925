"""What may be written where on the command line, and what a mistyped word was meant to be.

``--config`` and ``--json`` may stand before a command's name as well as after it. A group without
its command prints its help. Each command's help ends in examples; it is plain text on each Python.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from sidecar.cli.options import add_config, add_json
from sidecar.config.diagnostics import near_miss

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_WITH_VALUE = "--config"


class Parser(argparse.ArgumentParser):
    """An argument parser that never echoes a long word, which may be a misplaced token.

    ``examples`` are lines to type, shown at the end of the help.
    """

    color = False  # from Python 3.14 on, help would be coloured

    def __init__(self, *, examples: Sequence[str] = (), **options: Any) -> None:
        options.setdefault("formatter_class", _HelpFormatter)
        super().__init__(**options)
        self.color = False
        self.examples = tuple(examples)
        self._words: tuple[str, ...] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and remember the words: an error may be explained by them."""
        self._words = tuple(sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    def add_commands(self, metavar: str) -> Any:
        """Return where the commands of a group are added; without one, its help is printed."""
        self.set_defaults(run=self._ask_for_command)
        return self.add_subparsers(metavar=metavar, title="commands")

    def _ask_for_command(self, _: argparse.Namespace) -> int:
        """Print the help, as git and its like do; the exit status is that of wrong usage."""
        self.print_help(sys.stderr)
        return 2

    def format_help(self) -> str:
        """Return the help: usage, description, options, and the examples."""
        text = super().format_help()
        if not self.examples:
            return text
        return f"{text}\nexamples:\n" + "".join(f"  {line}\n" for line in self.examples)

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print help, version or usage; raise ``OSError`` if that fails, on each Python alike."""
        stream = sys.stderr if file is None else file
        stream.write(message)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        hint = _hint_at(message) or self._hint_at_option(message)
        super().error(re.sub(r"[^\s'\",:]{16,}", "…", message) + hint)

    def _hint_at_option(self, message: str) -> str:
        """Say which option of the command a word that is none was meant to be."""
        found = re.search(r"unrecognized arguments: (?:.* )?(--[a-z-]{2,32})(?:[= ]|\Z)", message)
        if found is None:
            return ""
        meant = near_miss(found[1], _options_of(_parser_for(self, self._words)))
        return f"; did you mean {meant}?" if meant is not None else ""


class _HelpFormatter(argparse.HelpFormatter):
    """Help as wide as the terminal, with the commands of a group as a list of their own."""

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        is_group = isinstance(action, argparse._SubParsersAction)
        return text.partition("\n")[2] if is_group else text  # without its metavar

    def _iter_indented_subactions(
        self, action: argparse.Action
    ) -> Generator[argparse.Action, None, None]:
        if isinstance(action, argparse._SubParsersAction):
            yield from action._get_subactions()
        else:
            yield from super()._iter_indented_subactions(action)


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
            if not own and dict(commands_of(below)):
                add(below)
                own = below._actions[-1:]
            for action in own:
                action.default = argparse.SUPPRESS  # else it would undo what stands before


def has_option(parser: argparse.ArgumentParser, words: Sequence[str], option: str) -> bool:
    """Tell whether the command that ``words`` name takes an option after its name."""
    return option in _options_of(_parser_for(parser, words))


def _parser_for(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command that ``words`` name, or of their group."""
    for word in _plain(words):
        commands = dict(commands_of(parser))
        if not commands:
            break
        parser = commands.get(word, parser)
    return parser


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def command_of(words: Sequence[str]) -> str | None:
    """Return the first word that is neither an option nor the value of one."""
    return next(_plain(words), None)


def _plain(words: Sequence[str]) -> Iterator[str]:
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            yield word
        is_value = word == _WITH_VALUE


def commands_of(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands of a group with their parsers; none: it is a command itself."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _parsers_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for _, below in commands_of(parser):
        yield below
        yield from _parsers_below(below)
