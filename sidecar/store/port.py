"""The store as the rest of the program sees it: what every adapter promises.

One contract suite (``tests/contract/``) runs on each adapter. Every method but ``close`` may raise
``sidecar.core.errors.StoreUnavailable`` within its time budget, and never a library's own error;
``look_up`` and ``ping`` may raise ``Overloaded`` as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from sidecar.core.model import LastUse, TokenRecord, Uses

MOST_BANS: Final = 10_000
"""As many bans are kept, and as many welcomes; beyond it the oldest are forgotten."""

WELCOME_SECONDS: Final = 30 * 86400.0
"""How long a successful sign-in makes its network welcome for the account."""


HEARD_SECONDS: Final = 2.0
"""How long the store's silence may last; beyond it, its word can't be told from a dead line."""


class Watcher(Protocol):
    """Whoever wants to know of every change to a record, whoever makes it, as it happens.

    The store is never silent for ``HEARD_SECONDS`` while it can be heard: when there is nothing to
    tell, it says so.
    """

    def on_watching(self) -> None:
        """From now on every change is told; of what was before, nothing is known."""

    def on_changed(self, digests: Sequence[str] | None) -> None:
        """The records with these digests were written, deleted or have expired; ``None``: any may
        be.
        """

    def on_heard(self, age_seconds: float) -> None:
        """Every change until so many seconds ago was told."""

    def on_blind(self) -> None:
        """Changes are told no longer: the way to the store is broken."""


class TokenLookup(Protocol):
    """All that judging a request needs of the store."""

    def get(self, digest: str) -> TokenRecord | None:
        """Return the live record if it is known without asking; ``None``: ``look_up`` must tell."""

    def is_absent(self, digest: str) -> bool:
        """Tell whether it is known without asking that there is no record."""

    def is_familiar(self, digest: str) -> bool:
        """Tell whether there was a record when the store was last asked, as far as is remembered;
        whether there still is, ``look_up`` must tell.
        """

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """As ``TokenStore.look_up``."""


class TokenStore(Protocol):
    """Token records by digest, with TTL, and an index of each account's tokens."""

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """Return the record whose key exists, or ``None``.

        Look-ups that wait at the same time share one round trip. Of more than fit into one, those
        of each ``asker`` wait for each other alone: a network (``core.subjects.network_of``), or
        empty for the sidecar's own. Cancelling one never disturbs another. A record that can't be
        read (foreign, truncated, too large) is ``None`` and is logged. A record past its own
        expiry is ``None``, whatever its key's TTL says.
        """

    async def create(self, record: TokenRecord) -> None:
        """Write a new record with its TTL (none when ``expires_at`` is ``None``) and index it.

        Raises ``NameTaken`` when the account has a live token of that name (or one is being made),
        ``UsageError`` when there is a record with that digest or this one can't be stored. A crash
        half-way leaves nothing that authorizes and cannot be listed and revoked.
        """

    async def list(self, account: str | None = None) -> list[TokenRecord]:
        """Return the live records of one account, or of all, oldest first; mends the index."""

    async def find(self, token_id: str, account: str | None = None) -> TokenRecord | None:
        """Return the live record with this id (of this account only, if one is named)."""

    async def count_at_most(self, account: str) -> int:
        """Return, cheaply, a number that the account's live tokens do not exceed."""

    async def revoke(self, record: TokenRecord) -> bool:
        """Delete the record; ``True`` if it was there. It authorizes nothing from then on."""

    async def supersede(
        self, old: TokenRecord, successor: TokenRecord, overlap_seconds: float
    ) -> None:
        """Create ``successor`` (same account and name); let ``old`` live for the overlap at most.

        Raises ``NameTaken`` when the name is no longer ``old``'s, as after an earlier
        ``supersede``.
        """

    async def record_use(self, uses: Uses) -> None:
        """Note last uses of tokens, a token's latest last; a loss of these is no fault."""

    async def last_uses(self, records: Sequence[TokenRecord]) -> dict[str, LastUse]:
        """Return the last uses known for these records, by digest."""

    async def ping(self) -> None:
        """Return if the store answers reads and accepts writes; raise otherwise."""

    async def close(self) -> None:
        """Release connections; idempotent."""


class FailureCounters(Protocol):
    """Failures and bans that all processes share; what a subject is, ``core.subjects`` says."""

    async def add(self, failures: Mapping[str, int], window_seconds: float) -> dict[str, int]:
        """Add to the counts of subjects and return what they are now.

        A count ends a window after its first failure.
        """

    async def ban(self, bans: Mapping[str, float]) -> set[str]:
        """Ban subjects until a time each (Unix seconds), and end their counts.

        Returns those that were not banned already; the others' bans stay as they are.
        """

    async def bans(self) -> dict[str, float]:
        """Return who is banned and until when (Unix seconds)."""

    async def clear(self, subjects: Sequence[str] | None = None) -> set[str]:
        """End the bans and counts of these subjects, or all; return those that were banned."""

    async def welcome(self, pairs: Mapping[str, float]) -> None:
        """Note when (Unix seconds) an account signed in from a network."""

    async def welcomed(self) -> dict[str, float]:
        """Return the pairs noted in the last ``WELCOME_SECONDS``, and when."""

    async def close(self) -> None:
        """Release connections; idempotent."""


@dataclass(frozen=True, slots=True)
class Exported:
    """All that is kept of a token."""

    record: TokenRecord
    use: LastUse | None = None
    holds_name: bool = True
    """False for a token that has been rotated, whose name is its successor's."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the tokens, and how many keys beside them hold no readable record."""

    tokens: list[Exported]
    unreadable: int


class Outcome(Enum):
    """What came of one exported token."""

    CREATED = "created"
    PRESENT = "present"
    """The same record is there."""
    DIFFERENT = "different"
    """Another record is there, and stays."""
    ID_TAKEN = "id taken"
    """Its id is another token's of the account; two with one id could not be told apart."""
    EXPIRED = "expired"


MOST_RESTORED: Final = 256
"""So many tokens may be restored in one step."""


class TokenArchive(Protocol):
    """All tokens at once, for backups."""

    def export(self) -> AsyncIterator[Batch]:
        """Yield every live token, one perhaps twice, in no order.

        What is made, ended or used meanwhile may or may not be in it. Memory does not grow with the
        number of tokens, and others are answered between two batches.
        """

    async def restore(self, tokens: Sequence[Exported]) -> list[Outcome]:
        """Write at most ``MOST_RESTORED`` tokens; return what came of each, in order.

        Doing it again changes nothing, and a crash half-way leaves nothing that authorizes and
        cannot be listed and revoked. A name that is another live token's stays that one's, and the
        token is listed beside it. Raises ``UsageError`` for a record that can't be stored.
        """

    async def close(self) -> None:
        """Release connections; idempotent."""
