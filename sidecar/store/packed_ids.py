"""Token ids in nine bytes: how those that we make (``core.tokens.new_id``) are kept small.

Any other id, from another release or an import, has no packed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.core.tokens import ID_ALPHABET, ID_CHARS

if TYPE_CHECKING:  # compiled, a number of the machine's own; else an int like any other
    from mypy_extensions import i64

PACKED_BYTES: Final = 9

_VALUE_OF_CHAR: Final = {char: value for value, char in enumerate(ID_ALPHABET)}
_PAIRS: Final = [high + low for high in ID_ALPHABET for low in ID_ALPHABET]


def pack(token_id: str) -> bytes:
    """Return the packed form; empty if there is none."""
    if len(token_id) != ID_CHARS or not _VALUE_OF_CHAR.keys() >= set(token_id):
        return b""
    number = 0
    for char in token_id:
        number = number << 5 | _VALUE_OF_CHAR[char]
    return number.to_bytes(PACKED_BYTES, "big")


def unpack(packed: bytes) -> str:
    """Return the id; ``ValueError`` for bytes that ``pack`` would not have made."""
    if len(packed) != PACKED_BYTES:
        raise ValueError("no packed id")
    return unpack_at(packed, 0)


def unpack_at(value: bytes, start: int) -> str:
    """Return the id that is packed within; raises as ``unpack`` does."""
    high: i64 = read_number(value, start, start + 4)
    low: i64 = read_number(value, start + 4, start + PACKED_BYTES)
    pairs = _PAIRS
    try:
        return (  # two thirds of what a loop costs, for every look-up; 30 bits and 40
            f"{pairs[high >> 20]}{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
            f"{pairs[low >> 30]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}"
            f"{pairs[low & 1023]}"
        )
    except IndexError:
        raise ValueError("no packed id") from None


def read_number(value: bytes, start: i64, end: i64) -> i64:
    """Return the big-endian number at a place, of at most seven bytes."""
    number: i64 = 0
    for place in range(start, end):
        number = number << 8 | value[place]
    return number
