"""What held good at the store's last word, and until when that may serve in an outage.

While the store tells of changes, it is *watched*; a watch ends with the last word that was heard in
it. What was believed then held good at that word, and serves an outage until ``grace_seconds``
after it. The next watch lengthens nothing of that: what changed between two watches was not told,
so a record that was not read again ends when it would have ended without the return. One that was
read again, by a caller or by ``revalidation``, belongs to the watch in which it was, and what is
told to have changed is forgotten.

An answer of a store that does not tell serves from when it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidecar.store.kept import Kept, drop_first, make_room, times_of

_MOST_WATCHES: Final = 8


class _Watch:
    """One watch that is over, and what it left."""

    __slots__ = ("ended_at", "kept", "word_at")

    def __init__(self, kept: dict[str, Kept], word_at: float, ended_at: float) -> None:
        self.kept = kept
        self.word_at = word_at
        self.ended_at = ended_at


class OutageMemory:
    """At most ``most_tokens`` records of watches, and as many answers. Times are Unix seconds."""

    def __init__(self, most_tokens: int, grace_seconds: float) -> None:
        self._most_tokens = most_tokens
        self._grace_seconds = grace_seconds
        self._watches: list[_Watch] = []  # the oldest first; a token is in one of them at most
        self._answers: dict[str, Kept] = {}

    def __len__(self) -> int:
        return len(self._answers) + sum(len(watch.kept) for watch in self._watches)

    def __contains__(self, digest: str) -> bool:
        return digest in self._answers or any(digest in watch.kept for watch in self._watches)

    def digests(self) -> list[str]:
        """Return whose records are held, the latest ``most_tokens`` of them, the latest last."""
        found: list[str] = []
        for watch in self._watches:
            found.extend(watch.kept)
        found.extend(self._answers)
        return found[-self._most_tokens :]

    def end_watch(self, kept: dict[str, Kept], word_at: float, now: float) -> None:
        """Take over what was believed at a watch's last word."""
        if not self._grace_seconds or not kept:
            return
        self.drop_ended(now)
        self._watches.append(_Watch(kept, word_at, now))
        if len(self._watches) > _MOST_WATCHES:
            self._merge_oldest()
        self._trim()

    def note_answer(self, digest: str, kept: Kept) -> None:
        """Note what a store said that does not tell of changes."""
        self.forget([digest])
        if self._grace_seconds and self._most_tokens:
            make_room(self._answers, self._most_tokens)
            self._answers[digest] = kept

    def recall(self, digest: str, now: float) -> Kept | None:
        """Return what held good, while its grace and the record itself last."""
        for watch in reversed(self._watches):
            kept = watch.kept.get(digest)
            if kept is not None:
                return self._if_in_time(digest, kept, watch.word_at, now)
        kept = self._answers.get(digest)
        return None if kept is None else self._if_in_time(digest, kept, 0.0, now)

    def forget(self, digests: Sequence[str]) -> None:
        """These are not what they were: they were told to have changed, or are read anew."""
        for watch in self._watches:
            for digest in digests:
                watch.kept.pop(digest, None)
        if self._answers:
            for digest in digests:
                self._answers.pop(digest, None)

    def clear(self) -> None:
        """Forget all: anything may have changed, or the times are not to be trusted."""
        self._watches = []
        self._answers = {}

    def drop_ended(self, now: float) -> None:
        """Let the memory go of watches so long ago that nothing of them can serve any more."""
        while self._watches and now >= self._watches[0].ended_at + self._grace_seconds:
            del self._watches[0]

    def _if_in_time(self, digest: str, kept: Kept, word_at: float, now: float) -> Kept | None:
        asked_at, end = times_of(kept)
        good_at = max(asked_at, word_at)
        if good_at <= now < min(good_at + self._grace_seconds, end):
            return kept
        self.forget([digest])  # too late; or the clock was set back, and would make it last longer
        return None

    def _merge_oldest(self) -> None:
        """Make one of the two oldest watches, with the earlier word: it shortens, at worst."""
        older, younger = self._watches[:2]
        older.kept = {**older.kept, **younger.kept}
        older.ended_at = younger.ended_at
        del self._watches[1]

    def _trim(self) -> None:
        """Drop what is oldest until the watches hold no more than ``most_tokens``."""
        surplus = sum(len(watch.kept) for watch in self._watches) - self._most_tokens
        while surplus > 0:
            oldest = self._watches[0]
            if len(oldest.kept) > surplus:
                drop_first(oldest.kept, surplus)
                break
            surplus -= len(oldest.kept)
            del self._watches[0]
