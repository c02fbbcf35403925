"""Formats times as RFC 3339 in UTC, to the second."""

from __future__ import annotations

from datetime import UTC, datetime


def to_rfc3339(at: float) -> str:
    """Return Unix seconds as ``2026-11-23T18:04:00Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def optional_rfc3339(at: float | None) -> str | None:
    """Return Unix seconds as ``to_rfc3339`` does; ``None`` stays ``None``."""
    return None if at is None else to_rfc3339(at)
