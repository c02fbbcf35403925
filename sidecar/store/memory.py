"""Tokens and failures in this process's memory, for trials and tests; they end with the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.model import LastUse, TokenRecord, Uses
from sidecar.store.port import MOST_BANS, WELCOME_SECONDS
from sidecar.store.record import encode


class MemoryStore:
    """``TokenStore`` without a Redis. ``clock`` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[str, TokenRecord] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._uses: dict[str, LastUse] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore, {len(self._records)} tokens>"

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """See ``TokenStore``."""
        return self._live(digest)

    async def create(self, record: TokenRecord) -> None:
        """See ``TokenStore``."""
        holder = self._live(self._names.get((record.account, record.name), ""))
        if holder is not None:
            raise NameTaken(f"account {record.account} already has a token named {record.name!r}")
        self._add(record)

    async def list(self, account: str | None = None) -> list[TokenRecord]:
        """See ``TokenStore``."""
        live = [record for digest in [*self._records] if (record := self._live(digest))]
        chosen = [record for record in live if account in (None, record.account)]
        return sorted(chosen, key=lambda record: (record.created_at, record.id))

    async def find(self, token_id: str, account: str | None = None) -> TokenRecord | None:
        """See ``TokenStore``."""
        found = [record for record in await self.list(account) if record.id == token_id]
        return found[0] if found else None

    async def count_at_most(self, account: str) -> int:
        """See ``TokenStore``."""
        return sum(record.account == account for record in self._records.values())

    async def revoke(self, record: TokenRecord) -> bool:
        """See ``TokenStore``."""
        was_live = self._live(record.digest) is not None
        self._drop(record.digest)
        return was_live

    async def supersede(
        self, old: TokenRecord, successor: TokenRecord, overlap_seconds: float
    ) -> None:
        """See ``TokenStore``."""
        if self._names.get((old.account, old.name), old.digest) != old.digest:
            raise NameTaken(f"token {old.id} has been superseded already")
        self._add(successor)
        if old.digest in self._records:
            self._records[old.digest] = old.ending_by(self._clock() + overlap_seconds)

    async def record_use(self, uses: Uses) -> None:
        """See ``TokenStore``."""
        for use, digests in uses:
            self._uses.update({digest: use for digest in digests if digest in self._records})

    async def last_uses(self, records: Sequence[TokenRecord]) -> dict[str, LastUse]:
        """See ``TokenStore``."""
        return {r.digest: self._uses[r.digest] for r in records if r.digest in self._uses}

    async def ping(self) -> None:
        """Return: memory is always available."""

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _add(self, record: TokenRecord) -> None:
        encode(record)  # refuse what Redis would refuse
        if self._live(record.digest) is not None:
            raise UsageError("this token is in the store already")
        self._records[record.digest] = record
        self._names[record.account, record.name] = record.digest

    def _live(self, digest: str) -> TokenRecord | None:
        record = self._records.get(digest)
        if record is not None and record.is_expired(self._clock()):
            self._drop(digest)
            return None
        return record

    def _drop(self, digest: str) -> None:
        record = self._records.pop(digest, None)
        self._uses.pop(digest, None)
        if record is not None and self._names.get((record.account, record.name)) == digest:
            del self._names[record.account, record.name]


class MemoryFailureCounters:
    """``FailureCounters`` without a Redis. ``clock`` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._counts: dict[str, tuple[int, float]] = {}  # and until when
        self._bans: dict[str, float] = {}
        self._welcome: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<MemoryFailureCounters, {len(self._counts)} counts, {len(self._bans)} bans>"

    async def add(self, failures: Mapping[str, int], window_seconds: float) -> dict[str, int]:
        """See ``FailureCounters``."""
        now = self._clock()
        for subject, more in failures.items():
            count, until = self._counts.get(subject, (0, 0.0))
            if until <= now:
                count, until = 0, now + window_seconds
            self._counts[subject] = (count + more, until)
        return {subject: self._counts[subject][0] for subject in failures}

    async def ban(self, bans: Mapping[str, float]) -> set[str]:
        """See ``FailureCounters``."""
        new = bans.keys() - (await self.bans()).keys()
        self._bans.update({subject: bans[subject] for subject in new})
        for subject in bans:
            self._counts.pop(subject, None)
        self._bans = _latest(self._bans)
        return new

    async def bans(self) -> dict[str, float]:
        """See ``FailureCounters``."""
        now = self._clock()
        self._bans = {subject: until for subject, until in self._bans.items() if until > now}
        return dict(self._bans)

    async def clear(self, subjects: Sequence[str] | None = None) -> set[str]:
        """See ``FailureCounters``."""
        banned = await self.bans()
        cleared = banned.keys() | self._counts.keys() if subjects is None else set(subjects)
        for subject in cleared:
            self._bans.pop(subject, None)
            self._counts.pop(subject, None)
        return banned.keys() & cleared

    async def welcome(self, pairs: Mapping[str, float]) -> None:
        """See ``FailureCounters``."""
        self._welcome = _latest({**self._welcome, **pairs})

    async def welcomed(self) -> dict[str, float]:
        """See ``FailureCounters``."""
        since = self._clock() - WELCOME_SECONDS
        self._welcome = {pair: at for pair, at in self._welcome.items() if at > since}
        return dict(self._welcome)

    async def close(self) -> None:
        """Do nothing: there is no connection."""


def _latest(times: dict[str, float]) -> dict[str, float]:
    """Return the ``MOST_BANS`` entries with the latest times."""
    return dict(sorted(times.items(), key=lambda item: item[1])[-MOST_BANS:])
