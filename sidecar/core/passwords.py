"""Hashes passwords with Argon2id and verifies them; unknown accounts cost the same work.

A password is 1 to 1024 bytes of UTF-8, taken as it is, without Unicode normalisation: an "é" typed
as one code point differs from an "é" typed as two. A hash of ours takes some 30 ms and 19 MiB, one
of another system (``password_schemes.py``) up to two seconds and 256 MiB, so callers must limit how
many run at once.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sidecar.core.password_schemes import read_hash, why_unusable

MAX_PASSWORD_BYTES: Final = 1024

# The OWASP Password Storage Cheat Sheet's first choice for Argon2id.
_MEMORY_KIB: Final = 19456
_ITERATIONS: Final = 2
_LANES: Final = 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32

_MAX_SAMPLE: Final = 1024  # of hashes, to know the costs of
_ADVICE: Final = (
    "hash the password with `sidecar account hash-password`; if nobody knows it, give out a new one"
)


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
    found = read_hash(phc)
    return found is not None and found.matches(secret)


class UnusableHash(ValueError):
    """``why`` continues a sentence that begins with the hash; ``advice`` says what to do."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(f"the password hash {why}; {advice}")
        self.why = why
        self.advice = advice


def check_hash(text: str) -> None:
    """Raise ``UnusableHash`` unless this is a hash of a known kind, at a bearable cost."""
    why = why_unusable(text)
    if why:
        raise UnusableHash(why, _ADVICE)


def decoys_for(hashes: Sequence[str]) -> Callable[[str], str]:
    """Return a function from the name of an account that doesn't exist to a hash that no password
    has.

    Verifying that takes as long as a wrong password does. Where the accounts' ``hashes`` have
    several costs, each unknown name always gets the same one of these, in the same proportions: so
    the duration doesn't tell whether an account exists.
    """
    sample = sorted(hashes[:: 1 + len(hashes) // _MAX_SAMPLE]) or [_decoy_of_our_cost()]
    # From the hashes alone, so that all processes agree; they are as secret as any key.
    key = blake2b("\n".join(sample).encode()).digest()

    def decoy_of(name: str) -> str:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
        found = read_hash(sample[int.from_bytes(digest, "big") % len(sample)])
        return _decoy_of_our_cost() if found is None else found.decoy()

    return decoy_of


def _decoy_of_our_cost() -> str:
    salt, unknown = _base64(os.urandom(_SALT_BYTES)), _base64(os.urandom(_HASH_BYTES))
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_ITERATIONS},p={_LANES}${salt}${unknown}"


def _encode(password: str) -> bytes | None:
    """Return the bytes to hash; ``None`` if they are none, too many or not valid UTF-8."""
    try:
        secret = password.encode()
    except UnicodeEncodeError:
        return None
    return secret if 1 <= len(secret) <= MAX_PASSWORD_BYTES else None


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).rstrip(b"=").decode()
