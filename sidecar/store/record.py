"""How a token's record is written in Redis, and that nothing else is ever believed to be one.

A record is a line, so that a million of them stay small (64 bytes of Redis with a name of 20)::

    a <created, 4 bytes> <days or 0, 2 bytes> <id, 9 bytes> <account> TAB <name> [TAB <path>]... LF

without the spaces: the first letter of the kind, the creation in Unix seconds and the lifetime in
days (both big-endian), the id as ``packed_ids`` has it. A token that ends before the days it was
given, as one that has been rotated, is told by a capital letter, and has its end behind the id::

    A <created, 4 bytes> <days or 0, 2 bytes> <id, 9 bytes> <end, 4 bytes> <account> TAB ... LF

A lifetime of another length, or an id that can't be packed takes version 2::

    2a <created, 4 bytes> <expires or 0, 4 bytes> <id> TAB <account> TAB <name> [TAB <path>]... LF

A time that is no whole second, or later than 2106, takes the long form, which is version 1; so does
an early end that nothing else holds, which is its last member: when it was to end, or null::

    [1, "<id>", "<account>", "<name>", "a", <created>, <expires or null>, ["<path>", ...]]

The digest is the key's and is not repeated. Whoever can write to Redis can write a record; what a
reader guards against is damage and other programs' keys, so it takes no field on trust: a record
with one odd field is no record, and no part of it becomes an identity.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sidecar.core.errors import UsageError
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.store.packed_ids import PACKED_BYTES, pack, read_number, unpack_at

MAX_RECORD_BYTES: Final = 4096
MAX_NAME_CHARS: Final = 100

_VERSION: Final = 1
_FIELDS: Final = 8
_END: Final = struct.Struct(">I")
_LINE_START: Final = struct.Struct(">2sII")
_SHORT_START: Final = struct.Struct(f">cIH{PACKED_BYTES}s")
_SHORT_BYTES: Final = _SHORT_START.size
_LF: Final = 0x0A
_DAY_SECONDS: Final = 86400
_MOST_DAYS: Final = 0xFFFF
_MAX_LINE_TIME: Final = 0xFFFFFFFF
_KIND_OF_LETTER: Final = {"a": TokenKind.ACCESS, "i": TokenKind.IMPORTED, "j": TokenKind.JWT}
_LETTER_OF_KIND: Final = {kind: letter for letter, kind in _KIND_OF_LETTER.items()}
_KIND_OF_START: Final = {b"2" + letter.encode(): kind for letter, kind in _KIND_OF_LETTER.items()}
_KIND_OF_BYTE: Final = {letter.encode(): kind for letter, kind in _KIND_OF_LETTER.items()}
_ID: Final = r"[A-Za-z0-9_-]{8,64}"
_ACCOUNT: Final = r"[A-Za-z0-9._@-]{1,64}"  # as the configuration has it
is_id: Final = re.compile(_ID).fullmatch
_is_account: Final = re.compile(_ACCOUNT).fullmatch
_TEXTS: Final = rf"({_ACCOUNT})\t([^\t]{{1,{MAX_NAME_CHARS}}})((?:\t[^\t]+)*)\n"
_parse_id_and_texts: Final = re.compile(rf"({_ID})\t{_TEXTS}").fullmatch
_MOST_KNOWN_ACCOUNTS: Final = 4096
_known_accounts: Final[dict[str, str]] = {}
_MAX_TIME: Final = 1e11  # the year 5138; beyond it, calendar arithmetic on a time could overflow


def encode(record: TokenRecord) -> bytes:
    """Return the record as it is stored; ``UsageError`` if it can't be read back."""
    try:
        value = _encode(record)
    except UnicodeEncodeError:
        raise UsageError("a token's name or path holds half a character") from None
    if len(value) >= MAX_RECORD_BYTES:
        raise UsageError("a token's name and paths together must stay under 4 KiB")
    if decode(record.digest, value) != record:
        raise UsageError("a token's id, account, name, times or paths are not of the allowed form")
    return value


