"""The index of an account's tokens: one hash, one slot, and what keeps names unique.

``{prefix}account:<account>`` has a field for each token, and fields in which names are reserved::

    <id>     -> the 32 bytes of its digest, then when it was indexed (the low 24 bits of the time
                in Unix seconds)
    <bucket> -> for each name whose SHA-256 starts with these 13 bits: bytes 2 to 6 of that, then
                the id of its holder (``packed_ids``)
    =<name>  -> the id of a holder that can't be packed, by the first 12 bytes of the SHA-256

Names share buckets to spare memory: a field for each takes 80 bytes of Redis in a large account,
its share of a bucket 15, and in a small one a bucket's two bytes are less than a name's. Earlier
versions gave every name a field and every time four bytes, which are still read and removed.

The index authorizes nothing: a token lives while its record does, and an entry whose record is
gone is *dead*. A dead entry is removed by whoever comes across it, but not in its first
``IN_FLIGHT_SECONDS``: it may be of a token that is being made, whose record is about to be
written. That is what the time is for. Tiny scripts, each of one key, make the steps that must not
be torn apart; an id is never used twice, so what is found dead stays dead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from sidecar.core.model import TokenRecord
from sidecar.store.commands import MOST_IN_PIPELINE, Command, Commands
from sidecar.store.packed_ids import PACKED_BYTES, pack, unpack

IN_FLIGHT_SECONDS = 2.0
"""How long a token may take from index to record; eight times the default budget of making one."""

_SCAN_COUNT = 500
_DIGEST_BYTES = 32
_TIME_BYTES, _EARLIER_TIME_BYTES = 3, 4
_TIME_SPAN = 1 << 8 * _TIME_BYTES
_MOST_AHEAD_SECONDS = 60  # of a clock that indexed a token, of the one that reads when
_OWN_BYTES = 12
_BUCKET_BYTES, _BUCKET_MASK = 2, 0xF8
_MARK_BYTES = 5
_ITEM_BYTES = _MARK_BYTES + PACKED_BYTES

# Each script is of the hash in KEYS[1], and has of a name and a token, in ARGV: the bucket, the
# mark in it, the field of its own, then the token's id and its packed form. A holder is told as "="
# and its id, or ":" and its packed id.
_NAMES = f"""
local key, field, mark, own, id, packed = KEYS[1], unpack(ARGV)
local bucket = redis.call('HGET', key, field) or ''
local at = mark ~= '' and string.find(bucket, mark, 1, true)
while at and at % {_ITEM_BYTES} ~= 1 do at = string.find(bucket, mark, at + 1, true) end
local function held()
  local holder = redis.call('HGET', key, own)
  if holder then return '=' .. holder end
  return at and ':' .. string.sub(bucket, at + {_MARK_BYTES}, at + {_ITEM_BYTES} - 1)
end
local function is_held_by(id, packed)
  local holder = held()
  return holder and (holder == '=' .. id or holder == ':' .. packed)
end
local function others()
  if not at then return bucket end
  return string.sub(bucket, 1, at - 1) .. string.sub(bucket, at + {_ITEM_BYTES})
end
local function free()
  redis.call('HDEL', key, own)
  if not at then return end
  if others() == '' then redis.call('HDEL', key, field)
  else redis.call('HSET', key, field, others()) end
end
local function hold(entry)
  if packed == '' then
    free()
    redis.call('HSET', key, id, entry, own, id)
  else
    redis.call('HDEL', key, own)
    redis.call('HSET', key, id, entry, field, others() .. mark .. packed)
  end
end
"""
_RESERVE = (
    _NAMES
    + """
local entry, other, other_packed = ARGV[6], ARGV[7], ARGV[8]
if held() and not is_held_by(id, packed) and not is_held_by(other, other_packed) then
  return held()
end
hold(entry)
return false
"""
)
_RELEASE = (
    _NAMES
    + """
redis.call('HDEL', key, id)
if is_held_by(id, packed) then free() end
return 1
"""
)
_ADOPT = (
    _NAMES
    + """
local entry, indexed = ARGV[6], redis.call('HGET', key, id)
if indexed and string.sub(indexed, 1, 32) ~= string.sub(entry, 1, 32) then return 0 end
if mark == '' or held() then
  redis.call('HSET', key, id, entry)
  return held() or '=' .. id
