"""The index of an account's tokens: one hash, in one slot, which also keeps names unique.

``{prefix}account:<account>`` has two fields for each token::

    <id>    -> the 32 bytes of its digest, then the time it was indexed (Unix seconds, 4 bytes)
    =<name> -> the id of the token that holds the name; <name> is 12 bytes of its SHA-256

The index authorizes nothing: a token lives while its record does, and an entry without a record is
*dead*. Whoever finds a dead entry removes it, except in its first ``IN_FLIGHT_SECONDS``: a token is
indexed before its record is written, so a young entry may belong to a token in the making. Small
scripts, each of one key, make the steps that must be atomic. An id is never used twice, so a dead
entry stays dead.

Why like this: of 100 000 tokens the index takes 181 bytes of Redis each if one account has them
all, and 203 in an account each. A second hash for the names takes 181 and 341, or 229 and 501 with
readable digests and names, and a Cluster could not change both at once. Names packed into shared
fields would save 55 and 15 bytes (10 in accounts of a thousand), at the price of a second format
and scripts that cut strings; shorter times or ids would save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sidecar.core.model import TokenRecord
from sidecar.store.commands import MOST_IN_PIPELINE, Command, CommandRunner

IN_FLIGHT_SECONDS = 2.0
"""How long a token may take from index to record: eight times the default budget of a creation."""

_SCAN_COUNT = 500
_DIGEST_BYTES = 32
_TIME_BYTES = 4
_ENTRY_BYTES = _DIGEST_BYTES + _TIME_BYTES
_NAME_BYTES = 12
_NAME_FIELD_BYTES = 1 + _NAME_BYTES

# Each script works on the hash in KEYS[1].
_RESERVE = """
local key, name, id, entry, replaceable = KEYS[1], unpack(ARGV)
local holder = redis.call('HGET', key, name)
if holder and holder ~= id and holder ~= replaceable then return holder end
redis.call('HSET', key, id, entry, name, id)
return false
"""
_RELEASE = """
local key, name, id = KEYS[1], unpack(ARGV)
redis.call('HDEL', key, id)
if redis.call('HGET', key, name) == id then redis.call('HDEL', key, name) end
return 1
"""
_ADOPT = """
local key, name, id, entry = KEYS[1], unpack(ARGV)
local indexed = redis.call('HGET', key, id)
if indexed and string.sub(indexed, 1, 32) ~= string.sub(entry, 1, 32) then return false end
redis.call('HSET', key, id, entry)
if name == '' then return id end
local holder = redis.call('HGET', key, name)
if holder then return holder end
redis.call('HSET', key, name, id)
return id
"""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """Which record a token has, and when (Unix seconds) the token was indexed."""

    digest: str
    indexed_at: float

    def may_be_in_flight(self, now: float) -> bool:
        """Return whether the record may still be about to be written."""
        return now - self.indexed_at < IN_FLIGHT_SECONDS


@dataclass(frozen=True, slots=True)
class NameHolder:
    """The token that holds a name. Without an entry, its creation failed or it is gone."""

    id: str
    entry: IndexEntry | None


@dataclass(frozen=True, slots=True)
class IndexSnapshot:
    """An account's index as read: entries by token id, token ids by name field."""

    entries: dict[str, IndexEntry] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    foreign: list[bytes] = field(default_factory=list)
    """Fields that the sidecar did not write."""


