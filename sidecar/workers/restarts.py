"""When a slot gets its next worker: at once, or after a growing delay if workers keep failing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_STABLE_SECONDS: Final = 10.0
_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0
_MOST_DOUBLINGS: Final = 10


@dataclass(slots=True)
class _Slot:
    failures: int = 0
    start_at: float | None = None


class Restarts:
    """The time of the next start in each slot, if one is due. Times are monotonic seconds."""

    def __init__(self, slots: Iterable[int]) -> None:
        self._slots = {slot: _Slot() for slot in slots}
        self.total = 0
        """How many workers have ended unasked since the start."""

    def __contains__(self, slot: int) -> bool:
        return slot in self._slots

    @property
    def slots(self) -> list[int]:
        """The numbers of all slots."""
        return list(self._slots)

    def plan(self, number: int, started_at: float, now: float) -> None:
        """Schedule the next worker for a slot whose worker has ended unasked."""
        self.total += 1
        slot = self._slots[number]
        has_lasted = now - started_at >= _STABLE_SECONDS
        slot.failures = 1 if has_lasted else slot.failures + 1
        delay = 0.0
        if slot.failures > 1:
            delay = _FIRST_DELAY_SECONDS * 2.0 ** min(slot.failures - 2, _MOST_DOUBLINGS)
        slot.start_at = now + min(delay, _LONGEST_DELAY_SECONDS)

    def take_due(self, now: float) -> list[int]:
        """Return, once, the slots that are due for a start."""
        due = [
            number
            for number, slot in self._slots.items()
            if slot.start_at is not None and slot.start_at <= now
        ]
        for number in due:
            self._slots[number].start_at = None
        return due

    def cancel(self) -> None:
        """Drop all scheduled starts."""
        for slot in self._slots.values():
            slot.start_at = None
