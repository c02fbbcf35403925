"""Prints a list for people: columns under their names, no wider than the terminal.

Into a pipe or a file, everything is printed whole, however wide. On a terminal that is too narrow,
these give way in turn, until the table fits:

1. columns in which no row has a value;
2. times, which are cut to the day;
3. the texts of ``_SHORTENED``, which end in an ellipsis then. Ids never do: they are copied.

If that is not enough, each row is printed as lines of its own, a name and a value in each.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from sidecar.cli.color import Style, paint
from sidecar.cli.options import print_json

Row = Mapping[str, object]
_Cells = dict[str, str]

_SHORTENED: Final = ("paths", "name", "account")
_LEAST_CHARS: Final = 10
_NOTHING: Final = "-"
_GAP: Final = "  "
_is_time: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").fullmatch
_DAY_CHARS: Final = len("2026-11-28")


def print_list(rows: Sequence[Row], arguments: argparse.Namespace, nothing: str) -> None:
    """Print rows as JSON or as a table.

    Without rows, a person is told ``nothing`` on standard error; to a program, ``[]`` says it.
    """
    if arguments.json:
        print_json([*rows])
    elif rows:
        print_table(rows)
    else:
        print(nothing, file=sys.stderr)


def print_table(rows: Sequence[Row]) -> None:
    """Print rows that share their keys; print nothing without rows."""
    if not rows:
        return
    cells = [{key: _cell(value) for key, value in row.items()} for row in rows]
    width = _width_of(sys.stdout)
    if width is not None:
        cells = [{key: _shown(text, sys.stdout) for key, text in row.items()} for row in cells]
    if width is not None and _widths_sum(cells) > width:
        fitted = _fit(cells, width, _ellipsis_for(sys.stdout))
        if fitted is None:
            _print_records(cells)
            return
        cells = fitted
    heads = {key: _head(key) for key in cells[0]}
    widths = _widths(cells)
    head, *lines = (
        _GAP.join(_pad(text, widths[key]) for key, text in line.items()).rstrip()
        for line in (heads, *cells)
    )
    print(paint(head, Style.STRONG, sys.stdout))
    for line in lines:
        print(line)


def _width_of(stream: TextIO) -> int | None:
    """Return the columns of the terminal; ``None``: it is none, or its width is not known."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _shown(text: str, stream: TextIO) -> str:
    """Return a text with ``?`` for each character that the terminal's encoding lacks."""
    if text.isascii():
        return text
    encoding = stream.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def _ellipsis_for(stream: TextIO) -> str:
    try:
        "…".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "..."
    return "…"


def _fit(cells: list[_Cells], width: int, ellipsis: str) -> list[_Cells] | None:
    """Return the cells such that the table has at most ``width`` columns; ``None``: impossible."""
    kept = [key for key in cells[0] if any(row[key] != _NOTHING for row in cells)]
    cells = [{key: row[key] for key in kept} for row in cells]
    if _widths_sum(cells) > width:
        cells = [{key: _to_day(text) for key, text in row.items()} for row in cells]
    for key in _SHORTENED:
        excess = _widths_sum(cells) - width
        if excess > 0 and key in kept:
            most = max(_widths(cells)[key] - excess, _LEAST_CHARS, len(_head(key)))
            cells = [{**row, key: _shorten(row[key], most, ellipsis)} for row in cells]
    return cells if _widths_sum(cells) <= width else None


def _print_records(cells: list[_Cells]) -> None:
    """Print each row as lines of a name and a value, with a blank line between two rows."""
    widest = max(map(len, map(_head, cells[0])))
    for number, row in enumerate(cells):
        if number:
            print()
        for key, text in row.items():
            head = paint(f"{_head(key):<{widest}}", Style.STRONG, sys.stdout)
            print(f"{head}{_GAP}{text}")


def _widths(cells: Sequence[_Cells]) -> dict[str, int]:
    return {key: max(len(_head(key)), *(_columns(row[key]) for row in cells)) for key in cells[0]}


def _widths_sum(cells: Sequence[_Cells]) -> int:
    """Return the columns of the whole table."""
    widths = _widths(cells)
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _head(key: str) -> str:
    return key.replace("_", " ").upper()


def _cell(value: object) -> str:
    """Return a value as text, without control characters, which could command the terminal."""
    if value is None or value == []:
        return _NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)


def _to_day(text: str) -> str:
    return text[:_DAY_CHARS] if _is_time(text) else text


def _shorten(text: str, most: int, ellipsis: str) -> str:
    """Return a text of at most ``most`` columns; one that was cut ends in an ellipsis."""
    if _columns(text) <= most:
        return text
    kept = ""
    for char in text:
        if _columns(kept + char) + len(ellipsis) > most:
            break
        kept += char
    return kept + ellipsis


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: East Asian characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
