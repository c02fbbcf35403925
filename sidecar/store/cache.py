"""A cache in front of the store, and the conditions under which a cached record may be used.

A record is used while the store reports every change (``Watcher``) and was heard within the last
``HEARD_SECONDS``, for at most ``max_age``, and never past its own expiry. Digests that the store
does not know are cached too, briefly and in a bounded number, so that a flood of one bad token does
not reach it.

An entry is the store's value, as few objects as possible; the record is read from it on the first
hit, as most of a flood of different tokens never get one. For the same reason a full cache admits
only tokens that come a second time: tokens that are used once evict none that is used often.

When the store can no longer be heard, no entry is used and every request asks the store. If that
fails as well, a record that was valid at the store's last word is accepted until ``outage_grace``
after it; after that, and for everything else, the answer is "I don't know". If the store comes back
and fails again, only records that were read in between get a new grace (``outage_memory``): those
that callers used, and those that ``revalidation`` read again.

So a token that anyone revokes is refused

- as soon as the store's word of it arrives, within milliseconds;
- if the word is lost because the connection breaks: as soon as it breaks;
- if the word is lost on a line that died silently, or in a process that slept: 2 s after the
  revocation (``HEARD_SECONDS``), usually 1.25 s (a heartbeat and a budget);
- in the last two cases, if the store cannot be asked again: ``outage_grace`` after its last word.

A change that is reported during a look-up wins: the store is asked again. A store that never
reports changes is asked by every request; its answers serve only in an outage, each for
``outage_grace``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.histogram import Histogram
from sidecar.core.model import TokenRecord
from sidecar.store.cache_entry import (
    EVICTED_SHARE,
    NEVER,
    CacheEntry,
    end_of,
    make_room,
    pack_entry,
    times_of,
    value_of,
)
from sidecar.store.outage_memory import OutageMemory
from sidecar.store.port import HEARD_SECONDS

if TYPE_CHECKING:  # compiled, a number of the machine's own; else an int like any other
    from mypy_extensions import i64

Fetch = Callable[[str, str], Awaitable[bytes | None]]
"""Asks the store for the value of a digest, on behalf of an asker."""

Read = Callable[[str, bytes, float], TokenRecord | None]
"""Reads such a value; ``None`` unless it is a record that is live at a time (Unix seconds)."""

_ABSENCE_SECONDS: Final = 10.0
_ASKED_AT_MOST: Final = 3
_CHANGES_AT_MOST: Final = 4096
_SIGN_SHIFT: Final = 40
_SIGN_MASK: Final = 0xFF


class TokenCache:
    """A bounded cache in front of a store; implements ``TokenLookup`` and ``Watcher``.

    ``now`` gives Unix seconds. With ``most_tokens`` 0 it caches nothing.
    """

    def __init__(
        self,
        *,
        most_tokens: int,
        max_age_seconds: float,
        outage_grace_seconds: float,
        now: Callable[[], float] = time,
    ) -> None:
        self._most_tokens = most_tokens
        self._most_absent = max(1, most_tokens // 10)
        self._max_age_seconds = max_age_seconds
        self._absence_seconds = min(_ABSENCE_SECONDS, max_age_seconds)
        self._now = now
        self._fetch: Fetch = _fetch_nothing
        self._read: Read = _read_nothing
        self._is_watching = False
        self._heard_at = 0.0
        self._clock_at = 0.0
        self._silent_from = 0.0
        self._entries: dict[str, CacheEntry] = {}
        self._leaving: list[tuple[str, CacheEntry]] = []  # to evict next, the oldest last
        self._seen = bytearray(1 << max(10, most_tokens.bit_length()))  # more slots than entries
        self._absent: dict[str, float] = {}  # and until when to believe it
        self._outage = OutageMemory(most_tokens, outage_grace_seconds)
        self._asking = 0
        self._changes = 0  # reported so far
        self._changed: dict[str, int] = {}  # during look-ups: the last change of each digest
        self._all_changed = 0
        self.lookup_seconds = Histogram()
        """How long each look-up took; the metrics replace it with one of their own bounds."""
        self.hits = 0
        self.misses = 0
        self.failures = 0
        """Look-ups that the store did not answer."""
        self.invalidations = 0

    def __repr__(self) -> str:
        state = "watching" if self._is_watching else "blind"
        return f"<TokenCache {state} entries={len(self._entries)} absent={len(self._absent)}>"

    @property
    def entries(self) -> int:
        """The number of cached tokens, including those known to be absent."""
        return len(self._entries) + len(self._absent)

    @property
    def ends(self) -> list[float]:
        """When the cached tokens expire, those that do, in Unix seconds."""
        return [end for _, end in map(times_of, self._entries.values()) if end != NEVER]

    @property
    def is_watching(self) -> bool:
        """Whether the store reports changes, so that cached records may be used."""
        return self._is_watching

    def connect(self, fetch: Fetch, read: Read) -> None:
        """Ask the store with ``fetch`` from now on, and read its answers with ``read``."""
        self._fetch, self._read = fetch, read

    def get(self, digest: str) -> TokenRecord | None:
        """Return the cached record if it may be used; ``None`` means: call ``look_up``."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if isinstance(entry, bytes):
            return self._get_unread(digest, entry)
        record, asked_at, end = entry
        if not self._may_believe(asked_at, end):
            return None
        self.hits += 1
        return record

    def _get_unread(self, digest: str, entry: bytes) -> TokenRecord | None:
        """Read the store's value on its first hit, if it may be used, and keep the record."""
        asked_at, end = times_of(entry)
        record = None
        if self._may_believe(asked_at, end):
            record = self._read(digest, value_of(entry), asked_at)
        if record is not None:
            self.hits += 1
            self._entries[digest] = (record, asked_at, end)
        return record

    def _may_believe(self, asked_at: float, end: float) -> bool:
        now = self._now()
        return now < end and now < asked_at + self._max_age_seconds and now < self._silent_from

    def is_absent(self, digest: str) -> bool:
        """Return whether the cache knows, and may say, that the store has no record."""
        until = self._absent.get(digest)
        if until is None:
            return False
        now = self._now()
        if now >= until or now >= self._silent_from:
            return False
        self.hits += 1
        return True

    def is_familiar(self, digest: str) -> bool:
        """Return whether there was a record when the store was last asked."""
        return digest in self._entries or digest in self._outage

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """Return the live record, from the cache or the store; ``None`` if there is none.

        Raises ``StoreUnavailable`` or ``Overloaded`` when that cannot be known.
        """
        record = self.get(digest)
        if record is not None:
            return record
        if self.is_absent(digest):
            return None
        self.misses += 1
        return await self._ask(digest, asker)

    async def _ask(self, digest: str, asker: str) -> TokenRecord | None:
        """Ask the store, again if the token changes meanwhile, and cache what may be used.

        Raises as ``look_up``.
        """
        now = self._now()
        for _ in range(_ASKED_AT_MOST):
            was_watching, changes = self._is_watching, self._changes
            self._asking += 1
            try:
                value = await self._fetch(digest, asker)
            except StoreUnavailable:
                self.failures += 1
                record = self._get_in_outage(digest)
                if record is None:
                    raise
                return record
            finally:
                has_changed = self._has_changed_since(changes, digest)
                was_told = self._changed.get(digest, 0) > changes
                self._asking -= 1
                if self._changed and not self._asking:
                    self._changed = {}
                asked_at, now = now, self._now()
                self.lookup_seconds.add(max(0.0, now - asked_at))
            record = None if value is None else self._read(digest, value, now)
            if was_watching and not has_changed:
                self._put(digest, record, value, asked_at)
                break
            if not self._is_watching and not was_told:
                self._remember(digest, record, asked_at)
                break
        return record

    # For ``revalidation``: reading again what an outage left.

    @property
    def is_asked(self) -> bool:
        """Whether a look-up is under way."""
        return self._asking > 0

    @property
    def may_confirm(self) -> bool:
        """Whether ``confirm`` is of use: changes are reported and the cache is not full."""
        return self._is_watching and len(self._entries) < self._most_tokens

    def remembered(self) -> list[str]:
        """Return the tokens remembered for an outage, the latest last, at most ``most_tokens``."""
        return self._outage.digests()

    async def confirm(self, digest: str) -> None:
        """Ask the store about a token, unless the answer is cached already, and cache the answer.

        Counts as neither a hit nor a miss. Raises as ``look_up`` does.
        """
        if digest not in self._entries:
            await self._ask(digest, "")

    # What the store reports (``Watcher``).

    def on_watching(self) -> None:
        """The store reports changes from now on; earlier ones may have been missed."""
        self._forget_all()
        self._is_watching = True
        self._note_word(0.0)

    def on_changed(self, digests: Sequence[str] | None) -> None:
        """Forget these records, or all of them."""
        self.invalidations += 1
        if digests is None:
            self._forget_all()
            self._outage.clear()
        else:
            self._forget(digests)
            self._outage.forget(digests)

    def on_heard(self, age_seconds: float) -> None:
        """Use the entries for longer: all changes until ``age_seconds`` ago were reported."""
        if self._is_watching:
            self._note_word(age_seconds)

    def on_blind(self) -> None:
        """Use no entry any more, but remember all of them: this may be an outage."""
        if self._is_watching:
            self._is_watching = False
            self._look_at_clock()
            self._outage.end_watch(self._entries, self._heard_at, self._clock_at)
            self._forget_all()

    def _note_word(self, age_seconds: float) -> None:
        self._look_at_clock()
        self._heard_at = self._clock_at - age_seconds
        self._silent_from = self._heard_at + HEARD_SECONDS
        self._outage.drop_ended(self._clock_at)

    def _look_at_clock(self) -> None:
        now = self._now()
        if now < self._clock_at:  # the clock was set back, and every age is wrong
            self._forget_all()
            self._outage.clear()
        self._clock_at = now

    def _has_changed_since(self, changes: int, digest: str) -> bool:
        """Return whether a change was reported since, which an answer may not include."""
        return self._changes != changes and (
            self._all_changed > changes or self._changed.get(digest, 0) > changes
        )

    def _put(
        self, digest: str, record: TokenRecord | None, value: bytes | None, asked_at: float
    ) -> None:
        if not self._most_tokens:
            return
        if record is None or value is None:
            self._outage.forget([digest])
            make_room(self._absent, self._most_absent)
            self._absent[digest] = asked_at + self._absence_seconds
            return
        if digest in self._entries:
            del self._entries[digest]
        elif len(self._entries) >= self._most_tokens:
            if not self._was_seen_lately(digest):
                return
            self._evict()
        self._entries[digest] = pack_entry(value, asked_at, end_of(record))
        self._outage.forget([digest])

    def _was_seen_lately(self, digest: str) -> bool:
        """Return whether a token that is not cached came lately, and note that it came now.

        This is the *doorkeeper* of TinyLFU (Einziger and others, 2017): it stores a byte of each
        recent token's hash, in a slot that the rest of the hash gives. One token in 128 is taken
        for another.
        """
        seen = self._seen
        key: i64 = hash(digest)
        place, sign = (
            key & len(seen) - 1,
            key >> _SIGN_SHIFT & _SIGN_MASK | 1,
        )  # 0: the slot is empty
        if seen[place] == sign:
            return True
        seen[place] = sign
        return False

    def _evict(self) -> None:
        """Evict the oldest entry, unless it has just had its first hit.

        The oldest entries are listed a share at a time (``cache_entry.make_room``) but dropped one
        by one: the next entry then takes memory that is still in the processor's cache.
        """
        while len(self._entries) >= self._most_tokens:
            if not self._leaving:
                share = islice(self._entries.items(), self._most_tokens // EVICTED_SHARE + 1)
                self._leaving = [*share]
                self._leaving.reverse()
            digest, entry = self._leaving.pop()
            if self._entries.get(digest) is entry:
                del self._entries[digest]

    def _remember(self, digest: str, record: TokenRecord | None, asked_at: float) -> None:
        """Remember for an outage an answer of a store that does not report changes."""
        if record is None:
            self._outage.forget([digest])
        else:
            self._outage.note_answer(digest, (record, asked_at, end_of(record)))

    def _get_in_outage(self, digest: str) -> TokenRecord | None:
        """Return the record that was valid at the store's last word or answer, during its grace."""
        if self._is_watching:
            return None  # only an answer of the store will do
        now = self._now()
        entry = self._outage.get(digest, now)
        if entry is None:
            return None
        return self._read(digest, value_of(entry), now) if isinstance(entry, bytes) else entry[0]

    def _forget(self, digests: Sequence[str]) -> None:
        for digest in digests:
            self._entries.pop(digest, None)
            self._absent.pop(digest, None)
        if not self._asking:
            return
        self._changes += 1
        if len(self._changed) < _CHANGES_AT_MOST:
            self._changed.update(dict.fromkeys(digests, self._changes))
        else:  # too many to list: every look-up under way asks again
            self._changed, self._all_changed = {}, self._changes

    def _forget_all(self) -> None:
        self._entries = {}
        self._leaving = []
        self._absent = {}
        self._changes += 1
        self._all_changed = self._changes


async def _fetch_nothing(digest: str, asker: str) -> bytes | None:
    raise StoreUnavailable("no store is connected yet")


def _read_nothing(digest: str, value: bytes, now: float) -> TokenRecord | None:
    return None