def decode(digest: str, value: bytes) -> TokenRecord | None:
    """Return the record, or ``None`` for anything that ``encode`` would not have written."""
    if len(value) >= MAX_RECORD_BYTES:
        return None
    try:
        kind = _KIND_OF_BYTE.get(value[:1])
        if kind is not None:
            return _decode_short_line(digest, value, kind)
        decode_version = _DECODER_OF_BYTE.get(value[:1])
        return None if decode_version is None else decode_version(digest, value)
    except (ValueError, RecursionError, struct.error):
        return None


def _encode(record: TokenRecord) -> bytes:
    if record.granted_until is None:
        return _encode_line(record) if _fits_line(record) else _encode_array(record)
    granted = None if record.granted_until == math.inf else record.granted_until
    as_granted = record.replace(expires_at=granted, granted_until=None)
    end = record.expires_at
    if end is not None and _fits_line(record) and _fits_line(as_granted):
        line = _encode_line(as_granted)
        if line[:1] in _KIND_OF_BYTE:
            start = line[:1].upper() + line[1:_SHORT_BYTES]
            return start + _END.pack(int(end)) + line[_SHORT_BYTES:]
    return _encode_array(record)


def _fits_line(record: TokenRecord) -> bool:
    expires_at = 1 if record.expires_at is None else record.expires_at
    return all(
        least <= time <= _MAX_LINE_TIME and time == int(time)
        for time, least in ((record.created_at, 0), (expires_at, 1))
    )


def _encode_line(record: TokenRecord) -> bytes:
    letter = _LETTER_OF_KIND[record.kind].encode()
    created_at, expires_at = int(record.created_at), int(record.expires_at or 0)
    texts = "\t".join((record.account, record.name, *record.paths)).encode()
    days, packed = _whole_days(created_at, expires_at), pack(record.id)
    if days is not None and packed:
        return b"%b%b\n" % (_SHORT_START.pack(letter, created_at, days, packed), texts)
    start = _LINE_START.pack(b"2" + letter, created_at, expires_at)
    return b"%b%b\t%b\n" % (start, record.id.encode(), texts)


def _whole_days(created_at: int, expires_at: int) -> int | None:
    """Return a lifetime in days, 0 for one without end; ``None`` if it is not whole days."""
    if not expires_at:
        return 0
    days, rest = divmod(expires_at - created_at, _DAY_SECONDS)
    return days if not rest and 1 <= days <= _MOST_DAYS else None


def _decode_short_line(digest: str, value: bytes, kind: TokenKind) -> TokenRecord | None:
    """Read version 3, as every look-up does: a third of what a regular expression takes."""
    if len(value) <= _SHORT_BYTES or value[-1] != _LF:
        return None
    created_at, days = read_number(value, 1, 5), read_number(value, 5, 7)
    text, _, name = value[_SHORT_BYTES:-1].decode().partition("\t")
    account = _known_accounts.get(text) or _know_account(text)
    paths: tuple[str, ...] = ()
    if "\t" in name:
        name, *others = name.split("\t")
        paths = tuple(others)
    if account is None or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        return None
    if paths and not _are_texts(paths):
        return None
    expiry = float(created_at + days * _DAY_SECONDS) if days else None
    token_id = unpack_at(value, _SHORT_BYTES - PACKED_BYTES)
    return TokenRecord(token_id, account, name, kind, digest, float(created_at), expiry, paths)


def _decode_early_line(digest: str, value: bytes) -> TokenRecord | None:
    """Read a short line with an end of its own before that of its days."""
    first = value[:1].lower()
    (end,) = _END.unpack_from(value, _SHORT_BYTES)
    as_granted = first + value[1:_SHORT_BYTES] + value[_SHORT_BYTES + _END.size :]
    record = _decode_short_line(digest, as_granted, _KIND_OF_BYTE[first])
    is_early = record is not None and 0 < end <= (record.expires_at or math.inf)
    return record.ending_by(float(end)) if record is not None and is_early else None


def _know_account(account: str) -> str | None:
    """Keep an account's name, one for all of its records; ``None`` if it is no such name."""
    if not _is_account(account):
        return None
    if len(_known_accounts) >= _MOST_KNOWN_ACCOUNTS:
        _known_accounts.clear()
    _known_accounts[account] = account
    return account


