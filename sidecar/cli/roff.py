"""Text as man(7) has it: what roff would read as its own is escaped, and lines are short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_MOST_CHARS: Final = 78


def bold(text: str) -> str:
    """Return a text in bold."""
    return rf"\fB{escape(text)}\fR"


def italic(text: str) -> str:
    """Return a text in italics, or underlined."""
    return rf"\fI{escape(text)}\fR"


def paragraph(text: str) -> Iterator[str]:
    """Yield the lines of a paragraph; roff fills them."""
    line = ""
    for word in escape(text).split():
        if line and len(line) + len(word) >= _MOST_CHARS:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    yield line


def literal(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines that are shown as they are, indented."""
    yield from (".nf", ".RS 4")
    yield from (escape(line) or r"\&" for line in lines)
    yield from (".RE", ".fi")


def escape(text: str) -> str:
    """Return a text in ASCII without anything that roff would take for a command."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    text = text.replace("'", r"\(aq").replace("`", r"\(ga").replace("^", r"\(ha")
    text = text.replace("~", r"\(ti").replace('"', r"\(dq").replace("–", r"\(en")
    return rf"\&{text}" if text.startswith(".") else text
