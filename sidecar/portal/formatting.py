"""How tokens and times are put into words on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.portal.token_models import as_time
from sidecar.tokens.lifecycle import TokenDetails

KINDS: Final = {
    TokenKind.ACCESS: "Access token",
    TokenKind.JWT: "JWT",
    TokenKind.IMPORTED: "Imported",
}

_ROWS: Final = 100
_STEPS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"))
_ALMOST: Final = {86400: 1800, 3600: 30, 60: 0}
"""A day less some minutes counts as a day: a token of 30 days has 30 days when it is new."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time in the forms that a page needs."""

    at: datetime
    relative: str

    @property
    def iso(self) -> str:
        """For ``<time datetime>``."""
        return self.at.strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def day(self) -> str:
        """The day, such as 3 Dec 2026."""
        return f"{self.at.day} {self.at:%b %Y}"

    @property
    def exact(self) -> str:
        """The day and the minute, with its zone."""
        return f"{self.day}, {self.at:%H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Row:
    """A token in the table."""

    id: str
    name: str
    kind: str
    created: Moment
    expires: Moment | None
    is_expiring: bool
    last_used: Moment | None
    last_client: str
    paths: tuple[str, ...]
    is_replaced: bool
    """It has a successor, and lives on for the overlap."""


@dataclass(frozen=True, slots=True)
class Table:
    """One page of the table: some of all tokens, newest first."""

    rows: list[Row]
    number: int
    """Of the page, from 1."""
    pages: int
    first: int
    """The place of the first row among all, from 1."""
    total: int


def row_of(token: TokenDetails, now: float, notice_seconds: float, *, is_replaced: bool) -> Row:
    """Return how one token is shown at ``now``."""
    record, use = token.record, token.last_use
    ends = record.expires_at
    return Row(
        id=record.id,
        name=record.name,
        kind=KINDS[record.kind],
        created=_moment(record.created_at, now),
        expires=None if ends is None else _moment(ends, now),
        is_expiring=ends is not None and ends - now < notice_seconds,
        last_used=None if use is None else _moment(use.at, now),
        last_client="" if use is None else use.client,
        paths=record.paths,
        is_replaced=is_replaced,
    )


def table_of(
    tokens: Sequence[TokenDetails], now: float, notice_seconds: float, page: int = 1
) -> Table:
    """Return a page of the table: newest first, a token that was rotated after its successor.

    Of ``page`` the nearest is taken that there is. Pages are short, as whoever writes one holds up
    everybody's requests.
    """
    newest = _newest([token.record for token in tokens])
    ordered = sorted(tokens, key=lambda token: _age_key(token.record), reverse=True)
    ordered.sort(key=lambda token: (-newest[token.record.name].created_at, token.record.name))
    pages = max(1, -(-len(ordered) // _ROWS))
    number = min(max(page, 1), pages)
    start = (number - 1) * _ROWS
    rows = [
        row_of(
            token, now, notice_seconds, is_replaced=token.record is not newest[token.record.name]
        )
        for token in ordered[start : start + _ROWS]
    ]
    return Table(rows, number, pages, start + 1, len(ordered))


def _newest(records: Iterable[TokenRecord]) -> dict[str, TokenRecord]:
    """Return, of each name, the token that holds it."""
    return {record.name: record for record in sorted(records, key=_age_key)}


def _age_key(record: TokenRecord) -> tuple[float, float]:
    """Order by age; of two of one second, one that was rotated ends first."""
    return record.created_at, float("inf") if record.expires_at is None else record.expires_at


def _moment(at: float, now: float) -> Moment:
    time = as_time(at)
    assert time is not None
    return Moment(time, relative_to(at, now))


def relative_to(at: float, now: float) -> str:
    """Say how far off a time is: ``in 12 days``, ``3 minutes ago``, ``just now``."""
    distance = abs(at - now)
    for seconds, unit in _STEPS:
        count = int((distance + _ALMOST[seconds]) // seconds)
        if count:
            text = f"{count} {unit}{'s' if count != 1 else ''}"
            return f"in {text}" if at > now else f"{text} ago"
    return "in less than a minute" if at > now else "just now"


def wait_of(seconds: int) -> str:
    """Say how long to wait: ``5 minutes``, ``1 second``."""
    for size, unit in (*_STEPS, (1, "second")):
        if seconds >= size:
            count = -(-seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "a moment"
