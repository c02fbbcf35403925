"""What an error of the YAML parser usually means for the person who wrote the line.

The sentences never quote the line, which may hold a secret.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

_QUOTES: Final = "put it in quotes"
_INDENT: Final = "begin the keys of one section in the same column"
_FIRST_KEY: Final = re.compile(r"[\s-]*(?:[\w.@-]+|'[^']*'|\"[^\"]*\")\Z")


def explain(error: yaml.MarkedYAMLError, lines: list[str]) -> str:
    """Return what is wrong in ``lines`` and what to do, as one sentence."""
    problem = f"{error.problem or 'unexpected text'}"
    line, column = _line_at(error, lines)
    for part, say in _SAYINGS:
        if part in problem:
            found = say(error, line, column)
            if found is not None:
                return f"this is not YAML: {found}"
    context = f" {error.context}" if error.context else ""
    return (
        f"this is not YAML: {problem}{context}; check indentation, quotes and brackets around here"
    )


def _line_at(error: yaml.MarkedYAMLError, lines: list[str]) -> tuple[str, int]:
    mark = error.problem_mark or error.context_mark
    if mark is None or mark.line >= len(lines):
        return "", 0
    return lines[mark.line], mark.column


def _opened_at(error: yaml.MarkedYAMLError) -> str:
    mark = error.context_mark
    return "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"


def _of_brackets(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    if line[column : column + 1] == "{" and line[column - 1 : column] == "$":
        return (
            'within braces or brackets, a substitution must stand in quotes; write {key: "${NAME}"}'
        )
    if line[column : column + 1] in ("{", "["):
        return (
            "within braces or brackets, a text with a brace or bracket in it must stand in quotes; "
            'write {key: "/v1/{id}"}'
        )
    return (
        f"the bracket or brace that was opened{_opened_at(error)} is not closed before this, or a "
        "comma is missing; close it, or add the comma"
    )


def _of_first_letter(error: yaml.MarkedYAMLError, line: str, column: int) -> str | None:
    letter = line[column : column + 1]
    return f"a text can't begin with {letter}; {_QUOTES}" if letter in ("@", "`", "%") else None


def _of_asterisk(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    return f"a text can't begin with * or &; {_QUOTES}"


def _of_colon(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    if _FIRST_KEY.match(line[:column]):
        return f"this line is indented deeper than the one before it; {_INDENT}"
    return f"a text can't have a colon and a space in it; {_QUOTES}"


def _of_missing_key(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    if line.startswith("\ufeff"):
        return "there is a byte order mark within the file, which nobody sees; delete the line"
    if not line[:column].strip():
        return f"this line is indented differently from those of its section; {_INDENT}"
    return "the text goes on after its closing quote; write a quote within single quotes twice ('')"


def _of_missing_colon(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    return f"the key{_opened_at(error)} lacks its colon, or the space after it; write `name: value`"


def _of_open_quote(error: yaml.MarkedYAMLError, line: str, column: int) -> str | None:
    if "quoted" not in (error.context or ""):
        return None
    return f"the quote that was opened{_opened_at(error)} is never closed; close it"


def _of_backslash(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    return r"within double quotes, \ begins an escape; use single quotes, or write \\"


def _of_other_files(error: yaml.MarkedYAMLError, line: str, column: int) -> str:
    return "this looks like another kind of file, such as INI or TOML; write sections as `listen:`"


# Of libyaml, and of PyYAML's own parser, which says the same in other words.
_SAYINGS: Final = (
    ("expected ',' or", _of_brackets),
    ("cannot start any token", _of_first_letter),
    ("expected alphabetic or numeric", _of_asterisk),
    ("mapping values are not allowed", _of_colon),
    ("expected key", _of_missing_key),
    ("expected <block end>", _of_missing_key),
    ("expected '-' indicator", _of_missing_key),
    ("find expected ':'", _of_missing_colon),
    ("unexpected end of stream", _of_open_quote),
    ("unknown escape character", _of_backslash),
    ("expected <document start>", _of_other_files),
    ("expected '<document start>'", _of_other_files),
)
