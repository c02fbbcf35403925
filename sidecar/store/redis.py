"""Tokens in Redis: the order of writes that makes a crash harmless.

The record alone authorizes (``layout``, ``record``); the index of an account (``index``) is what
lists its tokens. Making a token writes the index first and the record second, ending one deletes
the record first and the index second. So at any moment every record can be listed and revoked, and
what a crash leaves behind leads to no record and is mended. No step touches two keys, so a Cluster
needs nothing else.

A name is unique by its reservation in the index. Whoever makes a token looks at its reservation
once more after writing the record, and whoever has taken over a dead holder's looks once more
whether the holder has come alive: so of two that make a token of one name, at most one succeeds,
however slow they are.
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

# KEYS: a token's and its last use's, in turn. ARGV: each use and how many of the keys are of its
# tokens, in turn; then the longest time to keep one.
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

    Raises ``UsageError`` for a URL that can't be read. ``budget_seconds`` bounds each call,
    connecting included; ``list`` and a ``find`` without an account, which may be long, have it for
    each step. A ``watcher`` is told of every change while Redis can be heard.
    """
    token_prefix = f"{prefix}token:".encode()
    tracker = None if watcher is None else _KeyTracker(token_prefix, watcher)
    connector = RedisConnector(
        parse_store_url(url), budget_seconds, f"{prefix}probe".encode(), tracker
    )
    return RedisStore(connector, prefix.encode(), budget_seconds, now)


class _KeyTracker:
    """Tells a watcher of digests where Redis tells of keys."""

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
        """Ask for what is at a digest, to be awaited at once, for ``read`` to make a record of.

        Raises as ``look_up`` does, which is both.
        """
        return self._lookups.get(self._layout.token_key(digest), asker)

    def read(self, digest: str, value: bytes, now: float) -> TokenRecord | None:
        """Return the record; ``None`` if it is over at ``now``, or, logged, if it can't be read."""
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
        """See ``TokenStore``: reserve the name, write the record, look at the reservation again."""
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
        """Reserve the name, from a dead holder if need be, whose entry is then returned."""
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
        with suppress(StoreUnavailable):  # mending is for whoever comes next
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
        """See ``TokenStore``: names are counted too, and what has died since it was last listed."""
        return await self._index.count_at_most(account)

    async def revoke(self, record: TokenRecord) -> bool:
        """See ``TokenStore``. Once the record is gone the rest may fail: it is mended later."""
        async with budget(self._budget_seconds):
            (deleted,) = await self._commands.run(("DEL", self._layout.token_key(record.digest)))
            with suppress(StoreUnavailable):
                await self._index.release(record)
                await self._commands.run(("DEL", self._layout.used_key(record.digest)))
        return bool(deleted)

    async def supersede(
        self, old: TokenRecord, successor: TokenRecord, overlap_seconds: float
    ) -> None:
        """See ``TokenStore``. The name goes over to the successor once its record is written."""
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
        """Note uses in one command: a tenth of the work, where all keys are in one place."""
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

        A write is the one thing that tells of everything which forbids writing: a replica, no
        memory, a failed snapshot, too few replicas, the user's rights.
        """
        probe: Command = ("SET", self._prefix + b"probe", "1", "PX", _PROBE_MILLISECONDS)
        asked = (self._read_probe(), self._commands.run(probe))
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome  # once both have ended: none goes on behind the caller's back

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
    """Divide uses by tokens, ``MOST_IN_PIPELINE`` to a batch."""
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
