"""Which records were valid at the store's last word, and until when they may be used in an outage.

While the store reports changes, it is *watched*. A watch ends with the last word heard in it. The
records cached then were valid at that word, and may be used until ``grace_seconds`` after it. The
next watch does not extend that: changes between two watches were not reported, so a record that was
not read again expires when it would have expired without the store's return. A record that was read
again, by a caller or by ``revalidation``, belongs to the watch in which it was read, and one that
was reported to have changed is forgotten.

An answer of a store that does not report changes may be used from when it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.store.cache_entry import CacheEntry, drop_first, make_room, times_of

_MOST_WATCHES: Final = 8


class _Watch:
    """A watch that has ended, and the entries it left."""

    __slots__ = ("ended_at", "entries", "word_at")

    def __init__(self, entries: dict[str, CacheEntry], word_at: float, ended_at: float) -> None:
        self.entries = entries
        self.word_at = word_at
        self.ended_at = ended_at


class OutageMemory:
    """At most ``most_tokens`` records of watches and as many answers. Times are Unix seconds."""

    def __init__(self, most_tokens: int, grace_seconds: float) -> None:
        self._most_tokens = most_tokens
        self._grace_seconds = grace_seconds
        self._watches: list[_Watch] = []  # the oldest first; a token is in one of them at most
        self._answers: dict[str, CacheEntry] = {}

    def __len__(self) -> int:
        return len(self._answers) + sum(len(watch.entries) for watch in self._watches)

    def __contains__(self, digest: str) -> bool:
        return digest in self._answers or any(digest in watch.entries for watch in self._watches)

    def digests(self) -> list[str]:
        """Return the digests of the latest ``most_tokens`` records, the latest last."""
        found: list[str] = []
        for watch in self._watches:
            found.extend(watch.entries)
        found.extend(self._answers)
        return found[-self._most_tokens :]

    def end_watch(self, entries: dict[str, CacheEntry], word_at: float, now: float) -> None:
        """Take over the entries of a watch whose last word came at ``word_at``."""
        if not self._grace_seconds or not entries:
            return
        self.drop_ended(now)
        self._watches.append(_Watch(entries, word_at, now))
        if len(self._watches) > _MOST_WATCHES:
            self._merge_oldest()
        self._trim()

    def note_answer(self, digest: str, entry: CacheEntry) -> None:
        """Remember an answer of a store that does not report changes."""
        self.forget([digest])
        if self._grace_seconds and self._most_tokens:
            make_room(self._answers, self._most_tokens)
            self._answers[digest] = entry

    def get(self, digest: str, now: float) -> CacheEntry | None:
        """Return the entry during its grace, unless the record itself has expired."""
        for watch in reversed(self._watches):
            entry = watch.entries.get(digest)
            if entry is not None:
                return self._if_in_time(digest, entry, watch.word_at, now)
        entry = self._answers.get(digest)
        return None if entry is None else self._if_in_time(digest, entry, 0.0, now)

    def forget(self, digests: Sequence[str]) -> None:
        """Forget records that have changed or were read again."""
        for watch in self._watches:
            for digest in digests:
                watch.entries.pop(digest, None)
        if self._answers:
            for digest in digests:
                self._answers.pop(digest, None)

    def clear(self) -> None:
        """Forget all records: any may have changed, or the times cannot be trusted."""
        self._watches = []
        self._answers = {}

    def drop_ended(self, now: float) -> None:
        """Drop watches whose grace is over."""
        while self._watches and now >= self._watches[0].ended_at + self._grace_seconds:
            del self._watches[0]

    def _if_in_time(
        self, digest: str, entry: CacheEntry, word_at: float, now: float
    ) -> CacheEntry | None:
        asked_at, end = times_of(entry)
        good_at = max(asked_at, word_at)
        if good_at <= now < min(good_at + self._grace_seconds, end):
            return entry
        self.forget([digest])  # too late; or the clock was set back, which would extend the grace
        return None

    def _merge_oldest(self) -> None:
        """Merge the two oldest watches under the earlier word, which only shortens a grace."""
        older, younger = self._watches[:2]
        older.entries = {**older.entries, **younger.entries}
        older.ended_at = younger.ended_at
        del self._watches[1]

    def _trim(self) -> None:
        """Drop the oldest entries until the watches hold at most ``most_tokens``."""
        surplus = sum(len(watch.entries) for watch in self._watches) - self._most_tokens
        while surplus > 0:
            oldest = self._watches[0]
            if len(oldest.entries) > surplus:
                drop_first(oldest.entries, surplus)
                break
            surplus -= len(oldest.entries)
            del self._watches[0]
