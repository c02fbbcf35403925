"""Tokens in Redis: the order of writes that makes a crash harmless.

Only the record authorizes (``layout``, ``record``); the index of an account (``index``) lists its
tokens. A new token is written to the index first and as a record second; an ended token's record is
deleted first and its index entry second. So every record can be listed and revoked at any moment,
and a crash leaves at worst an entry without a record, which is repaired. No step touches two keys,
so a Cluster needs nothing else.

A name is unique by its reservation in the index. The creator of a token checks its reservation once
more after writing the record; a creator that took over a dead holder's name also checks that the
holder has not come alive. So of two creators of one name at most one succeeds, however slow they
are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from sidecar.core.errors import NameTaken, StoreUnavailable, UsageError
from sidecar.core.model import LastUse, TokenRecord, Uses
from sidecar.store.commands import MOST_IN_PIPELINE, Command, CommandRunner
from sidecar.store.faults import budget
from sidecar.store.index import AccountIndex, IndexEntry, IndexSnapshot, NameHolder
from sidecar.store.layout import USE_KEPT_SECONDS, Layout, decode_use, encode_use
from sidecar.store.port import Watcher
from sidecar.store.record import decode, encode, is_id
from sidecar.store.store_url import parse_store_url
from sidecar.store.topology import RedisConnector

_PROBE_MILLISECONDS = 1000

# KEYS: the keys of a token and of its last use, in turn. ARGV: each use and the number of keys of
# its tokens, in turn; then the longest time to keep a use.
_RECORD_USES = """
local i, longest = 1, ARGV[#ARGV]
for u = 1, #ARGV - 1, 2 do
    for _ = 1, tonumber(ARGV[u + 1]), 2 do
        local left = redis.call('PTTL', KEYS[i])
        if left ~= -2 then
            redis.call('SET', KEYS[i + 1], ARGV[u], 'PX', left > 0 and left or longest)
        end
        i = i + 2
    end
end
"""

_log = logging.getLogger(__name__)


def connect(
    url: str,
    *,
    prefix: str,
    budget_seconds: float = 0.25,
    now: Callable[[], float] = time.time,
    watcher: Watcher | None = None,
) -> RedisStore:
    """Return the store at ``url`` (see ``sidecar.store.store_url``); connects when first used.

    Raises ``UsageError`` for a malformed URL. ``budget_seconds`` limits each call, connecting
    included; in ``list`` and in a ``find`` without an account, each step. ``watcher`` receives
    every change while Redis can be heard.
    """
    token_prefix = f"{prefix}token:".encode()
    tracker = None if watcher is None else _KeyTracker(token_prefix, watcher)
    connector = RedisConnector(
        parse_store_url(url), budget_seconds, f"{prefix}probe".encode(), tracker
    )
    return RedisStore(connector, prefix.encode(), budget_seconds, now)


class _KeyTracker:
    """Passes the keys that Redis reports on to a watcher as digests."""

    def __init__(self, prefix: bytes, watcher: Watcher) -> None:
        self.prefix = prefix
        self._watcher = watcher
        self.on_tracking = watcher.on_watching
        self.on_heard = watcher.on_heard
        self.on_lost = watcher.on_blind

    def on_changed_keys(self, keys: list[bytes] | None) -> None:
        skipped = len(self.prefix)
        digests = None if keys is None else [key[skipped:].decode("latin-1") for key in keys]
        self._watcher.on_changed(digests)


class RedisStore:
    """``TokenStore`` in a Redis, behind Sentinels or in a Cluster. Belongs to one event loop."""

    def __init__(
        self,
        connector: RedisConnector,
        prefix: bytes,
        budget_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._connector = connector
        self._prefix = prefix
        self._layout = Layout(prefix)
        self._budget_seconds = budget_seconds
        self._now = now
        self._lookups = connector.make_lookups()
        self._commands = CommandRunner(connector.channel, budget_seconds)
        self._quick_commands = CommandRunner(connector.quick_channel, budget_seconds)
        self._index = AccountIndex(self._commands, prefix, now)

    def __repr__(self) -> str:
        return f"<RedisStore {self._lookups!r}>"

    def fetch(self, digest: str, asker: str = "") -> Awaitable[bytes | None]:
        """Ask for the value of a digest, to be awaited at once; ``read`` makes a record of it.

        Raises as ``look_up`` does, which does both.
        """
        return self._lookups.get(self._layout.token_key(digest), asker)

    def read(self, digest: str, value: bytes, now: float) -> TokenRecord | None:
        """Return the record; ``None`` if it has expired, or (logged) cannot be read."""
        record = decode(digest, value)
        if record is None:
            _log.warning("the record of the token with digest %s... can't be read", digest[:12])
            return None
        return None if record.is_expired(now) else record

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        """See ``TokenStore``."""
        value = await self.fetch(digest, asker)
        return None if value is None else self.read(digest, value, self._now())

    async def create(self, record: TokenRecord) -> None:
        """See ``TokenStore``: reserve the name, write the record, check the reservation."""
        value = encode(record)
        async with budget(self._budget_seconds):
            replaced = await self._reserve(record)
            await self._write_new(record, value)
            (holder,) = await self._index.holders([record])
            if holder != record.id:
                await self._withdraw(record)
                raise _name_taken(record)
            revived = None if replaced is None else await self._read(replaced)
            if revived is not None:
                await self._withdraw(record)
                await self._index.reserve(revived)
                raise _name_taken(record)

    async def _reserve(self, record: TokenRecord) -> IndexEntry | None:
        """Reserve the name; if a dead token holds it, take it over and return that entry."""
        holder = await self._index.reserve(record)
        if holder is None:
            return None
        if await self._is_in_use(holder):
            raise _name_taken(record)
        if await self._index.reserve(record, instead_of=holder.id) is not None:
            raise _name_taken(record)
        return holder.entry

    async def _is_in_use(self, holder: NameHolder) -> bool:
        if holder.entry is None:
            return False
        is_being_made = holder.entry.may_be_in_flight(self._now())
        return is_being_made or await self._read(holder.entry) is not None

    async def _read(self, entry: IndexEntry) -> TokenRecord | None:
        (value,) = await self._commands.get([self._layout.token_key(entry.digest)])
        return None if value is None else self.read(entry.digest, value, self._now())

    async def _write_new(self, record: TokenRecord, value: bytes) -> None:
        (was_set,) = await self._commands.run(self._set(record, value, "NX"))
        if not was_set:
            await self._index.release(record)
            raise UsageError("this token is in the store already")

    async def _withdraw(self, record: TokenRecord) -> None:
        await self._commands.run(("DEL", self._layout.token_key(record.digest)))
        await self._index.release(record)

    async def list(self, account: str | None = None) -> list[TokenRecord]:
        """See ``TokenStore``."""
        accounts = await self._index.accounts() if account is None else [account]
        records = [record for name in accounts for record in await self._list_one(name)]
        return sorted(records, key=lambda record: (record.created_at, record.id))

    async def _list_one(self, account: str) -> Iterable[TokenRecord]:
        snapshot = await self._index.read(account)
        live = await self._read_live(account, snapshot)
        with suppress(StoreUnavailable):  # the next caller can repair the index
            await self._index.mend(account, snapshot, live.keys())
        return live.values()

    async def _read_live(self, account: str, snapshot: IndexSnapshot) -> dict[str, TokenRecord]:
        entries = snapshot.entries
        values = await self._commands.get(
            [self._layout.token_key(e.digest) for e in entries.values()]
        )
        live: dict[str, TokenRecord] = {}
        for (token_id, entry), value in zip(entries.items(), values, strict=True):
            record = None if value is None else self.read(entry.digest, value, self._now())
            if record is not None and (record.account, record.id) == (account, token_id):
                live[token_id] = record
        return live

    async def find(self, token_id: str, account: str | None = None) -> TokenRecord | None:
        """See ``TokenStore``."""
        if not is_id(token_id):
            return None
        for name in await self._index.accounts() if account is None else [account]:
            entry = await self._index.find(name, token_id)
            if entry is not None:
                snapshot = IndexSnapshot(entries={token_id: entry})
                live = await self._read_live(name, snapshot)
                with suppress(StoreUnavailable):
                    await self._index.mend(name, snapshot, live.keys())
                if live:
                    return live[token_id]
        return None

    async def count_at_most(self, account: str) -> int:
        """See ``TokenStore``: counts names too, and tokens that expired since the last listing."""
        return await self._index.count_at_most(account)

    async def revoke(self, record: TokenRecord) -> bool:
        """See ``TokenStore``. Once the record is gone, the rest may fail: it is repaired later."""
        async with budget(self._budget_seconds):
            (deleted,) = await self._commands.run(("DEL", self._layout.token_key(record.digest)))
            with suppress(StoreUnavailable):
                await self._index.release(record)
                await self._commands.run(("DEL", self._layout.used_key(record.digest)))
        return bool(deleted)

    async def supersede(
        self, old: TokenRecord, successor: TokenRecord, overlap_seconds: float
    ) -> None:
        """See ``TokenStore``. The successor takes the name once its record is written."""
        value = encode(successor)
        async with budget(self._budget_seconds):
            await self._index.add(successor)
            await self._write_new(successor, value)
            if await self._index.reserve(successor, instead_of=old.id) is not None:
                await self._withdraw(successor)
                raise _name_taken(successor)
            await self._retire(old, overlap_seconds)

    async def _retire(self, old: TokenRecord, overlap_seconds: float) -> None:
        retiring = old.ending_by(self._now() + overlap_seconds)
        if retiring.is_expired(self._now()):
            await self.revoke(old)
            return
        await self._commands.run(self._set(retiring, encode(retiring), "XX"))

    async def record_use(self, uses: Uses) -> None:
        """See ``TokenStore``. A use is kept while its token lives, or ``USE_KEPT_SECONDS``."""
        for batch in _in_batches(uses):
            if self._commands.is_one_server:
                await self._record_together(batch)
                continue
            each = [(digest, use) for use, digests in batch for digest in digests]
            keys = [self._layout.token_key(digest) for digest, _ in each]
            ttls = await self._commands.run(*(("PTTL", key) for key in keys))
            sets = [
                self._layout.set_use(digest, use, ttl)
                for (digest, use), ttl in zip(each, ttls, strict=True)
                if ttl != -2  # no such key
            ]
            if sets:
                await self._commands.run(*sets)

    async def _record_together(self, batch: Uses) -> None:
        """Record uses with one command, a tenth of the work, if all keys are on one server."""
        keys: list[bytes] = []
        values: list[str | int] = []
        for use, digests in batch:
            for digest in digests:
                keys.append(self._layout.token_key(digest))
                keys.append(self._layout.used_key(digest))
            values += (encode_use(use), 2 * len(digests))
        values.append(USE_KEPT_SECONDS * 1000)
        await self._quick_commands.run(("EVAL", _RECORD_USES, len(keys), *keys, *values))

    async def last_uses(self, records: Sequence[TokenRecord]) -> dict[str, LastUse]:
        """See ``TokenStore``."""
        values = await self._commands.get(
            [self._layout.used_key(record.digest) for record in records]
        )
        uses = {
            record.digest: decode_use(value)
            for record, value in zip(records, values, strict=True)
            if value is not None
        }
        return {digest: use for digest, use in uses.items() if use is not None}

    async def ping(self) -> None:
        """See ``TokenStore``: a look-up as requests make it, and a write to a short-lived key.

        Only a write reveals all that forbids writing: a replica, no memory left, a failed
        snapshot, too few replicas, the user's rights.
        """
        probe: Command = ("SET", self._prefix + b"probe", "1", "PX", _PROBE_MILLISECONDS)
        asked = (self._read_probe(), self._commands.run(probe))
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome  # after both have ended, so that neither outlives this call

    async def _read_probe(self) -> None:
        await self._lookups.get(self._prefix + b"probe")

    async def close(self) -> None:
        """See ``TokenStore``."""
        await self._lookups.close()
        with suppress(StoreUnavailable):
            async with budget(self._budget_seconds):
                await self._connector.close()

    def _set(self, record: TokenRecord, value: bytes, condition: str) -> Command:
        return self._layout.set_record(record, value, condition, self._now())


def _in_batches(uses: Uses) -> Iterator[Uses]:
    """Split uses into batches of ``MOST_IN_PIPELINE`` tokens."""
    batch: list[tuple[LastUse, Sequence[str]]] = []
    room = MOST_IN_PIPELINE
    for use, digests in uses:
        start = 0
        while start < len(digests):
            part = digests[start : start + room]
            batch.append((use, part))
            start += len(part)
            room -= len(part)
            if not room:
                yield batch
                batch, room = [], MOST_IN_PIPELINE
    if batch:
        yield batch


def _name_taken(record: TokenRecord) -> NameTaken:
    return NameTaken(f"account {record.account} already has a token named {record.name!r}")