end
hold(entry)
return '=' .. id
"""
)


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


class NamePlace(NamedTuple):
    """Where a name is reserved: in a bucket, or in a field of its own."""

    bucket: bytes = b""
    mark: bytes = b""
    own: bytes = b""


@dataclass(frozen=True, slots=True)
class Listing:
    """An account's index as read: entries by token id, token ids by name."""

    entries: dict[str, Entry] = field(default_factory=dict)
    names: dict[NamePlace, str] = field(default_factory=dict)
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
        key = self.key(record.account)
        (reply,) = await self._commands.run(reservation(key, record, self._now(), instead_of))
        if not reply:
            return None
        holder = _read_holder(reply)
        return Holder(holder, await self.find(record.account, holder))

    async def add(self, record: TokenRecord) -> None:
        """Index a token by its id alone, its name being another's for now."""
        entry = _pack_entry(record, self._now())
        await self._commands.run(("HSET", self.key(record.account), record.id, entry))

    async def adopt(self, records: Sequence[TokenRecord], named: Set[str]) -> list[str | None]:
        """Index tokens that were made before; those with an id in ``named`` under their names.

        Returns who holds each name: the token itself, or another that had it already. ``None``:
        the id is another token's, and nothing was changed.
        """
        replies = await self._commands.run(*(self._adoption(r, r.id in named) for r in records))
        return [_read_holder(reply) if reply else None for reply in replies]

    def _adoption(self, record: TokenRecord, is_named: bool) -> Command:
        place = name_place(record.name) if is_named else NamePlace()
        entry = _pack_entry(record, self._now())
        return (*_script(_ADOPT, self.key(record.account), place, record.id), entry)

    async def holders(self, records: Sequence[TokenRecord]) -> list[str | None]:
        """Return the id that has each record's name reserved in its account."""
        places = [name_place(record.name) for record in records]
        replies = await self._commands.run(
            *(
                ("HMGET", self.key(record.account), place.own, place.bucket)
                for record, place in zip(records, places, strict=True)
            )
        )
        return [
            _find_holder(own, bucket, place.mark)
            for (own, bucket), place in zip(replies, places, strict=True)
        ]

    async def release(self, record: TokenRecord) -> None:
        """Remove a token's entry, and the reservation of its name if it is this token's."""
        await self._commands.run(
            _script(_RELEASE, self.key(record.account), name_place(record.name), record.id)
        )

    async def find(self, account: str, token_id: str) -> Entry | None:
        """Return a token's entry."""
        (reply,) = await self._commands.run(("HGET", self.key(account), token_id))
        return _unpack_entry(reply, self._now())

    async def count_at_most(self, account: str) -> int:
        """Return how many fields an account's hash has: one for each token, and those of names."""
        (fields,) = await self._commands.run(("HLEN", self.key(account)))
        return int(fields)

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
                _sort_in(listing, name, value, self._now())
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
            for token_id, value in zip(ids, values, strict=True):
                entry = _unpack_entry(value, self._now())
                if entry is not None:
                    listing.entries[token_id] = entry

    async def mend(self, account: str, listing: Listing, live: Collection[str]) -> None:
        """Remove what leads to no live token, except what may be in flight."""
        now, key = self._now(), self.key(account)
        kept = {token for token, entry in listing.entries.items() if entry.may_be_in_flight(now)}
        kept.update(live)
        dead = [
            _script(_RELEASE, key, place, token)
            for place, token in listing.names.items()
            if token not in kept
        ]
        kept.update(listing.names.values())
        dead += [("HDEL", key, token) for token in listing.entries if token not in kept]
        dead += [("HDEL", key, name) for name in listing.foreign]
        for start in range(0, len(dead), MOST_IN_PIPELINE):
            await self._commands.run(*dead[start : start + MOST_IN_PIPELINE])


def reservation(key: bytes, record: TokenRecord, now: float, instead_of: str = "") -> Command:
    """Return what indexes a token in the hash at ``key`` under its name, and replies ``None``.

    If the name is another's than ``instead_of``, nothing is changed and the reply is not ``None``.
    """
    command = _script(_RESERVE, key, name_place(record.name), record.id)
    return (*command, _pack_entry(record, now), instead_of, pack(instead_of))


def _script(script: str, key: bytes, place: NamePlace, token_id: str) -> Command:
    return ("EVAL", script, 1, key, *place, token_id, pack(token_id))


def name_place(name: str) -> NamePlace:
    """Return where a name is reserved: by a digest, as names of any length then cost the same."""
    digest = sha256(name.encode()).digest()
    bucket = bytes((digest[0], digest[1] & _BUCKET_MASK))
    return NamePlace(bucket, digest[2 : 2 + _MARK_BYTES], b"=" + digest[:_OWN_BYTES])


def _pack_entry(record: TokenRecord, now: float) -> bytes:
    return bytes.fromhex(record.digest) + (int(now) % _TIME_SPAN).to_bytes(_TIME_BYTES, "big")


def _unpack_entry(value: Any, now: float) -> Entry | None:
    if not isinstance(value, bytes):
        return None
    digest, time = value[:_DIGEST_BYTES].hex(), value[_DIGEST_BYTES:]
    indexed_at = int.from_bytes(time, "big")
    if len(time) == _EARLIER_TIME_BYTES:
        return Entry(digest, float(indexed_at))
    if len(time) != _TIME_BYTES:
        return None
    latest = int(now) + _MOST_AHEAD_SECONDS
    return Entry(digest, float(latest - (latest - indexed_at) % _TIME_SPAN))


def _read_bucket(value: bytes) -> dict[bytes, str]:
    """Return the holders' ids by the marks in a bucket; ``ValueError`` if it is none."""
    starts = range(0, len(value), _ITEM_BYTES)
    items = [value[start : start + _ITEM_BYTES] for start in starts]
    return {item[:_MARK_BYTES]: unpack(item[_MARK_BYTES:]) for item in items}


def _find_holder(own: bytes | None, bucket: bytes | None, mark: bytes) -> str | None:
    if own is not None:
        return own.decode("ascii", "replace")
    with suppress(ValueError):
        return _read_bucket(bucket or b"").get(mark)
    return None


def _read_holder(reply: bytes) -> str:
    """Return the id that a script tells; one that can't be read is nobody's."""
    if reply.startswith(b"="):
        return reply[1:].decode("ascii", "replace")
    with suppress(ValueError):
        return unpack(reply[1:])
    return ""


def _sort_in(listing: Listing, name: bytes, value: bytes, now: float) -> None:
    entry = _unpack_entry(value, now)
    holders: dict[bytes, str] = {}
    if len(name) == _BUCKET_BYTES:
        with suppress(ValueError):
            holders = _read_bucket(value)
    if holders:
        listing.names.update({NamePlace(name, mark): holders[mark] for mark in holders})
    elif name.startswith(b"=") and len(name) > _BUCKET_BYTES:
        listing.names[NamePlace(own=name)] = value.decode("ascii", "replace")
    elif entry is not None and name.isascii():
        listing.entries[name.decode()] = entry
    else:
        listing.foreign.append(name)
