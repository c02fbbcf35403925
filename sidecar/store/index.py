"""The index of an account's tokens: one hash, one slot, and what keeps names unique.

``{prefix}account:<account>`` has two fields for each token::

    <id>     -> the 32 bytes of its digest, then when it was indexed (Unix seconds, 4 bytes)
    =<name>  -> <id>: the reservation of the name, by the first 12 bytes of its SHA-256

The index authorizes nothing: a token lives while its record does, and an entry whose record is
gone is *dead*. A dead entry is removed by whoever comes across it, but not in its first
``IN_FLIGHT_SECONDS``: it may be of a token that is being made, whose record is about to be
written. That is what the four bytes are for. Tiny scripts, each of one key, make the steps
that must not be torn apart; an id is never used twice, so a field that is found dead stays dead.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sidecar.core.model import TokenRecord
from sidecar.store.commands import MOST_IN_PIPELINE, Command, Commands

IN_FLIGHT_SECONDS = 2.0
"""How long a token may take from index to record; eight times the default budget of making one."""

_SCAN_COUNT = 500
_ENTRY = struct.Struct(">32sI")

_RESERVE = """
local holder = redis.call('HGET', KEYS[1], ARGV[1])
if holder and holder ~= ARGV[2] and holder ~= ARGV[4] then
  return {holder, redis.call('HGET', KEYS[1], holder)}
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[2], ARGV[3])
return false
"""
_RELEASE = """
redis.call('HDEL', KEYS[1], ARGV[2])
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
"""
_ADOPT = """
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry and string.sub(entry, 1, 32) ~= string.sub(ARGV[2], 1, 32) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] == '' then return ARGV[1] end
if redis.call('HSETNX', KEYS[1], ARGV[3], ARGV[1]) == 1 then return ARGV[1] end
return redis.call('HGET', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a token's record is, and when (Unix seconds) the token was indexed."""

    digest: str
    indexed_at: float

    def may_be_in_flight(self, now: float) -> bool:
        """Tell whether the record may yet have to be written."""
        return now - self.indexed_at < IN_FLIGHT_SECONDS


@dataclass(frozen=True, slots=True)
class Holder:
    """The token that has a name reserved; no entry means that it never got further, or is gone."""

    id: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Listing:
    """An account's index as read: entries by token id, token ids by name."""

    entries: dict[str, Entry] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    foreign: list[bytes] = field(default_factory=list)
    """Fields that are no entry: nothing of ours wrote them."""


class AccountIndex:
    """The hashes of all accounts under one prefix. Every call may raise ``StoreUnavailable``."""

    def __init__(self, commands: Commands, prefix: bytes, now: Callable[[], float]) -> None:
        self._commands = commands
        self._key_start = prefix + b"account:"
        self._now = now

    def key(self, account: str) -> bytes:
        """Return the key of an account's hash."""
        return self._key_start + account.encode()

    async def reserve(self, record: TokenRecord, instead_of: str = "") -> Holder | None:
        """Index a token under its name; return the holder instead if the name is another's.

        ``instead_of`` is the id of a holder that may be replaced.
        """
        (reply,) = await self._commands.run(self.reservation(record, instead_of))
        if not reply:
            return None
        return Holder(reply[0].decode("ascii", "replace"), _unpack(reply[1]))

    def reservation(self, record: TokenRecord, instead_of: str = "") -> Command:
        """Return the command that ``reserve`` sends."""
        values = (name_field(record.name), record.id, self._pack(record), instead_of)
        return ("EVAL", _RESERVE, 1, self.key(record.account), *values)

    async def add(self, record: TokenRecord) -> None:
        """Index a token by its id alone, its name being another's for now."""
        await self._commands.run(("HSET", self.key(record.account), record.id, self._pack(record)))

    async def adopt(self, records: Sequence[TokenRecord], named: Set[str]) -> list[str | None]:
        """Index tokens that were made before; those with an id in ``named`` under their names.

        Returns who holds each name: the token itself, or another that had it already. ``None``:
        the id is another token's, and nothing was changed.
        """
        replies = await self._commands.run(*(self._adoption(r, r.id in named) for r in records))
        return [reply.decode("ascii", "replace") if reply else None for reply in replies]

    def _adoption(self, record: TokenRecord, is_named: bool) -> Command:
        name = name_field(record.name) if is_named else b""
        values = (record.id, self._pack(record), name)
        return ("EVAL", _ADOPT, 1, self.key(record.account), *values)

    async def holder_of(self, account: str, name: str) -> str | None:
        """Return the id that has a name reserved."""
        (reply,) = await self._commands.run(("HGET", self.key(account), name_field(name)))
        return None if reply is None else reply.decode("ascii", "replace")

    async def release(self, record: TokenRecord) -> None:
        """Remove a token's entry, and the reservation of its name if it is this token's."""
        name = name_field(record.name)
        await self._commands.run(_release(self.key(record.account), name, record.id))

    async def find(self, account: str, token_id: str) -> Entry | None:
        """Return a token's entry."""
        (reply,) = await self._commands.run(("HGET", self.key(account), token_id))
        return _unpack(reply)

    async def accounts(self) -> list[str]:
        """Return every account that has an index, by scanning the keys."""
        keys = {key async for key in self._commands.scan(self._key_start)}
        return sorted(key[len(self._key_start) :].decode("utf-8", "replace") for key in keys)

    async def read(self, account: str) -> Listing:
        """Return an account's whole index; each step has a budget of its own."""
        listing = Listing()
        cursor = 0
        while True:
            command: Command = ("HSCAN", self.key(account), cursor, "COUNT", _SCAN_COUNT)
            ((cursor, flat),) = await self._commands.run(command)
            for name, value in zip(flat[::2], flat[1::2], strict=True):
                _sort_in(listing, name, value)
            if int(cursor) == 0:
                break
        await self._complete(account, listing)
        return listing

    async def _complete(self, account: str, listing: Listing) -> None:
        """Add entries that were written while the hash was scanned, whose names alone were seen."""
        unseen = sorted(set(listing.names.values()) - listing.entries.keys())
        for start in range(0, len(unseen), MOST_IN_PIPELINE):
            ids = unseen[start : start + MOST_IN_PIPELINE]
            (values,) = await self._commands.run(("HMGET", self.key(account), *ids))
            found = {token_id: _unpack(value) for token_id, value in zip(ids, values, strict=True)}
            listing.entries.update(
                {key: entry for key, entry in found.items() if entry is not None}
            )

    async def mend(self, account: str, listing: Listing, live: Collection[str]) -> None:
        """Remove what leads to no live token, except what may be in flight."""
        now, key = self._now(), self.key(account)
        kept = {token for token, entry in listing.entries.items() if entry.may_be_in_flight(now)}
        kept.update(live)
        dead = [
            _release(key, name, token) for name, token in listing.names.items() if token not in kept
        ]
        kept.update(listing.names.values())
        dead += [("HDEL", key, token) for token in listing.entries if token not in kept]
        dead += [("HDEL", key, name) for name in listing.foreign]
        for start in range(0, len(dead), MOST_IN_PIPELINE):
            await self._commands.run(*dead[start : start + MOST_IN_PIPELINE])

    def _pack(self, record: TokenRecord) -> bytes:
        return _ENTRY.pack(bytes.fromhex(record.digest), int(self._now()) & 0xFFFFFFFF)


def _release(key: bytes, field_name: bytes, token_id: str) -> Command:
    return ("EVAL", _RELEASE, 1, key, field_name, token_id)


def name_field(name: str) -> bytes:
    """Return where a name is reserved: a digest, as names of any length then cost the same."""
    return b"=" + sha256(name.encode()).digest()[:12]


def _unpack(value: Any) -> Entry | None:
    if not isinstance(value, bytes) or len(value) != _ENTRY.size:
        return None
    digest, indexed_at = _ENTRY.unpack(value)
    return Entry(digest.hex(), float(indexed_at))


def _sort_in(listing: Listing, name: bytes, value: bytes) -> None:
    entry = _unpack(value)
    if name.startswith(b"="):
        listing.names[name] = value.decode("ascii", "replace")
    elif entry is not None and name.isascii():
        listing.entries[name.decode()] = entry
    else:
        listing.foreign.append(name)
