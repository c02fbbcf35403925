"""The store as the rest of the program sees it: what every adapter promises.

One contract suite (``tests/contract/``) runs on every adapter. All methods but ``close`` may raise
``sidecar.core.errors.StoreUnavailable`` within their time budget, and never an error of a library;
``look_up`` and ``ping`` may also raise ``Overloaded``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from sidecar.core.model import LastUse, TokenRecord, Uses

MOST_BANS: Final = 10_000
"""The most bans that are kept, and the most welcomes; beyond it the oldest are forgotten."""

WELCOME_SECONDS: Final = 30 * 86400.0
"""How long a successful sign-in makes its network welcome for the account."""

HEARD_SECONDS: Final = 2.0
"""How long the store may be silent before a silent line counts as a dead one."""


class Watcher(Protocol):
    """Receives every change to a record as it happens, whoever makes it.

    While the store can be heard, it reports within every ``HEARD_SECONDS``: without a change, it
    calls ``on_heard``.
    """

    def on_watching(self) -> None:
        """Every change is reported from now on; earlier ones may have been missed."""

    def on_changed(self, digests: Sequence[str] | None) -> None:
        """The records with these digests were written or deleted or have expired; ``None``: any
        record may have changed.
        """

    def on_heard(self, age_seconds: float) -> None:
        """Every change until ``age_seconds`` ago has been reported."""

    def on_blind(self) -> None:
        """Changes are no longer reported: the connection to the store is broken."""


class TokenLookup(Protocol):
    """The part of the store that judging a request needs."""

    def get(self, digest: str) -> TokenRecord | None:
        """Return the live record if it is cached; ``None`` means: call ``look_up``."""

    def is_absent(self, digest: str) -> bool:
        """Return whether it is cached that there is no record."""

    def is_familiar(self, digest: str) -> bool:
        """Return whether the cache remembers a record, valid or not; ``look_up`` tells which."""

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """See ``TokenStore``."""


class TokenStore(Protocol):
    """Token records by digest, with TTL, and an index of each account's tokens."""

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """Return the record whose key exists, or ``None``.

        Look-ups that are pending at the same time share one round trip. When they exceed one, each
        ``asker`` has a line of its own: a network (``core.subjects.network_of``), or the empty
        string for the sidecar itself. Cancelling one look-up never disturbs another. An unreadable
        record (foreign, truncated, too large) is logged, and the result is ``None``. So it is for
        a record past its own expiry, whatever the key's TTL says.
        """

    async def create(self, record: TokenRecord) -> None:
        """Write a new record with its TTL (none when ``expires_at`` is ``None``) and index it.

        Raises ``NameTaken`` if the account has a live token of that name, or one in the making;
        ``UsageError`` if there is a record with that digest, or this one cannot be stored. After
        a crash half-way, every token that authorizes can be listed and revoked.
        """

    async def list(self, account: str | None = None) -> list[TokenRecord]:
        """Return the live records of one account, or of all, oldest first; repair the index."""

    async def find(self, token_id: str, account: str | None = None) -> TokenRecord | None:
        """Return the live record with this id, of this account if one is given."""

    async def count_at_most(self, account: str) -> int:
        """Return an upper bound of the number of the account's live tokens, at little cost."""

    async def revoke(self, record: TokenRecord) -> bool:
        """Delete the record, which authorizes nothing from then on; return whether it existed."""

    async def supersede(
        self, old: TokenRecord, successor: TokenRecord, overlap_seconds: float
    ) -> None:
        """Create ``successor`` (same account and name); let ``old`` live at most for the overlap.

        Raises ``NameTaken`` if ``old`` no longer holds the name, as after an earlier
        ``supersede``.
        """

    async def record_use(self, uses: Uses) -> None:
        """Record last uses of tokens, in order of time. Losing some is acceptable."""

    async def last_uses(self, records: Sequence[TokenRecord]) -> dict[str, LastUse]:
        """Return the known last uses of these records, by digest."""

    async def ping(self) -> None:
        """Return if the store answers reads and accepts writes; otherwise raise."""

    async def close(self) -> None:
        """Release connections; idempotent."""


class FailureCounters(Protocol):
    """Failures and bans that all processes share; ``core.subjects`` defines a subject."""

    async def add(self, failures: Mapping[str, int], window_seconds: float) -> dict[str, int]:
        """Add to the counts of subjects and return the new counts.

        A count ends a window after its first failure.
        """

    async def ban(self, bans: Mapping[str, float]) -> set[str]:
        """Ban each subject until a time (Unix seconds), and end its count.

        Returns the subjects that were not banned before; the bans of the others do not change.
        """

    async def bans(self) -> dict[str, float]:
        """Return the banned subjects and until when each is banned (Unix seconds)."""

    async def clear(self, subjects: Sequence[str] | None = None) -> set[str]:
        """End the bans and counts of these subjects, or of all; return those that were banned."""

    async def welcome(self, pairs: Mapping[str, float]) -> None:
        """Record when (Unix seconds) accounts signed in from networks."""

    async def welcomed(self) -> dict[str, float]:
        """Return the pairs of the last ``WELCOME_SECONDS``, with their times."""

    async def close(self) -> None:
        """Release connections; idempotent."""


@dataclass(frozen=True, slots=True)
class Exported:
    """All that is stored of a token."""

    record: TokenRecord
    use: LastUse | None = None
    holds_name: bool = True
    """``False`` for a rotated token: its successor holds the name."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the tokens, and the number of keys without a readable record."""

    tokens: list[Exported]
    unreadable: int


class Outcome(Enum):
    """The result of restoring one token."""

    CREATED = "created"
    PRESENT = "present"
    """The store has the same record."""
    DIFFERENT = "different"
    """The store has another record at that digest, which stays."""
    ID_TAKEN = "id taken"
    """Another token of the account has this id."""
    NAME_TAKEN = "name taken"
    """Another live token of the account has this name. ``restore`` never says so."""
    EXPIRED = "expired"


MOST_RESTORED: Final = 256
"""The most tokens that may be restored in one step."""


class TokenArchive(Protocol):
    """All tokens at once, for backups."""

    def export(self) -> AsyncIterator[Batch]:
        """Yield every live token in any order, some perhaps twice.

        Changes made meanwhile may or may not be included. Memory does not grow with the number of
        tokens, and Redis answers other clients between two batches.
        """

    async def compare(self, records: Sequence[TokenRecord]) -> list[Outcome]:
        """Return what importing each record would come to, without writing; ids don't matter.

        ``PRESENT``: the store has this token with the same kind, account, name and paths.
        """

    async def restore(self, tokens: Sequence[Exported]) -> list[Outcome]:
        """Write at most ``MOST_RESTORED`` tokens; return the outcome of each, in order.

        It can be repeated without effect. After a crash half-way, every token that authorizes can
        be listed and revoked. If another live token holds a token's name, it keeps the name and
        both are listed. Raises ``UsageError`` for a record that cannot be stored.
        """

    async def close(self) -> None:
        """Release connections; idempotent."""
