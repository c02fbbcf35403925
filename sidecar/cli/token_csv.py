"""A CSV file of tokens, read row by row: a header that names the columns, then a token a row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final

from sidecar.core.errors import UsageError
from sidecar.tokens.import_rows import COLUMNS, LIFETIME_COLUMNS, REQUIRED_COLUMNS

_DELIMITERS: Final = ",;\t"
_MOST_HEADER_CHARS: Final = 4096
_find_undecoded: Final = re.compile(r"[\udc80-\udcff]").search


def read_rows(
    stream: BinaryIO, invalidate: Callable[[int, str], None]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the line and the cells of each row, by column; blank lines are skipped.

    Comma, semicolon or tab separate the cells, whichever the header has; a byte order mark is
    skipped. A row that can't be read goes to ``invalidate`` with the reason. Raises ``UsageError``
    for a header that can't be used. No message repeats a cell.
    """
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        header = text.readline(_MOST_HEADER_CHARS)
        delimiter = max(_DELIMITERS, key=header.count)
        columns = _read_header(header, delimiter)
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        while True:
            line = rows.line_num + 2
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                invalidate(line, f"this is not CSV: {error}")
                continue
            problem = _fault_of(cells, len(columns))
            if problem:
                invalidate(line, problem)
            elif cells:
                yield line, dict(zip(columns, cells, strict=True))
    finally:
        text.detach()


def _read_header(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        cells = []
    columns = [cell.strip().lower() for cell in cells]
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing or not set(LIFETIME_COLUMNS) & {*columns}:
        raise UsageError(
            "the first line has to name the columns: token, account, name, and days or expires_at; "
            f"missing: {', '.join(missing) or 'days or expires_at'}"
        )
    unknown = sum(column not in COLUMNS for column in columns)
    if unknown:
        raise UsageError(
            f"the first line has {unknown} of {len(columns)} columns that are not known; "
            f"known: {', '.join(COLUMNS)}"
        )
    if len({*columns}) < len(columns):
        raise UsageError("the first line names a column twice")
    return columns


def _fault_of(cells: list[str], columns: int) -> str:
    if cells and len(cells) != columns:
        return f"this row has {len(cells)} cells, the first line {columns}"
    if any(map(_find_undecoded, cells)):
        return "this row is not UTF-8; save the file as UTF-8"
    return ""
