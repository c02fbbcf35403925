"""How a token's record is written in Redis; anything that ``encode`` would not write is no record.

Nearly every record is a line. Without the spaces (TAB and LF are one byte each)::

    a <created, 4 bytes> <days, 2 bytes> <id> TAB <account> TAB <name> [TAB <path>]... LF

It holds the first letter of the kind, the creation in Unix seconds, and the lifetime in days, 0 for
an unlimited token (both numbers are big-endian). A record that does not fit, because a time is not
a whole second or the lifetime is not whole days, is a JSON array; so is that of a token whose end
was brought forward, as by a rotation, with the end that it was granted (null: never) as a last
member::

    [1, "<id>", "<account>", "<name>", "a", <created>, <expires or null>, ["<path>", ...]]

The digest is part of the key and is not repeated. Anyone who can write to Redis can write a record;
the reader guards against damage and other programs' keys. It trusts no field: one odd field makes
the whole value unreadable, and no part of it becomes an identity.

Why a line: with a name of 20 characters, key, record and TTL take 261 bytes of Redis; they would
take 293 with the array and 357 with a JSON object, of the 450 that a token may take in all. Every
cache miss decodes a record: the line in 0.28 us compiled (1.6 interpreted), the array in 1.6 (2.9)
and an object in 3.3 (3.4). Ids packed into nine bytes would save nothing: Redis rounds sizes up.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sidecar.core.account_names import is_account_name
from sidecar.core.errors import UsageError
from sidecar.core.memo import BoundedMemo
from sidecar.core.model import TokenKind, TokenRecord

if TYPE_CHECKING:  # compiled, a number of the machine's own; else an int like any other
    from mypy_extensions import i64

MAX_RECORD_BYTES: Final = 4096
MAX_NAME_CHARS: Final = 100

_VERSION: Final = 1
_FIELDS: Final = 8
_START: Final = struct.Struct(">cIH")
_START_BYTES: Final = _START.size
_LF: Final = 0x0A
_DAY_SECONDS: Final = 86400
_MAX_DAYS: Final = 0xFFFF
_MAX_LINE_TIME: Final = 0xFFFFFFFF
_MAX_TIME: Final = 1e11  # the year 5138; beyond it, calendar arithmetic on a time could overflow
_KIND_OF_LETTER: Final = {"a": TokenKind.ACCESS, "i": TokenKind.IMPORTED, "j": TokenKind.JWT}
_LETTER_OF_KIND: Final = {kind: letter for letter, kind in _KIND_OF_LETTER.items()}
_KIND_OF_BYTE: Final = {letter.encode(): kind for letter, kind in _KIND_OF_LETTER.items()}
is_id: Final = re.compile(r"[A-Za-z0-9_-]{8,64}").fullmatch
_accounts: Final[BoundedMemo[str, str]] = BoundedMemo(4096)
"""Accounts whose names were found well-formed; records of one account share one string."""


def encode(record: TokenRecord) -> bytes:
    """Return the record as it is stored; ``UsageError`` if it could not be read back."""
    try:
        value = _encode_line(record) or _encode_array(record)
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
            return _decode_line(digest, value, kind)
        return _decode_array(digest, value) if value[:1] == b"[" else None
    except (ValueError, RecursionError):
        return None


def _encode_line(record: TokenRecord) -> bytes:
    """Return the record as a line; empty if it does not fit into one."""
    days = _whole_days(record)
    if days is None or not _is_whole(record.created_at) or record.granted_until is not None:
        return b""
    letter = _LETTER_OF_KIND[record.kind].encode()
    texts = "\t".join((record.id, record.account, record.name, *record.paths))
    return b"%b%b\n" % (_START.pack(letter, int(record.created_at), days), texts.encode())


def _whole_days(record: TokenRecord) -> int | None:
    """Return the lifetime in days, 0 for an unlimited token; ``None`` if it is not whole days."""
    if record.expires_at is None:
        return 0
    days = (record.expires_at - record.created_at) / _DAY_SECONDS
    is_whole = _is_whole(record.expires_at) and days % 1 == 0
    return int(days) if is_whole and 1 <= days <= _MAX_DAYS else None


def _is_whole(time: float) -> bool:
    """Return whether a line can hold a time: a whole second before 2106."""
    return 0 <= time <= _MAX_LINE_TIME and time % 1 == 0


def _decode_line(digest: str, value: bytes, kind: TokenKind) -> TokenRecord | None:
    """Read a line, as every look-up does."""
    if len(value) <= _START_BYTES or value[-1] != _LF:
        return None
    created_at = _read_number(value, 1, 5)
    days = _read_number(value, 5, 7)
    texts = value[_START_BYTES:-1].decode().split("\t")
    if len(texts) < 3:
        return None
    token_id, name = texts[0], texts[2]
    account = _accounts.get(texts[1]) or _learn_account(texts[1])
    paths = tuple(texts[3:]) if len(texts) > 3 else ()
    if account is None or not _is_id(token_id) or not _is_name(name) or not _are_texts(paths):
        return None
    expiry = float(created_at + days * _DAY_SECONDS) if days else None
    return TokenRecord(token_id, account, name, kind, digest, float(created_at), expiry, paths)


def _read_number(value: bytes, start: i64, end: i64) -> i64:
    """Return the big-endian number at a place: a fifth of the time that ``struct`` takes."""
    number: i64 = 0
    for place in range(start, end):
        number = number << 8 | value[place]
    return number


def _learn_account(account: str) -> str | None:
    """Remember a well-formed account name; ``None`` for any other text."""
    if not is_account_name(account):
        return None
    _accounts.put(account, account)
    return account


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
    if type(version) is not int or version != _VERSION:
        return None
    if not _are_names(token_id, account, name) or not _are_paths(paths):
        return None
    if type(letter) is not str or letter not in _KIND_OF_LETTER:
        return None
    if not _is_time(created_at) or not (expires_at is None or _is_time(expires_at)):
        return None
    granted = _read_granted(fields[_FIELDS:])
    if len(fields) > _FIELDS and (granted is None or (expires_at or math.inf) > granted):
        return None
    return TokenRecord(
        token_id,
        account,
        name,
        _KIND_OF_LETTER[letter],
        digest,
        float(created_at),
        None if expires_at is None else float(expires_at),
        tuple(paths),
        granted_until=granted,
    )


def _read_granted(members: list[Any]) -> float | None:
    """Return when the token was to end; ``None``: there is no such member, or it is not a time."""
    if not members:
        return None
    until = members[0]
    if until is None:
        return math.inf
    return float(until) if _is_time(until) else None


def _number(time: float) -> float | int:
    """Save the bytes of ``.0``: a time that we make is a whole second."""
    return int(time) if math.isfinite(time) and time == int(time) else time


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _parse_int(digits: str) -> int:
    if len(digits) > 15:
        raise ValueError("too many digits")
    return int(digits)


_parse: Final = json.JSONDecoder(parse_constant=_refuse, parse_int=_parse_int).decode


def _is_id(text: str) -> bool:
    """Do as ``is_id`` does; an id of letters and digits, as ours are, needs no expression."""
    if text.isalnum() and text.isascii():
        return 8 <= len(text) <= 64
    return is_id(text) is not None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable()


def _are_texts(paths: tuple[str, ...]) -> bool:
    return all(path != "" and path.isprintable() for path in paths)


def _are_names(token_id: object, account: object, name: object) -> bool:
    return (
        type(token_id) is str
        and type(account) is str
        and type(name) is str
        and _is_id(token_id)
        and is_account_name(account) is not None
        and _is_name(name)
    )


def _is_time(value: object) -> bool:
    return (type(value) is int or type(value) is float) and 0 <= value <= _MAX_TIME


def _are_paths(paths: object) -> bool:
    return (
        type(paths) is list
        and all(type(path) is str for path in paths)
        and _are_texts(tuple(paths))
    )
