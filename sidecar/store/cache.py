"""Tokens kept where they are used: when a record may be believed without asking the store.

A record is believed while the store tells of every change (``Watcher``) and was heard in the last
``HEARD_SECONDS``, for at most ``max_age``, and never past its own expiry. What the store does not
know is remembered too, briefly and in a bounded number, so that a flood of one bad token costs it
nothing.

What is kept is what the store gave, as few objects, and the record only from when it is recalled:
most of a flood of different tokens never is.

When the store's word can't be heard any more, nothing is believed and every request asks. When
asking fails as well, a record that held good at the store's last word is accepted until
``outage_grace`` after it; beyond it, and for everything else, the answer is "I don't know".

So what is revoked, by anyone, is refused

- as soon as the store's word of it arrives: milliseconds;
- if the word is lost with a connection that breaks: as soon as it breaks;
- if it is lost on a line that died without a sign, or in a process that slept: 2.25 s after it was
  revoked (``HEARD_SECONDS`` and a look-up's budget), usually 1.25 s (a heartbeat and a budget);
- in the last two cases, if the store can't be asked anew: ``outage_grace`` after its last word.

A change that is told while a look-up is under way wins over the look-up: it is asked again. A store
that never tells of changes is asked by every request; its answers serve for an outage alone, each
for ``outage_grace``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from math import inf
from time import time
from typing import Any, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.port import HEARD_SECONDS

Fetch = Callable[[str], Awaitable[bytes | None]]
"""Asks the store for what it has at a digest."""

Read = Callable[[str, bytes], TokenRecord | None]
"""Reads that; ``None`` if it is no live record."""

Kept = tuple[bytes | TokenRecord, float, float]
"""What the store gave, or the record that was read of it; when it was asked for; when it ends."""

_NEVER: Final = inf
_ABSENCE_SECONDS: Final = 10.0
_ASKED_AT_MOST: Final = 3
_DROPPED_AT_ONCE: Final = 64  # the share of a full cache: see _make_room


class TokenCache:
    """A bounded cache in front of a store; implements ``TokenLookup`` and ``Watcher``.

    ``now`` gives Unix seconds. With ``most_tokens`` 0 nothing is kept.
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
        self._grace_seconds = outage_grace_seconds
        self._now = now
        self._fetch: Fetch = _ask_nobody
        self._read: Read = _read_nothing
        self._is_watching = False
        self._heard_at = 0.0
        self._silent_from = 0.0
        self._kept: dict[str, Kept] = {}
        self._absent: dict[str, float] = {}  # until when to believe it
        self._remembered: dict[str, Kept] = {}
        self._flights: dict[str, _Flight] = {}
        self.on_lookup: Callable[[float, bool], None] = _note_nothing
        """Told how long the store took for each look-up, and whether it gave no answer."""
        self.hits = 0
        self.misses = 0
        self.invalidations = 0

    def __repr__(self) -> str:
        state = "watching" if self._is_watching else "blind"
        return f"<TokenCache {state} kept={len(self._kept)} absent={len(self._absent)}>"

    @property
    def entries(self) -> int:
        """How many tokens are kept, those known to be absent included."""
        return len(self._kept) + len(self._absent)

    @property
    def ends(self) -> list[float]:
        """When the tokens end that are kept and do end, in Unix seconds."""
        return [end for _, _, end in self._kept.values() if end != _NEVER]

    @property
    def is_watching(self) -> bool:
        """Tell whether the store tells of changes, so that records may be believed."""
        return self._is_watching

    def connect(self, fetch: Fetch, read: Read) -> None:
        """Ask the store by ``fetch`` from now on, and take its answers for what ``read`` says."""
        self._fetch, self._read = fetch, read

    def recall(self, digest: str) -> TokenRecord | None:
        """Return the record if it may be believed at once; ``None``: ``look_up`` must tell."""
        kept = self._kept.get(digest)
        if kept is None:
            return None
        found, asked_at, end = kept
        now = self._now()
        if end <= now or asked_at + self._max_age_seconds <= now or self._silent_from <= now:
            return None
        if isinstance(found, bytes):
            record = self._read(digest, found)
            if record is None:
                return None
            self._kept[digest] = (record, asked_at, end)
            found = record
        self.hits += 1
        return found

    async def look_up(self, digest: str) -> TokenRecord | None:
        """Return the live record, from here or from the store; ``None`` if there is none.

        Raises ``StoreUnavailable`` when that can't be known.
        """
        record = self.recall(digest)
        if record is not None:
            return record
        now = self._now()
        if self._silent_from > now and self._absent.get(digest, 0.0) > now:
            self.hits += 1
            return None
        self.misses += 1
        for _ in range(_ASKED_AT_MOST):
            flight = self._begin_flight(digest)
            is_failure = False
            try:
                value = await self._fetch(digest)
            except StoreUnavailable:
                is_failure = True
                record = self._recall_in_outage(digest)
                if record is None:
                    raise
                return record
            finally:
                self._end_flight(digest, flight)
                asked_at, now = now, self._now()
                self.on_lookup(max(0.0, now - asked_at), is_failure)
            record = None if value is None else self._read(digest, value)
            if flight.is_current:
                self._keep(digest, record, value, asked_at)
                break
            if not self._is_watching:
                self._remember(digest, record, asked_at)
                break
        return record

    # What the store tells (``Watcher``).

    def on_watching(self) -> None:
        """The store tells of changes from now on; of what was before, nothing is known."""
        self._forget_all()
        self._remembered = {}
        self._is_watching = True
        self._note_word()

    def on_changed(self, digests: Sequence[str] | None) -> None:
        """Forget these records, or all of them; with no digest, note that there is nothing new."""
        if digests is None:
            self.invalidations += 1
            self._forget_all()
        elif digests:
            self.invalidations += 1
            self._forget(digests)
        elif self._is_watching:
            self._note_word()

    def on_blind(self) -> None:
        """Believe nothing any more, but remember what was believed: there may be an outage."""
        if self._is_watching:
            self._is_watching = False
            self._remembered = self._kept if self._grace_seconds else {}
            self._forget_all()

    # Within.

    def _note_word(self) -> None:
        now = self._now()
        if now < self._heard_at:  # the clock was set back, and every age with it
            self._forget_all()
        self._heard_at = now
        self._silent_from = now + HEARD_SECONDS

    def _begin_flight(self, digest: str) -> _Flight:
        """Join the flight for this digest, unless something was told since it began."""
        flight = self._flights.get(digest)
        if flight is None or not flight.is_current:
            flight = self._flights[digest] = _Flight(self._is_watching)
        flight.callers += 1
        return flight

    def _end_flight(self, digest: str, flight: _Flight) -> None:
        flight.callers -= 1
        if not flight.callers and self._flights.get(digest) is flight:
            del self._flights[digest]

    def _keep(
        self, digest: str, record: TokenRecord | None, value: bytes | None, asked_at: float
    ) -> None:
        if not self._most_tokens:
            return
        if record is None or value is None:
            _make_room(self._absent, self._most_absent)
            self._absent[digest] = asked_at + min(_ABSENCE_SECONDS, self._max_age_seconds)
            return
        self._kept.pop(digest, None)
        _make_room(self._kept, self._most_tokens)
        self._kept[digest] = (value, asked_at, _end_of(record))

    def _remember(self, digest: str, record: TokenRecord | None, asked_at: float) -> None:
        """Note for an outage what a store says that does not tell of changes."""
        self._remembered.pop(digest, None)
        if record is not None and self._grace_seconds and self._most_tokens:
            _make_room(self._remembered, self._most_tokens)
            self._remembered[digest] = (record, asked_at, _end_of(record))

    def _recall_in_outage(self, digest: str) -> TokenRecord | None:
        """Return what held good at the store's last word, or answer, while the grace lasts."""
        kept = self._remembered.get(digest)
        if kept is None:
            return None
        found, asked_at, end = kept
        now = self._now()
        good_at = max(asked_at, self._heard_at)
        if not (good_at <= now < min(good_at + self._grace_seconds, end)):
            return None
        return self._read(digest, found) if isinstance(found, bytes) else found

    def _forget(self, digests: Sequence[str]) -> None:
        for digest in digests:
            self._kept.pop(digest, None)
            self._absent.pop(digest, None)
            flight = self._flights.get(digest)
            if flight is not None:
                flight.is_current = False

    def _forget_all(self) -> None:
        self._kept = {}
        self._absent = {}
        for flight in self._flights.values():
            flight.is_current = False


class _Flight:
    """A look-up under way, or more of the same digest.

    ``is_current``: nothing was told since the first began that their answers may not know.
    """

    __slots__ = ("callers", "is_current")

    def __init__(self, is_current: bool) -> None:
        self.callers = 0
        self.is_current = is_current


def _make_room(entries: dict[str, Any], most: int) -> None:
    """Drop what was kept first, a share at once, if there is no room for another.

    One at a time would be quadratic: a dict finds its first entry by stepping over every place
    that was emptied before it (60 us each for 100 000 entries).
    """
    if len(entries) >= most:
        for digest in [*islice(entries, most // _DROPPED_AT_ONCE + 1)]:
            del entries[digest]


def _end_of(record: TokenRecord) -> float:
    return _NEVER if record.expires_at is None else record.expires_at


def _note_nothing(seconds: float, is_failure: bool) -> None:
    pass


async def _ask_nobody(digest: str) -> bytes | None:
    raise StoreUnavailable("no store is connected yet")


def _read_nothing(digest: str, value: bytes) -> TokenRecord | None:
    return None
