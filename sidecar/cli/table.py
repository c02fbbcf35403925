"""Prints a list as a table for people: columns under their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows that share their keys; print nothing without rows."""
    if not rows:
        return
    heads = [key.replace("_", " ").upper() for key in rows[0]]
    lines = [heads, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def _cell(value: object) -> str:
    """Return a value as text, without control characters, which could command the terminal."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)
