"""Results worth keeping: a mapping of bounded size that is emptied when it is full.

It is for what follows from its key alone, so that losing an entry costs a computation and nothing
else. Emptying the mapping at once is cheaper than evicting one entry at a time, which would need an
order of use; what is still in demand is back after one computation each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class BoundedMemo(Generic[KeyT, ValueT]):
    """At most ``max_entries`` values by key. Values are never ``None``."""

    __slots__ = ("_entries", "_max_entries", "get")

    def __init__(self, max_entries: int) -> None:
        self._entries: Final[dict[KeyT, ValueT]] = {}
        self._max_entries: Final = max_entries
        self.get: Final[Callable[[KeyT], ValueT | None]] = self._entries.get
        """Returns the value; ``None`` if there is none."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: KeyT, value: ValueT) -> None:
        """Keep a value, and drop all others first if there is no room for it."""
        if len(self._entries) >= self._max_entries:
            self._entries.clear()
        self._entries[key] = value
