"""Commands in RESP, the protocol of Redis: arrays of bulk strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_HEADS: Final = [b"\r\n$%d\r\n" % length for length in range(256)]
"""What precedes a bulk string of each length, including the end of the previous part."""


def pack_command(command: Sequence[str | bytes | int]) -> bytes:
    """Return a command in RESP; text is sent as UTF-8, a number in digits."""
    return pack([part if type(part) is bytes else str(part).encode() for part in command])


def pack(command: Sequence[bytes]) -> bytes:
    """Return a command in RESP, as an array of bulk strings."""
    pieces = [b"*%d" % len(command)]
    for part in command:
        length = len(part)
        pieces.append(_HEADS[length] if length < 256 else b"\r\n$%d\r\n" % length)
        pieces.append(part)
    pieces.append(b"\r\n")
    return b"".join(pieces)
