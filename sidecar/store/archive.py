"""All tokens at once: read from Redis, and restored so that none is lost and none lives longer.

Export scans the keys (``SCAN``), a few hundred at a time, so Redis answers other clients meanwhile
and a million tokens take no more memory than a hundred. Changes made during the scan may or may not
be included.

Restoring keeps the order of writes that makes a crash harmless (``sidecar.store.redis``): a token
is indexed before its record is written. It never changes an existing record: a token that has been
rotated since the export must not get its old life back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.store.commands import CommandRunner
from sidecar.store.faults import budget
from sidecar.store.index import IN_FLIGHT_SECONDS, AccountIndex
from sidecar.store.layout import Layout, decode_use
from sidecar.store.port import MOST_RESTORED, Batch, Exported, Outcome
from sidecar.store.record import decode, encode
from sidecar.store.store_url import parse_store_url
from sidecar.store.token_lines import is_digest
from sidecar.store.topology import RedisConnector

_PAUSES_SECONDS: Final = (0.2, 1.0)
_TTL_SLACK_SECONDS: Final = 1.0
_NO_TTL, _NO_KEY = -1, -2
_TO_INDEX = (Outcome.CREATED, Outcome.PRESENT)


def connect_archive(
    url: str,
    *,
    prefix: str,
    budget_seconds: float = 0.25,
    now: Callable[[], float] = time.time,
) -> RedisArchive:
    """Return the tokens in the Redis at ``url`` (as ``sidecar.store.redis.connect`` has it).

    ``budget_seconds`` limits each step. Every method may raise ``StoreUnavailable``.
    """
    connector = RedisConnector(parse_store_url(url), budget_seconds, f"{prefix}probe".encode())
    return RedisArchive(connector, prefix.encode(), budget_seconds, now)


class RedisArchive:
    """``TokenArchive``: the tokens of one prefix, in a Redis, behind Sentinels or in a Cluster."""

    def __init__(
        self,
        connector: RedisConnector,
        prefix: bytes,
        budget_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._connector = connector
        self._layout = Layout(prefix)
        self._budget_seconds = budget_seconds
        self._now = now
        self._commands = CommandRunner(connector.channel, budget_seconds)
        self._index = AccountIndex(self._commands, prefix, now)

    async def export(self) -> AsyncIterator[Batch]:
        """See ``TokenArchive``."""
        start = self._layout.tokens_start
        digests: list[str] = []
        async for key in self._commands.scan(start):
            digests.append(key[len(start) :].decode("latin-1"))
            if len(digests) == MOST_RESTORED:
                yield await self._read(digests)
                digests = []
        yield await self._read(digests)

    async def _read(self, digests: Sequence[str]) -> Batch:
        known = [digest for digest in digests if is_digest(digest)]
        keys = [self._layout.token_key(digest) for digest in known]
        values = await self._commands.get(keys)
        ttls = await self._commands.run(*(("PTTL", key) for key in keys)) if keys else []
        records: list[TokenRecord] = []
        unreadable = len(digests) - len(known)
        for digest, value, ttl in zip(known, values, ttls, strict=True):
            record = None if value is None else decode(digest, value)
            if record is not None and ttl != _NO_KEY:
                records.append(self._ending_with_key(record, ttl))
            unreadable += record is None and ttl != _NO_KEY
        live = [record for record in records if not record.is_expired(self._now())]
        return Batch(await self._complete(live), unreadable)

    def _ending_with_key(self, record: TokenRecord, ttl: int) -> TokenRecord:
        """Return the record, ending with its key if that is earlier: an admin may have set a TTL.

        ``ttl`` is in milliseconds.
        """
        end = math.inf if ttl == _NO_TTL else self._now() + ttl / 1000
        own_end = math.inf if record.expires_at is None else record.expires_at
        return record.ending_by(end) if end + _TTL_SLACK_SECONDS < own_end else record

    async def _complete(self, records: Sequence[TokenRecord]) -> list[Exported]:
        """Add each token's last use, and whether it holds its name."""
        if not records:
            return []
        uses = await self._commands.get([self._layout.used_key(r.digest) for r in records])
        holders = await self._index.holders(records)
        return [
            Exported(
                record,
                None if use is None else decode_use(use),
                holds_name=holder is None or holder == record.id,
            )
            for record, use, holder in zip(records, uses, holders, strict=True)
        ]

    async def compare(self, records: Sequence[TokenRecord]) -> list[Outcome]:
        """See ``TokenArchive``."""
        values = await self._commands.get([self._layout.token_key(r.digest) for r in records])
        holders = await self._index.holders(records)
        return [
            await self._compare(record, value, holder)
            for record, value, holder in zip(records, values, holders, strict=True)
        ]

    async def _compare(
        self, record: TokenRecord, value: bytes | None, holder: str | None
    ) -> Outcome:
        if record.is_expired(self._now()):
            return Outcome.EXPIRED
        if value is not None:
            found = decode(record.digest, value)
            is_same = found is not None and _told_apart(found) == _told_apart(record)
            return Outcome.PRESENT if is_same else Outcome.DIFFERENT
        if holder is not None and await self._is_live(record.account, holder):
            return Outcome.NAME_TAKEN
        return Outcome.CREATED

    async def _is_live(self, account: str, token_id: str) -> bool:
        """Tell whether an indexed token is live, or about to be."""
        entry = await self._index.find(account, token_id)
        if entry is None:
            return False
        (value,) = await self._commands.get([self._layout.token_key(entry.digest)])
        return value is not None or entry.may_be_in_flight(self._now())

    async def restore(self, tokens: Sequence[Exported]) -> list[Outcome]:
        """See ``TokenArchive``. A step that takes too long is repeated, which is harmless."""
        for pause_seconds in _PAUSES_SECONDS:
            with suppress(StoreUnavailable):
                return await self._restore(tokens)
            await asyncio.sleep(pause_seconds)
        return await self._restore(tokens)

    async def _restore(self, tokens: Sequence[Exported]) -> list[Outcome]:
        records = [token.record for token in tokens]
        values = await self._commands.get([self._layout.token_key(r.digest) for r in records])
        outcomes = [self._judge(r, value) for r, value in zip(records, values, strict=True)]
        chosen = [number for number, outcome in enumerate(outcomes) if outcome in _TO_INDEX]
        if not chosen:
            return outcomes
        async with budget(IN_FLIGHT_SECONDS / 2):  # repairs leave young entries alone
            holders = await self._adopt([tokens[number] for number in chosen])
            for number, holder in zip(chosen, holders, strict=True):
                if holder is None:
                    outcomes[number] = Outcome.ID_TAKEN
            await self._write(records, outcomes)
        restored = [tokens[number] for number in chosen if outcomes[number] in _TO_INDEX]
        await self._finish(restored)
        return outcomes

    def _judge(self, record: TokenRecord, value: bytes | None) -> Outcome:
        """Return the outcome for a token, by the value that is at its key now."""
        if record.is_expired(self._now()):
            return Outcome.EXPIRED
        if value is None:
            return Outcome.CREATED
        found = decode(record.digest, value)
        is_same = found is not None and _rounded(found) == _rounded(record)
        return Outcome.PRESENT if is_same else Outcome.DIFFERENT

    async def _adopt(self, tokens: Sequence[Exported]) -> list[str | None]:
        named = {token.record.id for token in tokens if token.holds_name}
        return await self._index.adopt([token.record for token in tokens], named)

    async def _write(self, records: Sequence[TokenRecord], outcomes: list[Outcome]) -> None:
        """Write the records to create; judge those again that appeared meanwhile."""
        numbers = [n for n, outcome in enumerate(outcomes) if outcome is Outcome.CREATED]
        if not numbers:
            return
        now = self._now()
        replies = await self._commands.run(
            *(self._layout.set_record(records[n], encode(records[n]), "NX", now) for n in numbers)
        )
        for number, was_set in zip(numbers, replies, strict=True):
            if not was_set:
                outcomes[number] = await self._judge_again(records[number])

    async def _judge_again(self, record: TokenRecord) -> Outcome:
        (value,) = await self._commands.get([self._layout.token_key(record.digest)])
        outcome = self._judge(record, value)
        if outcome is Outcome.DIFFERENT:
            await self._index.release(record)
        return outcome

    async def _finish(self, tokens: Sequence[Exported]) -> None:
        """Check the index again, then restore names and last uses."""
        if not tokens:
            return
        holders = await self._adopt(tokens)
        for token, holder in zip(tokens, holders, strict=True):
            if holder is not None and holder != token.record.id:
                await self._take_over_name(token.record, holder)
        now = self._now()
        uses = [
            (*self._layout.set_use(token.record.digest, token.use, _ttl(token.record, now)), "NX")
            for token in tokens
            if token.use is not None
        ]
        if uses:
            await self._commands.run(*uses)

    async def _take_over_name(self, record: TokenRecord, holder: str) -> None:
        """Reserve a token's name if its holder is dead."""
        if not await self._is_live(record.account, holder):
            await self._index.reserve(record, instead_of=holder)

    async def close(self) -> None:
        """Release connections; idempotent."""
        with suppress(StoreUnavailable):
            async with budget(self._budget_seconds):
                await self._connector.close()


def _ttl(record: TokenRecord, now: float) -> int:
    """Return the milliseconds until a token expires; 0 for an unlimited one."""
    return 0 if record.expires_at is None else max(1, int((record.expires_at - now) * 1000))


def _told_apart(record: TokenRecord) -> tuple[object, ...]:
    return record.kind, record.account, record.name, record.paths


def _rounded(record: TokenRecord) -> TokenRecord:
    """Return the record with times in milliseconds; an export has microseconds only."""
    expires_at = None if record.expires_at is None else round(record.expires_at, 3)
    granted = None if record.granted_until is None else round(record.granted_until, 3)
    return record.replace(
        created_at=round(record.created_at, 3), expires_at=expires_at, granted_until=granted
    )
