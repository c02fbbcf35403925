"""What is kept of a token: the store's value, or the record read from it, and two times.

The times, in Unix seconds, are when the store was asked for it and when its record ends.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from struct import Struct
from typing import Any, Final

from sidecar.core.model import TokenRecord

Kept = bytes | tuple[TokenRecord, float, float]
"""A record, when it was asked for and when it ends; or, until it is recalled, what the store gave
with both times at its end: one object where the other is four.
"""

NEVER: Final = inf
DROPPED_AT_ONCE: Final = 64
"""The share of a full memory that leaves at once; see ``make_room``."""

_TIMES: Final = Struct("dd")
_TIMES_BYTES: Final = _TIMES.size
_pack_times: Final = _TIMES.pack
_unpack_times: Final = _TIMES.unpack


def pack(value: bytes, asked_at: float, end: float) -> bytes:
    """Return what is kept of a value."""
    return value + _pack_times(asked_at, end)


def value_of(kept: bytes) -> bytes:
    """Return what the store gave."""
    return kept[:-_TIMES_BYTES]


def times_of(kept: Kept) -> tuple[float, float]:
    """Return when it was asked for and when it ends."""
    if isinstance(kept, bytes):
        times: tuple[float, float] = _unpack_times(kept[-_TIMES_BYTES:])
        return times
    return kept[1], kept[2]


def end_of(record: TokenRecord) -> float:
    """Return when a record ends."""
    return NEVER if record.expires_at is None else record.expires_at


def make_room(entries: dict[str, Any], most: int) -> None:
    """Drop what was kept first, a share at once, if there is no room for another.

    One at a time would be quadratic: a dict finds its first entry by stepping over every place
    that was emptied before it (60 us each for 100 000 entries).
    """
    if len(entries) >= most:
        drop_first(entries, most // DROPPED_AT_ONCE + 1)


def drop_first(entries: dict[str, Any], count: int) -> None:
    """Drop the ``count`` entries that were kept first."""
    for digest in [*islice(entries, count)]:
        del entries[digest]
