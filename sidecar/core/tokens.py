"""The format of tokens: generates them, and tells what a string is by its shape alone.

An access token is exactly 64 characters of ``[A-Za-z0-9_]``::

    sct_ 3k9V…(random base62)…Qd 0Ab9Zz
    prefix                       CRC-32 of all that precedes, six base62 digits

The checksum keeps junk away from the store and lets secret scanners find leaked tokens. It is not
secret and proves nothing: only the store knows whether a token is valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:  # a machine integer where compiled, else an ordinary int
    from mypy_extensions import i64

Entropy = Callable[[int], bytes]
"""Returns so many unpredictable bytes; ``os.urandom`` outside of tests."""

TOKEN_CHARS: Final = 64
CHECKSUM_CHARS: Final = 6
RANDOM_CHARS: Final = 43  # 43 * log2(62) = 256.03 bits
MAX_PREFIX_CHARS: Final = TOKEN_CHARS - CHECKSUM_CHARS - RANDOM_CHARS

ID_CHARS: Final = 14  # 70 bits
ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"

MIN_OPAQUE_CHARS: Final = 16
MAX_OPAQUE_CHARS: Final = 4096
MAX_JWT_CHARS: Final = 16384  # tokens that list roles and groups do exceed 8192

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE62_PAIRS: Final = [high + low for high in _BASE62 for low in _BASE62]
_VALUE_OF_CODE: Final = [
    _BASE62.index(chr(code)) if chr(code) in _BASE62 else 1 << 32  # more than any sum
    for code in range(128)
]
_BASE62_OF_BYTE: Final = bytes(ord(_BASE62[byte % 62]) for byte in range(256))
# 248 = 4 * 62: the remaining byte values would favour eight digits.
_BIASED_BYTES: Final = bytes(range(248, 256))
_ID_OF_BYTE: Final = bytes(ord(ID_ALPHABET[byte % 32]) for byte in range(256))

_is_prefix: Final = re.compile(r"[A-Za-z0-9_]*").fullmatch
_is_access: Final = re.compile(r"[A-Za-z0-9_]{64}").fullmatch
_is_jwt: Final = re.compile(r"[\w-]+={0,2}\.[\w-]+={0,2}\.[\w-]+={0,2}", re.ASCII).fullmatch
_is_opaque: Final = re.compile(r"[\x21-\x7e]{16,4096}").fullmatch


class Shape(Enum):
    """What a string is, judged by its characters alone."""

    ACCESS = "access"
    """64 characters with the configured prefix and a valid checksum."""
    BAD_CHECKSUM = "bad checksum"
    """64 characters with the prefix, but mistyped, truncated or made up: refused without a look-up.
    """
    JWT = "jwt"
    """Three base64url parts, canonical or not: what looks like a JWT is never an opaque token."""
    OTHER = "other"
    """16 to 4096 visible ASCII characters: possibly an imported token."""
    UNREADABLE = "unreadable"
    """None of these."""


def check_prefix(prefix: str) -> None:
    """Raise ``ValueError`` with the reason unless access tokens can have this prefix."""
    if not _is_prefix(prefix):
        raise ValueError("a token prefix consists of letters, digits and _")
    if len(prefix) > MAX_PREFIX_CHARS:
        raise ValueError(
            f"a token prefix has at most {MAX_PREFIX_CHARS} characters, to leave room for "
            f"{RANDOM_CHARS} random ones (256 bits) and the checksum in {TOKEN_CHARS}"
        )


def generate(prefix: str, entropy: Entropy) -> str:
    """Return a new access token with at least 256 random bits.

    Raises ``ValueError`` for a prefix that ``check_prefix`` refuses.
    """
    check_prefix(prefix)
    wanted = TOKEN_CHARS - CHECKSUM_CHARS - len(prefix)
    digits = b""
    while len(digits) < wanted:
        digits += entropy(TOKEN_CHARS).translate(_BASE62_OF_BYTE, _BIASED_BYTES)
    body = prefix + digits[:wanted].decode()
    return body + _checksum(body)


def classify(secret: str, prefix: str) -> Shape:
    """Return the shape of a string; ``prefix`` is the one of access tokens."""
    if len(secret) == TOKEN_CHARS and secret.startswith(prefix) and secret.isascii():
        raw = secret.encode()
        if raw[len(prefix) :].isalnum() or _is_access(secret):  # isalnum is the cheaper check
            sum_at: i64 = TOKEN_CHARS - CHECKSUM_CHARS
            number: i64 = 0  # even six invalid digits stay within 63 bits
            for place in range(sum_at, TOKEN_CHARS):
                number = number * 62 + _VALUE_OF_CODE[raw[place]]
            is_right = number == crc32(raw[:sum_at])
            return Shape.ACCESS if is_right else Shape.BAD_CHECKSUM
    if MIN_OPAQUE_CHARS <= len(secret) <= MAX_JWT_CHARS and _is_jwt(secret):
        return Shape.JWT
    return Shape.OTHER if _is_opaque(secret) else Shape.UNREADABLE


def digest(secret: str) -> str:
    """Return the SHA-256 of a token in 64 hex digits, which is all that the store sees of it."""
    return sha256(secret.encode()).hexdigest()


def new_id(entropy: Entropy) -> str:
    """Return a new public id of a token: 14 lowercase letters and digits, without i, l, o and u."""
    return entropy(ID_CHARS).translate(_ID_OF_BYTE).decode()


def _checksum(body: str) -> str:
    number = crc32(body.encode())
    pairs = _BASE62_PAIRS
    return f"{pairs[number // 3844**2]}{pairs[number // 3844 % 3844]}{pairs[number % 3844]}"
