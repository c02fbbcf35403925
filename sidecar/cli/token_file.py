"""A file of exported tokens, checked as a whole before its first token is imported."""

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
"""So many problems are listed; more are only counted."""


@dataclass(slots=True)
class Findings:
    """What is wrong with a file, by line number (from 1)."""

    tokens: int = 0
    invalid: int = 0
    is_whole: bool = False
    """The line that ends an export was read."""
    problems: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, problem: str) -> None:
        """Add an invalid line."""
        self.invalid += 1
        self.note(line, problem)

    def note(self, line: int, problem: str) -> None:
        """Note why a line was not imported."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append((line, problem))


class TokenFile:
    """The lines of an export, which are read twice: once to check, once to import.

    A stream that can't be rewound is copied to a temporary file first. Memory does not grow with
    the file.
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
        """Read the whole file. Raises ``UsageError`` unless it is an export of this version."""
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
        """Yield the tokens of valid lines, with the line number; call ``check`` first."""
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
        """Return the stream, or a copy of it in a temporary file, at its start."""
        try:
            self._start = self._stream.seek(0, os.SEEK_CUR)
        except OSError:
            self._stream = self._copy_to_file()
            self._start = self._stream.seek(0)
        return self._stream

    def _copy_to_file(self) -> BinaryIO:
        try:
            copy = self._held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it does
            while piece := self._stream.read(1 << 20):
                copy.write(piece)
        except OSError as error:
            raise UsageError(
                f"the input can't be copied to a temporary file to be checked ({error.strerror}); "
                "name the file instead: sidecar store import FILE"
            ) from None
        return copy


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each line but the first and blank ones; a line that is too long is cut."""
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
        findings.add(number, "this line comes after the line that ends the export")
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
        findings.add(
            number, f"the export had {found} tokens, but {_count(came)} came before this one"
        )


def _count(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"
