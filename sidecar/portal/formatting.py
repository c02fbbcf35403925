"""Formats tokens, times and messages for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.tokens.lifecycle import TokenDetails

KINDS: Final = {
    TokenKind.ACCESS: "Access token",
    TokenKind.JWT: "JWT",
    TokenKind.IMPORTED: "Imported",
}

_ROWS_PER_PAGE: Final = 100
_STEPS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"))
_ROUNDED_UP_SECONDS: Final = {86400: 1800, 3600: 30, 60: 0}
"""A day less so many seconds counts as a day: a new token of 30 days expires in 30 days."""


@dataclass(frozen=True, slots=True)
class DisplayTime:
    """A point in time, in the formats that a page needs."""

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
class TokenRow:
    """A token in the table."""

    id: str
    name: str
    kind: str
    created: DisplayTime
    expires: DisplayTime | None
    is_expiring: bool
    last_used: DisplayTime | None
    last_client: str
    paths: tuple[str, ...]
    is_replaced: bool
    """The token has a successor, and lives on for the overlap."""


@dataclass(frozen=True, slots=True)
class TokenTable:
    """One page of the table: some of all tokens, newest first."""

    rows: list[TokenRow]
    number: int
    """The page's number, from 1."""
    pages: int
    first: int
    """The position of the first row among all rows, from 1."""
    total: int


def token_row(
    token: TokenDetails, now: float, notice_seconds: float, *, is_replaced: bool
) -> TokenRow:
    """Return one token as the table shows it at ``now``."""
    record, use = token.record, token.last_use
    ends = record.expires_at
    return TokenRow(
        id=record.id,
        name=record.name,
        kind=KINDS[record.kind],
        created=_display_time(record.created_at, now),
        expires=None if ends is None else _display_time(ends, now),
        is_expiring=ends is not None and ends - now < notice_seconds,
        last_used=None if use is None else _display_time(use.at, now),
        last_client="" if use is None else use.client,
        paths=record.paths,
        is_replaced=is_replaced,
    )


def token_table(
    tokens: Sequence[TokenDetails], now: float, notice_seconds: float, page: int = 1
) -> TokenTable:
    """Return a page of the table: newest first, and a rotated token right below its successor.

    A ``page`` beyond the last is the last. Pages are short, because rendering one delays all other
    requests.
    """
    newest = _newest([token.record for token in tokens])
    ordered = sorted(tokens, key=lambda token: _age_key(token.record), reverse=True)
    ordered.sort(key=lambda token: (-newest[token.record.name].created_at, token.record.name))
    pages = max(1, -(-len(ordered) // _ROWS_PER_PAGE))
    number = min(max(page, 1), pages)
    start = (number - 1) * _ROWS_PER_PAGE
    rows = [
        token_row(
            token, now, notice_seconds, is_replaced=token.record is not newest[token.record.name]
        )
        for token in ordered[start : start + _ROWS_PER_PAGE]
    ]
    return TokenTable(rows, number, pages, start + 1, len(ordered))


def _newest(records: Iterable[TokenRecord]) -> dict[str, TokenRecord]:
    """Return the token that holds each name: the newest one."""
    return {record.name: record for record in sorted(records, key=_age_key)}


def _age_key(record: TokenRecord) -> tuple[float, float]:
    """Order by age; of two created in one second, the one that was rotated ends first."""
    return record.created_at, float("inf") if record.expires_at is None else record.expires_at


def _display_time(at: float, now: float) -> DisplayTime:
    time = as_time(at)
    assert time is not None
    return DisplayTime(time, format_relative(at, now))


def format_relative(at: float, now: float) -> str:
    """Return how far away a time is: ``in 12 days``, ``3 minutes ago``, ``just now``."""
    distance = abs(at - now)
    for seconds, unit in _STEPS:
        count = int((distance + _ROUNDED_UP_SECONDS[seconds]) // seconds)
        if count:
            text = f"{count} {unit}{'s' if count != 1 else ''}"
            return f"in {text}" if at > now else f"{text} ago"
    return "in less than a minute" if at > now else "just now"


def as_sentence(error: Exception) -> str:
    """Return an error's message as a sentence of its own."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def as_time(at: float | None) -> datetime | None:
    """Return Unix seconds as a time in UTC, to the second; ``None`` stays ``None``."""
    return None if at is None else datetime.fromtimestamp(int(at), UTC)


def format_wait(seconds: int) -> str:
    """Return a waiting time: ``5 minutes``, ``1 second``."""
    for size, unit in (*_STEPS, (1, "second")):
        if seconds >= size:
            count = -(-seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "a moment"
