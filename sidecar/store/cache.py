"""Tokens kept where they are used: when a record may be believed without asking the store.

A record is believed while the store tells of every change (``Watcher``), for at most ``max_age``,
and never past its own expiry. So a revocation, made anywhere by anyone, takes effect with the
store's word of it. What the store does not know is remembered too, briefly and in a bounded number,
so that a flood of one bad token costs it nothing.

When the store's word can't be heard any more, nothing is believed and every request asks. When
asking fails as well, a record that was believed until then is accepted for ``outage_grace`` more;
beyond it, and for everything else, the answer is "I don't know".

A change that is told while a look-up is under way wins over the look-up: it is asked again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from time import time
from typing import Any, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord

LookUp = Callable[[str], Awaitable[TokenRecord | None]]

_ABSENCE_SECONDS: Final = 10.0
_ASKED_AT_MOST: Final = 3


class TokenCache:
    """A bounded cache in front of a store's ``look_up``; implements ``Watcher``.

    ``look_up`` is the store's. ``now`` gives Unix seconds. With ``most_tokens`` 0 nothing is kept.
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
        self._look_up: LookUp = _ask_nobody
        self._is_watching = False
        self._blind_since = 0.0
        self._kept: dict[str, tuple[TokenRecord, float]] = {}  # and until when to believe it
        self._absent: dict[str, float] = {}
        self._remembered: dict[str, tuple[TokenRecord, float]] = {}
        self._flights: dict[str, list[_Flight]] = {}
        self.hits = 0
        self.misses = 0
        self.invalidations = 0

    def __repr__(self) -> str:
        state = "watching" if self._is_watching else "blind"
        return f"<TokenCache {state} kept={len(self._kept)} absent={len(self._absent)}>"

    @property
    def is_watching(self) -> bool:
        """Tell whether the store tells of changes, so that records may be believed."""
        return self._is_watching

    def connect(self, look_up: LookUp) -> None:
        """Ask the store by ``look_up`` from now on."""
        self._look_up = look_up

    def recall(self, digest: str) -> TokenRecord | None:
        """Return the record if it may be believed at once; ``None``: ``look_up`` must tell."""
        kept = self._kept.get(digest)
        if kept is not None and kept[1] > self._now():
            self.hits += 1
            return kept[0]
        return None

    async def look_up(self, digest: str) -> TokenRecord | None:
        """Return the live record, from here or from the store; ``None`` if there is none.

        Raises ``StoreUnavailable`` when that can't be known.
        """
        record = self.recall(digest)
        if record is not None:
            return record
        absent_until = self._absent.get(digest)
        if absent_until is not None and absent_until > self._now():
            self.hits += 1
            return None
        self.misses += 1
        try:
            return await self._ask(digest)
        except StoreUnavailable:
            record = self._recall_in_outage(digest)
            if record is None:
                raise
            return record

    # What the store tells (``Watcher``).

    def on_watching(self) -> None:
        """The store tells of changes from now on; of what was before, nothing is known."""
        self._forget_all()
        self._remembered = {}
        self._is_watching = True

    def on_changed(self, digests: Sequence[str] | None) -> None:
        """Forget these records, or all of them."""
        self.invalidations += 1
        if digests is None:
            self._forget_all()
            return
        for digest in digests:
            self._kept.pop(digest, None)
            self._absent.pop(digest, None)
            for flight in self._flights.get(digest, ()):
                flight.is_current = False

    def on_blind(self) -> None:
        """Believe nothing any more, but remember what was believed: there may be an outage."""
        self._is_watching = False
        self._blind_since = self._now()
        self._remembered = dict(self._kept) if self._grace_seconds else {}
        self._forget_all()

    # Within.

    async def _ask(self, digest: str) -> TokenRecord | None:
        """Ask the store, again if a change was told meanwhile; keep only what stayed current."""
        record = None
        for _ in range(_ASKED_AT_MOST):
            flight = _Flight(self._is_watching)
            flights = self._flights.setdefault(digest, [])
            flights.append(flight)
            try:
                record = await self._look_up(digest)
            finally:
                flights.remove(flight)
                if not flights:
                    self._flights.pop(digest, None)
            if flight.is_current:
                self._keep(digest, record)
            if flight.is_current or not self._is_watching:
                break
        return record

    def _keep(self, digest: str, record: TokenRecord | None) -> None:
        if not self._most_tokens:
            return
        now = self._now()
        if record is None:
            _make_room(self._absent, self._most_absent)
            self._absent[digest] = now + min(_ABSENCE_SECONDS, self._max_age_seconds)
            return
        until = now + self._max_age_seconds
        if record.expires_at is not None:
            until = min(until, record.expires_at)
        self._kept.pop(digest, None)
        _make_room(self._kept, self._most_tokens)
        self._kept[digest] = (record, until)

    def _recall_in_outage(self, digest: str) -> TokenRecord | None:
        """Return what was believed when the store's word broke off, while the grace lasts."""
        kept = self._remembered.get(digest)
        if kept is None or self._is_watching:
            return None
        now = self._now()
        if now >= self._blind_since + self._grace_seconds:
            self._remembered = {}
            return None
        return None if kept[0].is_expired(now) else kept[0]

    def _forget_all(self) -> None:
        self._kept.clear()
        self._absent.clear()
        for flights in self._flights.values():
            for flight in flights:
                flight.is_current = False


class _Flight:
    """A look-up under way; ``is_current``: nothing was told since that its answer may not know."""

    __slots__ = ("is_current",)

    def __init__(self, is_current: bool) -> None:
        self.is_current = is_current


def _make_room(entries: dict[str, Any], most: int) -> None:
    """Drop the entry that was kept first, if there is no room for another."""
    if len(entries) >= most:
        del entries[next(iter(entries))]


async def _ask_nobody(digest: str) -> TokenRecord | None:
    raise StoreUnavailable("no store is connected yet")
