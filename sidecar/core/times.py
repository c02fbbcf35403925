"""Reads and writes times as RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime


def to_rfc3339(at: float) -> str:
    """Return Unix seconds as ``2026-11-23T18:04:00Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def optional_rfc3339(at: float | None) -> str | None:
    """Return Unix seconds as ``to_rfc3339`` does; ``None`` stays ``None``."""
    return None if at is None else to_rfc3339(at)


def from_rfc3339(text: str) -> float:
    """Return the Unix seconds of a time with a date and an offset; raises ``ValueError``."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        return at.timestamp()
    except (ValueError, OverflowError):
        raise ValueError("not a time like 2026-11-26T15:40:52Z") from None
