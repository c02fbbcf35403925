"""What the cache holds of a token: the store's value or the record read from it, and two times.

The times, in Unix seconds, are when the store was asked and when the record expires.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from struct import Struct
from typing import Any, Final

from sidecar.core.model import TokenRecord

CacheEntry = bytes | tuple[TokenRecord, float, float]
"""A record, when it was asked for and when it expires. Until it is first used, the store's value
with both times appended: one object instead of four.
"""

NEVER: Final = inf
EVICTED_SHARE: Final = 64
"""A full cache evicts one entry in so many at once; see ``make_room``."""

_TIMES: Final = Struct("dd")
_TIMES_BYTES: Final = _TIMES.size
_pack_times: Final = _TIMES.pack
_unpack_times: Final = _TIMES.unpack


def pack_entry(value: bytes, asked_at: float, end: float) -> bytes:
    """Return the entry for a value that has not been used yet."""
    return value + _pack_times(asked_at, end)


def value_of(entry: bytes) -> bytes:
    """Return the store's value."""
    return entry[:-_TIMES_BYTES]


def times_of(entry: CacheEntry) -> tuple[float, float]:
    """Return when the record was asked for and when it expires."""
    if isinstance(entry, bytes):
        times: tuple[float, float] = _unpack_times(entry[-_TIMES_BYTES:])
        return times
    return entry[1], entry[2]


def end_of(record: TokenRecord) -> float:
    """Return when a record expires."""
    return NEVER if record.expires_at is None else record.expires_at


def make_room(entries: dict[str, Any], most: int) -> None:
    """Evict the oldest entries, a share of them at once, if there is no room for another.

    One at a time would be quadratic: a dict finds its first entry by stepping over every slot that
    was emptied before it (60 us each for 100 000 entries).
    """
    if len(entries) >= most:
        drop_first(entries, most // EVICTED_SHARE + 1)


def drop_first(entries: dict[str, Any], count: int) -> None:
    """Drop the ``count`` oldest entries."""
    for digest in [*islice(entries, count)]:
        del entries[digest]