def _decode_line(digest: str, value: bytes) -> TokenRecord | None:
    """Read version 2."""
    kind = _KIND_OF_START.get(value[:2])
    _, created_at, expires_at = _LINE_START.unpack_from(value)
    texts = _parse_id_and_texts(value[_LINE_START.size :].decode())
    if kind is None or texts is None:
        return None
    token_id, account, name, tail = texts.groups()
    paths = _split(tail) if tail else ()
    if paths is None or not name.isprintable():
        return None
    expiry = float(expires_at) if expires_at else None
    return TokenRecord(token_id, account, name, kind, digest, float(created_at), expiry, paths)


def _split(tail: str) -> tuple[str, ...] | None:
    """Return the paths at a line's end, each after a tab; ``None`` if one can't be."""
    paths = tuple(tail.split("\t")[1:])
    return paths if _are_texts(paths) else None


def _are_texts(paths: tuple[str, ...]) -> bool:
    return all(path != "" and path.isprintable() for path in paths)


def _encode_array(record: TokenRecord) -> bytes:
    fields = [
        _VERSION,
        record.id,
        record.account,
        record.name,
        _LETTER_OF_KIND[record.kind],
        _number(record.created_at),
        None if record.expires_at is None else _number(record.expires_at),
        list(record.paths),
    ]
    if record.granted_until is not None:
        is_limited = record.granted_until != math.inf
        fields.append(_number(record.granted_until) if is_limited else None)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _decode_array(digest: str, value: bytes) -> TokenRecord | None:
    fields = _parse(value.decode())
    if type(fields) is not list or len(fields) not in (_FIELDS, _FIELDS + 1):
        return None
    version, token_id, account, name, letter, created_at, expires_at, paths = fields[:_FIELDS]
    granted = _read_granted(fields[_FIELDS:])
    if type(version) is not int or version != _VERSION or not _are_names(token_id, account, name):
        return None
    if not _is_time(created_at) or not (expires_at is None or _is_time(expires_at)):
        return None
    if len(fields) > _FIELDS and (granted is None or (expires_at or math.inf) > granted):
        return None
    if not _are_paths(paths) or type(letter) is not str or letter not in _KIND_OF_LETTER:
        return None
    expiry = None if expires_at is None else float(expires_at)
    kind = _KIND_OF_LETTER[letter]
    return TokenRecord(
        token_id,
        account,
        name,
        kind,
        digest,
        float(created_at),
        expiry,
        tuple(paths),
        granted_until=granted,
    )


def _read_granted(members: list[Any]) -> float | None:
    """Return when the token was to end; ``None``: there is no such member, or it is no time."""
    if not members:
        return None
    until = members[0]
    if until is None:
        return math.inf
    return float(until) if _is_time(until) else None


_DECODER_OF_BYTE: Final[dict[bytes, Callable[[str, bytes], TokenRecord | None]]] = {
    b"2": _decode_line,
    b"[": _decode_array,
    **{letter.upper(): _decode_early_line for letter in _KIND_OF_BYTE},
}


def _number(time: float) -> float | int:
    """Spare the bytes of ``.0``: a time made by us is a whole second."""
    return int(time) if math.isfinite(time) and time == int(time) else time


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _parse_int(digits: str) -> int:
    if len(digits) > 15:
        raise ValueError("too many digits")
    return int(digits)


_parse: Final = json.JSONDecoder(parse_constant=_refuse, parse_int=_parse_int).decode


def _are_names(token_id: object, account: object, name: object) -> bool:
    return (
        type(token_id) is str
        and type(account) is str
        and type(name) is str
        and is_id(token_id) is not None
        and _is_account(account) is not None
        and 0 < len(name) <= MAX_NAME_CHARS
        and name.isprintable()
    )


def _is_time(value: object) -> bool:
    return (type(value) is int or type(value) is float) and 0 <= value <= _MAX_TIME


def _are_paths(paths: object) -> bool:
    return type(paths) is list and all(
        type(path) is str and path != "" and path.isprintable() for path in paths
    )
