"""Hashes and verifies passwords with Argon2id; unknown accounts cost the same work.

A password is 1 to 1024 bytes of UTF-8, taken as it is, without Unicode normalisation: an "é" typed
as one code point differs from an "é" typed as two. A hash takes some 30 ms and 19 MiB, so callers
must limit how many run at once.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MAX_PASSWORD_BYTES: Final = 1024

# The OWASP Password Storage Cheat Sheet's first choice for Argon2id.
_MEMORY_KIB: Final = 19456
_ITERATIONS: Final = 2
_LANES: Final = 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_OUR_COST: Final = (_MEMORY_KIB, _ITERATIONS, _LANES)

# What one verification may cost. More is a mistake in the file or an attack.
_MAX_MEMORY_KIB: Final = 262144
_MAX_ITERATIONS: Final = 16
_MAX_LANES: Final = 16
_ADVICE: Final = "create one with `sidecar account hash-password`"

_parse_phc = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
    r"\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
).fullmatch


class PasswordProof:
    """Records that a password matched a hash (``phc``); valid ``until`` a time.

    It names neither account nor password: its holder knows which ones it belongs to.
    """

    __slots__ = ("phc", "until")

    def __init__(self, phc: str, until: float) -> None:
        self.phc = phc
        self.until = until


def hash_password(password: str) -> str:
    """Return the password's Argon2id hash as a PHC string (``$argon2id$v=19$m=19456,t=2,p=1$…``).

    Raises ``ValueError`` for a password that is empty or longer than 1024 bytes.
    """
    secret = _encode(password)
    if secret is None:
        raise ValueError(f"a password is 1 to {MAX_PASSWORD_BYTES} bytes of UTF-8")
    return Argon2id(
        salt=os.urandom(_SALT_BYTES),
        length=_HASH_BYTES,
        iterations=_ITERATIONS,
        lanes=_LANES,
        memory_cost=_MEMORY_KIB,
    ).derive_phc_encoded(secret)


def verify(password: str, phc: str) -> bool:
    """Tell whether the password matches the hash; never raises.

    An impossible password (empty, over 1024 bytes) is ``False`` at once, whatever the hash, so its
    quick answer reveals nothing about the account.
    """
    secret = _encode(password)
    if secret is None:
        return False
    try:
        Argon2id.verify_phc_encoded(secret, phc)
    except (InvalidKey, ValueError):
        return False
    return True


class UnusableHash(ValueError):
    """``why`` continues a sentence that begins with the hash; ``advice`` says what to do."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(f"the password hash {why}; {advice}")
        self.why = why
        self.advice = advice


def check_hash(phc: str) -> None:
    """Raise ``UnusableHash`` unless this is an Argon2id hash at a bearable cost."""
    if not _parse_phc(phc):
        raise UnusableHash("is not an Argon2id hash", _ADVICE)
    memory_kib, passes, lanes = _cost_of(phc)
    if memory_kib > _MAX_MEMORY_KIB or passes > _MAX_ITERATIONS or lanes > _MAX_LANES:
        most = f"{_MAX_MEMORY_KIB // 1024} MiB, {_MAX_ITERATIONS} passes or {_MAX_LANES} lanes"
        raise UnusableHash(f"is an Argon2id hash that costs more than {most}", _ADVICE)
    if memory_kib < 8 * lanes:
        raise UnusableHash("is an Argon2id hash with less than 8 KiB of memory a lane", _ADVICE)


def decoy_for(hashes: Iterable[str]) -> str:
    """Return a hash that no password matches and that costs what most of ``hashes`` cost.

    Verifying it for an unknown account takes as long as a wrong password does.
    """
    costs = Counter(_cost_of(phc) for phc in hashes)
    memory_kib, iterations, lanes = costs.most_common(1)[0][0] if costs else _OUR_COST
    salt, unknown = _base64(os.urandom(_SALT_BYTES)), _base64(os.urandom(_HASH_BYTES))
    return f"$argon2id$v=19$m={memory_kib},t={iterations},p={lanes}${salt}${unknown}"


def _encode(password: str) -> bytes | None:
    """Return the bytes to hash; ``None`` if they are none, too many or not valid UTF-8."""
    try:
        secret = password.encode()
    except UnicodeEncodeError:
        return None
    return secret if 1 <= len(secret) <= MAX_PASSWORD_BYTES else None


def _cost_of(phc: str) -> tuple[int, int, int]:
    found = _parse_phc(phc)
    return (int(found[1]), int(found[2]), int(found[3])) if found else _OUR_COST


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).rstrip(b"=").decode()
