"""The format of exported tokens: one JSON object a line, between a first and a last line.

::

    {"format": "sidecar tokens", "version": 1, "exported_at": "2026-11-26T15:40:52Z"}
    {"digest": "<64 hex digits>", "id": "…", "account": "acme", "name": "shop", "kind": "access",
     "created_at": "…Z", "expires_at": null, "paths": [], "last_used_at": null, "last_client": null}
    {"tokens": 1}

each on one line. The last line proves that the file is complete. A token whose name another token
holds (it has been rotated and lives on for its overlap) has ``"holds_name": false``. A token that
ends early, as that one does, has ``"granted_until"``: when it was to end, or null for never. Times
are RFC 3339 in UTC, with a fraction where the record has one. An expiry is an absolute time, so
restoring an old file lengthens no life. A file holds digests and never a token.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar

from sidecar.core.errors import UsageError
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.strict_json import read_object
from sidecar.core.times import from_rfc3339
from sidecar.store.layout import decode_use, encode_use
from sidecar.store.port import Exported
from sidecar.store.record import encode

FORMAT: Final = "sidecar tokens"
VERSION: Final = 1
MAX_LINE_BYTES: Final = 65536
"""No line is longer: a record has at most 4 KiB, and JSON escapes a byte with at most six."""

is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_Value = TypeVar("_Value")
_MEMBERS = frozenset(
    (
        *("digest", "id", "account", "name", "kind", "created_at", "expires_at", "paths"),
        *("last_used_at", "last_client", "holds_name", "granted_until"),
    )
)


def write_first(now: float) -> bytes:
    """Return the first line of a file of tokens; ``now`` is in Unix seconds."""
    return _line({"format": FORMAT, "version": VERSION, "exported_at": _write_time(now)})


def write_token(token: Exported) -> bytes:
    """Return a token's line."""
    record, use = token.record, token.use
    members: dict[str, object] = {
        "digest": record.digest,
        "id": record.id,
        "account": record.account,
        "name": record.name,
        "kind": str(record.kind),
        "created_at": _write_time(record.created_at),
        "expires_at": None if record.expires_at is None else _write_time(record.expires_at),
        "paths": list(record.paths),
        "last_used_at": None if use is None else _write_time(use.at),
        "last_client": None if use is None else use.client,
    }
    if not token.holds_name:
        members["holds_name"] = False
    if record.granted_until is not None:
        is_limited = record.granted_until != math.inf
        members["granted_until"] = _write_time(record.granted_until) if is_limited else None
    return _line(members)


def write_last(tokens: int) -> bytes:
    """Return the last line of a file of so many tokens."""
    return _line({"tokens": tokens})


def check_first(line: bytes) -> None:
    """Raise ``ValueError``, which says what to do, unless this is an export's first line."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("this file is in UTF-16, as PowerShell writes files: convert it to UTF-8")
    try:
        members = read_object(line.removeprefix(codecs.BOM_UTF8))
    except ValueError:
        members = {}
    if members.get("format") != FORMAT:
        raise ValueError(
            "this is not an export of tokens: its first line is not the one that "
            "`sidecar store export` writes"
        )
    if members.get("version") != VERSION:
        raise ValueError(
            f"this export has version {json.dumps(members.get('version'))[:20]}, and this sidecar "
            f"reads version {VERSION}: import it with the release that wrote it, or a later one"
        )


def read(line: bytes) -> Exported | int:
    """Return a line's token, or the number of tokens for the last line.

    Raises ``ValueError``, which says what is wrong and repeats no part of the line.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("longer than any line of an export")
    members = read_object(line)
    if members.keys() == {"tokens"}:
        return _take(members, "tokens", int)
    unknown = members.keys() - _MEMBERS
    if unknown:
        raise ValueError("a member that no token of this version has")
    record = _read_record(members)
    try:
        encode(record)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return Exported(record, _read_use(members), members.get("holds_name", True) is not False)


def _read_record(members: Mapping[str, object]) -> TokenRecord:
    digest = _take(members, "digest", str)
    if not is_digest(digest):
        raise ValueError("digest is not 64 hexadecimal digits in lower case")
    kind = _take(members, "kind", str)
    if kind not in list(TokenKind):
        raise ValueError(f"kind is not one of {', '.join(TokenKind)}")
    paths = _take(members, "paths", list)
    if not all(isinstance(path, str) for path in paths):
        raise ValueError("paths holds something that is not a string")
    return TokenRecord(
        id=_take(members, "id", str),
        account=_take(members, "account", str),
        name=_take(members, "name", str),
        kind=TokenKind(kind),
        digest=digest,
        created_at=_read_time(members, "created_at"),
        expires_at=_read_time_or_none(members, "expires_at"),
        paths=tuple(paths),
        granted_until=_read_granted(members),
    )


def _read_granted(members: Mapping[str, object]) -> float | None:
    if "granted_until" not in members:
        return None
    until = _read_time_or_none(members, "granted_until")
    return math.inf if until is None else until


def _read_use(members: Mapping[str, object]) -> LastUse | None:
    at = _read_time_or_none(members, "last_used_at")
    if at is None:
        return None
    use = LastUse(at, _take(members, "last_client", str))
    if decode_use(encode_use(use).encode()) != LastUse(float(int(at)), use.client):
        raise ValueError("last_client is not an address")
    return use


def _take(members: Mapping[str, object], name: str, kind: type[_Value]) -> _Value:
    value = members.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is missing or of another type")
    return value


def _read_time_or_none(members: Mapping[str, object], name: str) -> float | None:
    if name not in members:
        raise ValueError(f"{name} is missing")
    return None if members[name] is None else _read_time(members, name)


def _read_time(members: Mapping[str, object], name: str) -> float:
    text = _take(members, name, str)
    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from None


def _write_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _line(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
