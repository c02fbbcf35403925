"""Look-ups of different networks take turns, so that a flood from one network only delays itself.

Each asker has a line of waiting items, and a batch takes one from each line in turn. An asker with
few look-ups is therefore served with the next batch, however many others wait. An asker is
a network (``core.subjects.network_of``), or the empty string for the sidecar's own look-ups.

An asker may have ``most_of_one`` items waiting, and all askers ``most``. Once ``most`` items wait,
an asker may still add items up to its equal share, so a queue that others have filled admits a
newcomer. The queue never grows beyond twice ``most``.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class _Line(Generic[ItemT]):
    __slots__ = ("asker", "items")

    def __init__(self, asker: str) -> None:
        self.asker = asker
        self.items: deque[ItemT] = deque()


class FairQueue(Generic[ItemT]):
    """A bounded queue with a line for each asker."""

    def __init__(self, most: int, most_of_one: int) -> None:
        """``most_of_one`` does not limit the sidecar's own look-ups (asker ``""``)."""
        self._most = most
        self._most_of_one = most_of_one
        self._lines: dict[str, _Line[ItemT]] = {}
        self._ring: deque[_Line[ItemT]] = deque()  # the line whose turn is next comes first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, asker: str, item: ItemT) -> bool:
        """Add an item; return ``False`` if there is no room for it."""
        line = self._lines.get(asker)
        if line is None:
            if self._count >= self._most and len(self._lines) >= self._most:
                return False
            line = self._lines[asker] = _Line(asker)
            self._ring.append(line)
        elif not self._has_room(line):
            return False
        line.items.append(item)
        self._count += 1
        return True

    def _has_room(self, line: _Line[ItemT]) -> bool:
        held = len(line.items)
        if line.asker and held >= self._most_of_one:
            return False
        return self._count < self._most or held < self._most // len(self._lines)

    def take(self, most: int) -> list[ItemT]:
        """Remove and return at most ``most`` items, one of each asker in turn."""
        taken: list[ItemT] = []
        ring = self._ring
        while ring and len(taken) < most:
            line = ring.popleft()
            taken.append(line.items.popleft())
            if line.items:
                ring.append(line)
            else:
                del self._lines[line.asker]
        self._count -= len(taken)
        return taken
