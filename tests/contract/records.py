"""Records and a clock to try a store with."""

from __future__ import annotations

import hashlib
import time

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.store.record import decode

DAY_SECONDS = 86400
_CREATED_AT = float(int(time.time()))


class Clock:
    """The time as the store sees it: the real one, moved on by tests."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_record(
    number: int = 1, *, name: str | None = None, account: str = "acme", days: int = 1
) -> TokenRecord:
    return TokenRecord(
        id=f"t0ken{number:09d}",
        account=account,
        name=name or f"name {number}",
        kind=TokenKind.ACCESS,
        digest=digest_of(f"secret {number}"),
        created_at=_CREATED_AT,
        expires_at=_CREATED_AT + days * DAY_SECONDS if days else None,
    )


def read_record(digest: str, value: bytes, _now: float) -> TokenRecord | None:
    """Read what a store gave, as one that leaves it to its reader to look at the time."""
    return decode(digest, value)