class AccountIndex:
    """The hashes of all accounts under one prefix. Every call may raise ``StoreUnavailable``."""

    def __init__(self, commands: CommandRunner, prefix: bytes, now: Callable[[], float]) -> None:
        self._commands = commands
        self._key_start = prefix + b"account:"
        self._now = now

    def key(self, account: str) -> bytes:
        """Return the key of an account's hash."""
        return self._key_start + account.encode()

    async def reserve(self, record: TokenRecord, instead_of: str = "") -> NameHolder | None:
        """Index a token under its name; if another token holds the name, only return that holder.

        ``instead_of`` is the id of a holder that may be replaced.
        """
        key = self.key(record.account)
        (reply,) = await self._commands.run(reservation(key, record, self._now(), instead_of))
        if not reply:
            return None
        holder = _read_id(reply)
        return NameHolder(holder, await self.find(record.account, holder))

    async def add(self, record: TokenRecord) -> None:
        """Index a token without its name, which another token holds for now."""
        entry = _pack_entry(record, self._now())
        await self._commands.run(("HSET", self.key(record.account), record.id, entry))

    async def adopt(self, records: Sequence[TokenRecord], named: Set[str]) -> list[str | None]:
        """Index restored tokens; those whose id is in ``named`` take their names if free.

        Returns the holder of each name: the token itself, or another token that had it before.
        ``None`` means that the id belongs to another token; nothing was changed.
        """
        replies = await self._commands.run(*(self._adoption(r, r.id in named) for r in records))
        return [_read_id(reply) if reply else None for reply in replies]

    def _adoption(self, record: TokenRecord, is_named: bool) -> Command:
        name = name_field(record.name) if is_named else b""
        entry = _pack_entry(record, self._now())
        return ("EVAL", _ADOPT, 1, self.key(record.account), name, record.id, entry)

    async def holders(self, records: Sequence[TokenRecord]) -> list[str | None]:
        """Return the id of the token that holds each record's name in its account."""
        replies = await self._commands.run(
            *(("HGET", self.key(record.account), name_field(record.name)) for record in records)
        )
        return [None if reply is None else _read_id(reply) for reply in replies]

    async def release(self, record: TokenRecord) -> None:
        """Remove a token's entry, and its name if this token holds it."""
        await self._commands.run(
            _release(self.key(record.account), name_field(record.name), record.id)
        )

    async def find(self, account: str, token_id: str) -> IndexEntry | None:
        """Return a token's entry."""
        (reply,) = await self._commands.run(("HGET", self.key(account), token_id))
        return _unpack_entry(reply)

    async def count_at_most(self, account: str) -> int:
        """Return how many fields an account's hash has: one for each token and for each name."""
        (fields,) = await self._commands.run(("HLEN", self.key(account)))
        return int(fields)

    async def accounts(self) -> list[str]:
        """Return every account that has an index, by scanning the keys."""
        keys = {key async for key in self._commands.scan(self._key_start)}
        return sorted(key[len(self._key_start) :].decode("utf-8", "replace") for key in keys)

    async def read(self, account: str) -> IndexSnapshot:
        """Return an account's whole index; each step has a budget of its own."""
        snapshot = IndexSnapshot()
        cursor = 0
        while True:
            command: Command = ("HSCAN", self.key(account), cursor, "COUNT", _SCAN_COUNT)
            ((cursor, flat),) = await self._commands.run(command)
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                _sort_in(snapshot, name, value)
            if int(cursor) == 0:
                break
        await self._complete(account, snapshot)
        return snapshot

    async def _complete(self, account: str, snapshot: IndexSnapshot) -> None:
        """Add entries written during the scan, of which only the names were seen."""
        unseen = sorted(set(snapshot.names.values()) - snapshot.entries.keys())
        for start in range(0, len(unseen), MOST_IN_PIPELINE):
            ids = unseen[start : start + MOST_IN_PIPELINE]
            (values,) = await self._commands.run(("HMGET", self.key(account), *ids))
            for token_id, value in zip(ids, values, strict=True):
                entry = _unpack_entry(value)
                if entry is not None:
                    snapshot.entries[token_id] = entry

    async def mend(self, account: str, snapshot: IndexSnapshot, live: Collection[str]) -> None:
        """Remove what leads to no live token, except what may be in flight."""
        now, key = self._now(), self.key(account)
        spared = {token for token, entry in snapshot.entries.items() if entry.may_be_in_flight(now)}
        spared.update(live)
        dead = [
            _release(key, name, token)
            for name, token in snapshot.names.items()
            if token not in spared
        ]
        spared.update(snapshot.names.values())
        dead += [("HDEL", key, token) for token in snapshot.entries if token not in spared]
        dead += [("HDEL", key, name) for name in snapshot.foreign]
        for start in range(0, len(dead), MOST_IN_PIPELINE):
            await self._commands.run(*dead[start : start + MOST_IN_PIPELINE])


def reservation(key: bytes, record: TokenRecord, now: float, instead_of: str = "") -> Command:
    """Return the command that indexes a token under its name in the hash at ``key``.

    The reply is ``None``. If a token other than ``instead_of`` holds the name, it is that token's
    id, and nothing is changed.
    """
    entry = _pack_entry(record, now)
    return ("EVAL", _RESERVE, 1, key, name_field(record.name), record.id, entry, instead_of)


def _release(key: bytes, name: bytes, token_id: str) -> Command:
    return ("EVAL", _RELEASE, 1, key, name, token_id)


def name_field(name: str) -> bytes:
    """Return the field that reserves a name. It holds a digest, so all names cost the same."""
    return b"=" + sha256(name.encode()).digest()[:_NAME_BYTES]


def _pack_entry(record: TokenRecord, now: float) -> bytes:
    return bytes.fromhex(record.digest) + int(now).to_bytes(_TIME_BYTES, "big")


def _unpack_entry(value: Any) -> IndexEntry | None:
    if not isinstance(value, bytes) or len(value) != _ENTRY_BYTES:
        return None
    indexed_at = int.from_bytes(value[_DIGEST_BYTES:], "big")
    return IndexEntry(value[:_DIGEST_BYTES].hex(), float(indexed_at))


def _read_id(value: bytes) -> str:
    return value.decode("ascii", "replace")


def _sort_in(snapshot: IndexSnapshot, name: bytes, value: bytes) -> None:
    entry = _unpack_entry(value)
    if name.startswith(b"=") and len(name) == _NAME_FIELD_BYTES:
        snapshot.names[name] = _read_id(value)
    elif entry is not None and name.isascii():
        snapshot.entries[name.decode()] = entry
    else:
        snapshot.foreign.append(name)
