"""docs/reference/commands.md: every command with its usage, options and examples.

The page is made from the parser itself, so that it says what ``--help`` says, on each Python alike.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator

from sidecar.cli.main import build_parser
from website.pages import DOCS

PAGE = DOCS / "reference" / "commands.md"
_MOST_CHARS = 84
_SHARED = ("--config", "--json")
_OPTION, _VARIABLE = r"--[a-z][a-z-]*", r"\$[A-Z_]+"
_FILE, _KEY = r"[a-z_]+(?:/[a-z.]+)+|/[a-z/.-]{4,}", r"[a-z_]+\.[a-z_]+"
_URL, _PATTERN = r"[a-z]+://[^\s,;()]+", r"/[^\s,;()]*\*+"
_CODE = re.compile(rf"(?<![\w`/-])({_URL}|{_PATTERN}|{_OPTION}|{_VARIABLE}|{_FILE}|{_KEY})")
_HEAD = """\
# Commands

<!-- written by `make docs` -->

```sh
sidecar token create --account acme --name shop --days 365 --config sidecar.yaml
```

Every command, with what it takes. `--help` after a command prints the same.
[Command line](command-line.md) has the commands at a glance, and says what they print, what their
exit status means and which signals they understand.

"""


def commands_page() -> str:
    """Return the text of the page."""
    parser = build_parser()
    parts = [_HEAD, "Two options mean the same wherever a usage shows them:\n\n"]
    parts.append(_table([action for action in parser._actions if _is_shared(action)]))
    for name, command in commands_of(parser, "sidecar"):
        parts.append(f"\n{'#' * min(len(name.split()), 3)} {name}\n\n{_section(name, command)}")
    return "".join(parts)


def commands_of(
    parser: argparse.ArgumentParser, name: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command and every group of commands below a parser, with its whole name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                yield f"{name} {word}", command
                yield from commands_of(command, f"{name} {word}")


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if groups:
        return "".join(_groups(name, groups[0]))
    parts = [f"{_prose(parser.description or '')}\n"]
    examples = "\n".join(getattr(parser, "examples", ()))
    if examples:
        parts.append(f"\n```sh\n{examples}\n```\n")
    parts.append(f"\n```text\n{_usage(name, parser)}\n```\n")
    own = [a for a in parser._actions if not _is_shared(a) and a.dest != "help"]
    if own:
        parts.append(f"\n{_table(own)}")
    return "".join(parts)


def _groups(name: str, group: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[str]:
    yield "| command | does |\n|---|---|\n"
    for action in group._get_subactions():
        whole = f"{name} {action.dest}"
        about = _cell(action.help or "").partition(". ")[0].rstrip(".")
        yield f"| [`{whole}`](#{whole.replace(' ', '-')}) | {about[:1].lower()}{about[1:]} |\n"


def _table(actions: list[argparse.Action]) -> str:
    rows = (f"| `{_spelling(action)}` | {_means(action)} |\n" for action in actions)
    return "| option | means |\n|---|---|\n" + "".join(rows)


def _means(action: argparse.Action) -> str:
    about = (action.help or "") % {**vars(action), "prog": "sidecar"}
    about = f"{about[:1].upper()}{about[1:]}".rstrip(".")
    notes = "".join(f" {note}" for note in _notes(action) if note not in about)
    return f"{_cell(about)}.{notes}"


def _notes(action: argparse.Action) -> Iterator[str]:
    if action.required and action.option_strings:
        yield "Required."
    if action.choices is not None and action.metavar is not None:
        *first, last = (f"`{choice}`" for choice in action.choices)
        yield f"One of {', '.join(first)} and {last}."


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    words = [name]
    for action in parser._actions:
        if action.dest != "help":
            word = _spelling(action).replace(", ", " | ")
            optional = not action.required and bool(action.option_strings)
            optional = optional or action.nargs in ("?", "*")
            words.append(f"[{word}]" if optional else word)
    lines = [""]
    for word in words:
        if lines[-1] and len(f"{lines[-1]} {word}") > _MOST_CHARS:
            lines.append(" " * len(name))
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return "\n".join(lines)


def _spelling(action: argparse.Action) -> str:
    """Return an option or argument as one types it: ``-H, --header 'NAME: VALUE'``."""
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return str(value)
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


def _is_shared(action: argparse.Action) -> bool:
    return any(option in _SHARED for option in action.option_strings)


def _prose(text: str) -> str:
    return textwrap.fill(_marked(text), 118, break_on_hyphens=False, break_long_words=False)


def _cell(text: str) -> str:
    return _marked(text).replace("|", "\\|")


def _marked(text: str) -> str:
    """Return plain text as Markdown: options, variables and names of keys as code."""
    plain = re.sub(r"\s+", " ", text).strip()
    marked = "".join(
        part if is_code else _CODE.sub(r"`\1`", part) for part, is_code in _split_at_code(plain)
    )
    return "".join(
        part if is_code else part.replace("*", "\\*").replace("<", "\\<")
        for part, is_code in _split_at_code(marked)
    )


def _split_at_code(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a text, each with whether it is code between backticks."""
    for index, part in enumerate(re.split(r"(`[^`]*`)", text)):
        yield part, index % 2 == 1
