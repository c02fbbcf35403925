"""Tokens kept where they are used: when a record may be believed without asking the store.

A record is believed while the store tells of every change (``Watcher``) and was heard in the last
``HEARD_SECONDS``, for at most ``max_age``, and never past its own expiry. What the store does not
know is remembered too, briefly and in a bounded number, so that a flood of one bad token costs it
nothing.

What is kept is what the store gave, as few objects, and the record only from when it is recalled:
most of a flood of different tokens never is. For the same reason a full cache takes in only what
comes a second time: tokens that are used once drive out none that is used often.

When the store's word can't be heard any more, nothing is believed and every request asks. When
asking fails as well, a record that held good at the store's last word is accepted until
``outage_grace`` after it; beyond it, and for everything else, the answer is "I don't know". A store
that comes back and goes again renews that for what was read meanwhile alone (``outage_memory``),
by callers or by ``revalidation``, which reads again what callers leave at rest.

So what is revoked, by anyone, is refused

- as soon as the store's word of it arrives: milliseconds;
- if the word is lost with a connection that breaks: as soon as it breaks;
- if it is lost on a line that died without a sign, or in a process that slept: 2 s after it was
  revoked (``HEARD_SECONDS``), usually 1.25 s (a heartbeat and a budget);
- in the last two cases, if the store can't be asked anew: ``outage_grace`` after its last word.

A change that is told while a look-up is under way wins over the look-up: it is asked again. A store
that never tells of changes is asked by every request; its answers serve for an outage alone, each
for ``outage_grace``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.histogram import Histogram
from sidecar.core.model import TokenRecord
from sidecar.store.kept import (
    DROPPED_AT_ONCE,
    NEVER,
    Kept,
    end_of,
    make_room,
    pack,
    times_of,
    value_of,
)
from sidecar.store.outage_memory import OutageMemory
from sidecar.store.port import HEARD_SECONDS

if TYPE_CHECKING:  # compiled, a number of the machine's own; else an int like any other
    from mypy_extensions import i64

Fetch = Callable[[str, str], Awaitable[bytes | None]]
"""Asks the store for what it has at a digest, on behalf of an asker."""

Read = Callable[[str, bytes, float], TokenRecord | None]
"""Reads that; ``None`` if it is no record that lives at a time (Unix seconds)."""

_ABSENCE_SECONDS: Final = 10.0
_ASKED_AT_MOST: Final = 3
_CHANGES_AT_MOST: Final = 4096
_SIGN_SHIFT: Final = 40
_SIGN_MASK: Final = 0xFF


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
        self._absence_seconds = min(_ABSENCE_SECONDS, max_age_seconds)
        self._now = now
        self._fetch: Fetch = _ask_nobody
        self._read: Read = _read_nothing
        self._is_watching = False
        self._heard_at = 0.0
        self._clock_at = 0.0
        self._silent_from = 0.0
        self._kept: dict[str, Kept] = {}
        self._leaving: list[tuple[str, Kept]] = []  # next, the first of them last
        self._seen = bytearray(1 << max(10, most_tokens.bit_length()))  # more than are kept
        self._absent: dict[str, float] = {}  # until when to believe it
        self._outage = OutageMemory(most_tokens, outage_grace_seconds)
        self._asking = 0
        self._changes = 0  # told so far, counted
        self._changed: dict[str, int] = {}  # while somebody asks: which change was a digest's last
        self._all_changed = 0
        self.lookup_seconds = Histogram()
        """How long the store took for each look-up; who shows it sets one with its bounds."""
        self.hits = 0
        self.misses = 0
        self.failures = 0
        """Look-ups that the store did not answer."""
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
        return [end for _, end in map(times_of, self._kept.values()) if end != NEVER]

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
        if isinstance(kept, bytes):
            return self._recall_first(digest, kept)
        record, asked_at, end = kept
        if not self._may_believe(asked_at, end):
            return None
        self.hits += 1
        return record

    def _recall_first(self, digest: str, kept: bytes) -> TokenRecord | None:
        """Read what the store gave, if it may be believed, so that it needn't be read again."""
        asked_at, end = times_of(kept)
        record = None
        if self._may_believe(asked_at, end):
            record = self._read(digest, value_of(kept), asked_at)
        if record is not None:
            self.hits += 1
            self._kept[digest] = (record, asked_at, end)
        return record

    def _may_believe(self, asked_at: float, end: float) -> bool:
        now = self._now()
        return now < end and now < asked_at + self._max_age_seconds and now < self._silent_from

    def is_absent(self, digest: str) -> bool:
        """Tell whether the store has no record, as far as it may be believed at once."""
        until = self._absent.get(digest)
        if until is None:
            return False
        now = self._now()
        if now >= until or now >= self._silent_from:
            return False
        self.hits += 1
        return True

    def is_familiar(self, digest: str) -> bool:
        """Tell whether there was a record when last asked, whether it may be believed or not."""
        return digest in self._kept or digest in self._outage

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """Return the live record, from here or from the store; ``None`` if there is none.

        Raises ``StoreUnavailable`` or ``Overloaded`` when that can't be known.
        """
        record = self.recall(digest)
        if record is not None:
            return record
        if self.is_absent(digest):
            return None
        self.misses += 1
        return await self._ask(digest, asker)

    async def _ask(self, digest: str, asker: str) -> TokenRecord | None:
        """Ask the store, and once more if the token changes meanwhile; keep what may be believed.

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
                record = self._recall_in_outage(digest)
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
                self._keep(digest, record, value, asked_at)
                break
            if not self._is_watching and not was_told:
                self._remember(digest, record, asked_at)
                break
        return record

    # Confirming what an outage left (``revalidation``).

    @property
    def is_asked(self) -> bool:
        """Tell whether anyone waits for the store."""
        return self._asking > 0

    @property
    def may_confirm(self) -> bool:
        """Tell whether ``confirm`` is of use: changes are told, and there is room to keep more."""
        return self._is_watching and len(self._kept) < self._most_tokens

    def remembered(self) -> list[str]:
        """Return the tokens that are remembered for an outage, at most as many as may be kept;
        those kept last are at the end.
        """
        return self._outage.digests()

    async def confirm(self, digest: str) -> None:
        """Ask the store about a token, unless it was asked since it is back, and keep its answer.

        Counts as neither a hit nor a miss. Raises as ``look_up``.
        """
        if digest not in self._kept:
            await self._ask(digest, "")

    # What the store tells (``Watcher``).

    def on_watching(self) -> None:
        """The store tells of changes from now on; of what was before, nothing is known."""
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
        """Believe what is kept for longer: nothing is new that was so many seconds ago."""
        if self._is_watching:
            self._note_word(age_seconds)

    def on_blind(self) -> None:
        """Believe nothing any more, but remember what was believed: there may be an outage."""
        if self._is_watching:
            self._is_watching = False
            self._look_at_clock()
            self._outage.end_watch(self._kept, self._heard_at, self._clock_at)
            self._forget_all()

    # Within.

    def _note_word(self, age_seconds: float) -> None:
        self._look_at_clock()
        self._heard_at = self._clock_at - age_seconds
        self._silent_from = self._heard_at + HEARD_SECONDS
        self._outage.drop_ended(self._clock_at)

    def _look_at_clock(self) -> None:
        now = self._now()
        if now < self._clock_at:  # it was set back, and every age with it
            self._forget_all()
            self._outage.clear()
        self._clock_at = now

    def _has_changed_since(self, changes: int, digest: str) -> bool:
        """Tell whether anything was told since so many changes that an answer may not know."""
        return self._changes != changes and (
            self._all_changed > changes or self._changed.get(digest, 0) > changes
        )

    def _keep(
        self, digest: str, record: TokenRecord | None, value: bytes | None, asked_at: float
    ) -> None:
        if not self._most_tokens:
            return
        if record is None or value is None:
            self._outage.forget([digest])
            make_room(self._absent, self._most_absent)
            self._absent[digest] = asked_at + self._absence_seconds
            return
        if digest in self._kept:
            del self._kept[digest]
        elif len(self._kept) >= self._most_tokens:
            if not self._comes_again(digest):
                return
            self._let_go()
        self._kept[digest] = pack(value, asked_at, end_of(record))
        self._outage.forget([digest])

    def _comes_again(self, digest: str) -> bool:
        """Tell whether a token was here lately, though it is not kept, and note that it was.

        It is the *doorkeeper* of TinyLFU (Einziger and others, 2017): of what came lately, a byte
        of the hash, at a place that the rest of the hash gives. One in 128 is mistaken for another.
        """
        seen = self._seen
        key: i64 = hash(digest)
        place, sign = key & len(seen) - 1, key >> _SIGN_SHIFT & _SIGN_MASK | 1  # 0: nothing came
        if seen[place] == sign:
            return True
        seen[place] = sign
        return False

    def _let_go(self) -> None:
        """Drop what was kept first, unless it was recalled for the first time just now.

        A share is found at once, as ``kept.make_room`` says, but dropped one by one: what is kept
        next takes the memory that the processor has at hand.
        """
        while len(self._kept) >= self._most_tokens:
            if not self._leaving:
                share = islice(self._kept.items(), self._most_tokens // DROPPED_AT_ONCE + 1)
                self._leaving = [*share]
                self._leaving.reverse()
            digest, kept = self._leaving.pop()
            if self._kept.get(digest) is kept:
                del self._kept[digest]

    def _remember(self, digest: str, record: TokenRecord | None, asked_at: float) -> None:
        """Note for an outage what a store says that does not tell of changes."""
        if record is None:
            self._outage.forget([digest])
        else:
            self._outage.note_answer(digest, (record, asked_at, end_of(record)))

    def _recall_in_outage(self, digest: str) -> TokenRecord | None:
        """Return what held good at the store's last word, or answer, while the grace lasts."""
        if self._is_watching:
            return None  # nothing but an answer will do
        now = self._now()
        kept = self._outage.recall(digest, now)
        if kept is None:
            return None
        return self._read(digest, value_of(kept), now) if isinstance(kept, bytes) else kept[0]

    def _forget(self, digests: Sequence[str]) -> None:
        for digest in digests:
            self._kept.pop(digest, None)
            self._absent.pop(digest, None)
        if not self._asking:
            return
        self._changes += 1
        if len(self._changed) < _CHANGES_AT_MOST:
            self._changed.update(dict.fromkeys(digests, self._changes))
        else:  # so many that who asks now asks again, whatever it asks for
            self._changed, self._all_changed = {}, self._changes

    def _forget_all(self) -> None:
        self._kept = {}
        self._leaving = []
        self._absent = {}
        self._changes += 1
        self._all_changed = self._changes


async def _ask_nobody(digest: str, asker: str) -> bytes | None:
    raise StoreUnavailable("no store is connected yet")


def _read_nothing(digest: str, value: bytes, now: float) -> TokenRecord | None:
    return None
