"""A file of exported tokens, checked as a whole before its first token is imported."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import BinaryIO

from sidecar.cli.import_report import ImportReport
from sidecar.core.counts import count_of
from sidecar.core.errors import UsageError
from sidecar.store.port import Exported
from sidecar.store.token_lines import MAX_LINE_BYTES, check_first, read


class TokenFile:
    """The lines of an export, which are read twice: once to check, once to import.

    A stream that can't be rewound is copied to a temporary file first. Memory does not grow with
    the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = 0
        self.token_count = 0
        """How many valid tokens ``check`` has found."""
        self._held = ExitStack()

    def __enter__(self) -> TokenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def check(self, advance: Callable[[int], None] = lambda _: None) -> ImportReport:
        """Read the whole file. Raises ``UsageError`` unless it is an export of this version.

        ``advance`` is told how many more bytes have been read.
        """
        source = self._rewindable()
        try:
            check_first(source.readline(MAX_LINE_BYTES + 1))
        except ValueError as error:
            raise UsageError(str(error)) from None
        check = _Check()
        number = 1
        for number, line in _lines(source):
            check.read(number, line)
            advance(len(line))
        self.token_count = check.tokens
        if not check.is_whole:
            what = "the file ends after this line: the export was cut off"
            check.report.invalidate(number, what)
        return check.report

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


class _Check:
    """The lines so far, and whether the one that ends an export was among them."""

    def __init__(self) -> None:
        self.report = ImportReport()
        self.is_whole = False
        self.tokens = 0

    def read(self, number: int, line: bytes) -> None:
        """Check one line."""
        if self.is_whole:
            what = "this line comes after the line that ends the export"
            self.report.invalidate(number, what)
            return
        try:
            found = read(line)
        except ValueError as error:
            self.report.invalidate(number, str(error))
            return
        if isinstance(found, Exported):
            self.tokens += 1
            return
        self.is_whole = True
        came = self.tokens + self.report.invalid
        if found != came:
            what = (
                f"the export had {found} tokens, but {count_of(came, 'line')} came before this one"
            )
            self.report.invalidate(number, what)
