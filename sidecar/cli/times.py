"""How the command line shows times that may not be."""

from __future__ import annotations

from sidecar.core import times


def to_rfc3339(at: float | None) -> str | None:
    """Return Unix seconds as ``2026-11-23T18:04:00Z``; ``None`` stays ``None``."""
    return None if at is None else times.to_rfc3339(at)
