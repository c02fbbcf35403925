"""Colour for people: on a terminal alone, and by the environment's wish before that.

In this order, as Python's own messages do: ``NO_COLOR`` (no-color.org) switches it off,
``FORCE_COLOR`` or ``CLICOLOR_FORCE`` (other than ``0``) switch it on, ``TERM=dumb`` and
``CLICOLOR=0`` switch it off; else a terminal has it, and a pipe or a file has not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, TextIO

_END: Final = "\x1b[0m"
_place_of_problem: Final = re.compile(r"(.+?:[0-9]+:[0-9]+:)( warning:)?(?= )").match


class Style(Enum):
    """How a text is emphasised: the escape sequence (ECMA-48, SGR) before it."""

    STRONG = "\x1b[1m"
    BAD = "\x1b[1;31m"
    ODD = "\x1b[1;33m"
    GOOD = "\x1b[1;32m"
    FAINT = "\x1b[2m"


def has_color(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether what is printed on ``stream`` should be coloured."""
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if environ.get("TERM") == "dumb" or environ.get("CLICOLOR") == "0":
        return False
    return stream.isatty()


def paint(text: str, style: Style, stream: TextIO) -> str:
    """Return a text in a style if ``stream`` has colour; else as it is."""
    return f"{style.value}{text}{_END}" if text and has_color(stream) else text


def paint_problem(line: str, stream: TextIO) -> str:
    """Return a line ``file:line:column: [warning:] text`` with its place and label emphasised.

    Carets below an excerpt have the label's colour. A line without a place stays as it is, but for
    the program's name before it.
    """
    if not has_color(stream):
        return line
    found = _place_of_problem(line)
    if found is None:
        return re.sub(r"\Asidecar:", lambda name: paint(name[0], Style.BAD, stream), line)
    style = Style.ODD if found[2] else Style.BAD
    label = paint(found[2], style, stream) if found[2] else ""
    head = paint(found[1], Style.STRONG if found[2] else style, stream)
    rest = re.sub(r"\^\Z", lambda caret: paint(caret[0], style, stream), line[found.end() :])
    return f"{head}{label}{rest}"
