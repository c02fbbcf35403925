"""Parses JSON from outside strictly: one object, unique members, bounded depth and numbers.

``json.loads`` accepts duplicate members (the last wins), ``NaN``, ``1e999``, and integers and
nesting of any size. Each of these has let two programs read one token differently, or kept one of
them busy.
"""

from __future__ import annotations

import json
import math
from typing import NoReturn

MAX_DEPTH = 16
MAX_INTEGER_LENGTH = 24
MAX_FRACTION_LENGTH = 64  # decimal types of some languages write a time with 28 digits


def read_object(document: bytes) -> dict[str, object]:
    """Return the one JSON object in ``document`` (RFC 8259, UTF-8 without a byte order mark).

    Raises ``ValueError`` for everything else; the message holds no part of the document.
    """
    try:
        value = _DECODER.decode(document.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("not strict JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if _is_deeper_than(value, MAX_DEPTH):
        raise ValueError("JSON nested too deeply")
    return value


def _is_deeper_than(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper_than(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_is_deeper_than(item, levels - 1) for item in value)
    return False


def _read_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_LENGTH:
        raise ValueError("number too long")
    return int(digits)


def _read_fraction(digits: str) -> float:
    number = float(digits) if len(digits) <= MAX_FRACTION_LENGTH else math.inf
    if not math.isfinite(number):
        raise ValueError("number too long or too large")
    return number


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_read_members,
    parse_int=_read_integer,
    parse_float=_read_fraction,
    parse_constant=_refuse_constant,
)
