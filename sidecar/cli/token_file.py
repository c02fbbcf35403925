"""A file of exported tokens, checked whole before the first of its tokens is taken."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO

from sidecar.core.errors import UsageError
from sidecar.store.port import Exported
from sidecar.store.token_lines import MAX_LINE_BYTES, check_first, read

MOST_PROBLEMS = 1000
"""So many are told one by one; beyond it they are counted."""


@dataclass(slots=True)
class Findings:
    """What is wrong with a file, by the number of the line (from 1)."""

    tokens: int = 0
    invalid: int = 0
    is_whole: bool = False
    """The line that ends an export has come."""
    problems: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, problem: str) -> None:
        """Note a line that is not of an export."""
        self.invalid += 1
        self.note(line, problem)

    def note(self, line: int, problem: str) -> None:
        """Note what became of a line."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((line, problem))


class TokenFile:
    """The lines of an export, to be read twice: once to check, once to import.

    A stream that can't be rewound is put aside in a temporary file while it is checked. Memory does
    not grow with the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = 0
        self._held = ExitStack()

    def __enter__(self) -> TokenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def check(self) -> Findings:
        """Read the whole file; raises ``UsageError`` for no export, or one of another version."""
        findings = Findings()
        source = self._rewindable()
        try:
            check_first(source.readline(MAX_LINE_BYTES + 1))
        except ValueError as error:
            raise UsageError(str(error)) from None
        number = 1
        for number, line in _lines(source):
            _check_line(number, line, findings)
        if not findings.is_whole:
            findings.add(number, "the file ends after this line: the export was cut off")
        return findings

    def tokens(self) -> Iterator[tuple[int, Exported]]:
        """Yield the tokens of good lines, with the line's number; ``check`` comes first."""
        self._stream.seek(self._start)
        self._stream.readline(MAX_LINE_BYTES + 1)
        for number, line in _lines(self._stream):
            try:
                found = read(line)
            except ValueError:
                continue
            if not isinstance(found, Exported):
                return
            yield number, found

    def _rewindable(self) -> BinaryIO:
        """Return the stream, or all of it in a temporary file, at its start."""
        try:
            self._start = self._stream.seek(0, os.SEEK_CUR)
        except OSError:
            self._stream = self._put_aside()
            self._start = self._stream.seek(0)
        return self._stream

    def _put_aside(self) -> BinaryIO:
        try:
            aside = self._held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it does
            while piece := self._stream.read(1 << 20):
                aside.write(piece)
        except OSError as error:
            raise UsageError(
                f"what came can't be put aside to check it first ({error.strerror}); "
                "name the file instead: sidecar store import FILE"
            ) from None
        return aside


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each line but the first and blank ones; of one too long, no more than shows it."""
    number = 1
    while line := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(MAX_LINE_BYTES + 1)
        if line.strip():
            yield number, line


def _check_line(number: int, line: bytes, findings: Findings) -> None:
    if findings.is_whole:
        findings.add(number, "it stands after the line that ends the export")
        return
    try:
        found = read(line)
    except ValueError as error:
        findings.add(number, str(error))
        return
    if isinstance(found, Exported):
        findings.tokens += 1
        return
    findings.is_whole = True
    came = findings.tokens + findings.invalid
    if found != came:
        findings.add(number, f"the export had {found} tokens, and {came} lines came before this")
