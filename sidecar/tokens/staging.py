"""The rows of a file of tokens between check and import: a temporary database, not memory.

It holds digests, accounts and names, in a file of SQLite that has no name and goes away with the
process. So the rows of a file of any length can be compared with each other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from enum import IntEnum
from types import TracebackType
from typing import Final

from sidecar.tokens.import_rows import ImportRow

_CACHE_KIB: Final = 32768
_SCHEMA: Final = """
CREATE TABLE rows (
    line INTEGER PRIMARY KEY, digest BLOB UNIQUE, account TEXT, name TEXT, expires_at REAL,
    paths TEXT, state INTEGER DEFAULT 0, UNIQUE (account, name)
)
"""
_INSERT: Final = (
    "INSERT INTO rows (line, digest, account, name, expires_at, paths) VALUES (?, ?, ?, ?, ?, ?)"
)
_SELECT: Final = "SELECT line, digest, account, name, expires_at, paths FROM rows"


class State(IntEnum):
    """What is to become of a row."""

    UNKNOWN = 0
    """The store has not been asked yet."""
    NEW = 1
    """It is to be imported."""
    SETTLED = 2
    """There is nothing left to do: it is there already, has expired, or is refused."""


class Staging:
    """The rows of one file. A context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(_SCHEMA)
        self._database.execute("BEGIN")

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def add(self, row: ImportRow) -> str:
        """Add a row; return what is wrong with it beside the others, or an empty string."""
        digest, paths = bytes.fromhex(row.digest), json.dumps(row.paths) if row.paths else ""
        cells = (row.line, digest, row.account, row.name, row.expires_at, paths)
        try:
            self._database.execute(_INSERT, cells)
        except sqlite3.IntegrityError:
            return self._why_not_unique(row, digest)
        return ""

    def _why_not_unique(self, row: ImportRow, digest: bytes) -> str:
        line = self._line_where("digest = ?", digest)
        if line:
            return f"the same token is in line {line}"
        line = self._line_where("account = ? AND name = ?", row.account, row.name)
        return f"account {row.account} has a token of this name in line {line}"

    def _line_where(self, condition: str, *values: object) -> int:
        query = f"SELECT line FROM rows WHERE {condition}"  # noqa: S608 - our own text
        with closing(self._database.execute(query, values)) as found:
            first = found.fetchone()
        return 0 if first is None else int(first[0])

    def count(self, state: State) -> int:
        """Return how many rows are in a state."""
        query = "SELECT count(*) FROM rows WHERE state = ?"
        with closing(self._database.execute(query, (state,))) as found:
            return int(found.fetchone()[0])

    def batches(self, state: State, size: int) -> Iterator[list[ImportRow]]:
        """Yield the rows of a state in the order of their lines, ``size`` at a time.

        Rows may change their state meanwhile.
        """
        after = 0
        query = f"{_SELECT} WHERE state = ? AND line > ? ORDER BY line LIMIT ?"
        while True:
            with closing(self._database.execute(query, (state, after, size))) as found:
                rows = [_read(values) for values in found]
            if not rows:
                return
            yield rows
            after = rows[-1].line

    def mark(self, lines: Sequence[int], state: State) -> None:
        """Put the rows of these lines in a state."""
        self._database.executemany(
            "UPDATE rows SET state = ? WHERE line = ?", [(state, line) for line in lines]
        )

    def new_by_account(self) -> dict[str, int]:
        """Return how many rows of each account are to be imported."""
        query = "SELECT account, count(*) FROM rows WHERE state = ? GROUP BY account"
        with closing(self._database.execute(query, (State.NEW,))) as found:
            return {str(account): int(number) for account, number in found}

    def new_lines_of(self, account: str, skipped: int) -> list[int]:
        """Return the lines of an account's rows that are to be imported, less the first ones."""
        query = (
            "SELECT line FROM rows WHERE account = ? AND state = ? ORDER BY line LIMIT -1 OFFSET ?"
        )
        with closing(self._database.execute(query, (account, State.NEW, skipped))) as found:
            return [int(line) for (line,) in found]


def _read(values: tuple[int, bytes, str, str, float | None, str]) -> ImportRow:
    line, digest, account, name, expires_at, paths = values
    listed = tuple(json.loads(paths)) if paths else ()
    return ImportRow(line, digest.hex(), account, name, expires_at, listed)
