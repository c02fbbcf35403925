"""The kinds of password hashes that accounts may have: how each is written, verified and bounded.

Argon2 and scrypt as PHC strings, bcrypt and SHA-crypt as crypt(5) writes them, PBKDF2 as passlib
and other libraries do, and all that Django has in its spelling. New passwords get Argon2id; the
others are read, so that accounts of an existing system keep their passwords.

Verifying takes up to two seconds and 256 MiB, so it belongs into a hash process. ``bcrypt`` and
``passlib`` are imported there alone, when they are first needed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.argon2 import Argon2i, Argon2id
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MAX_SECONDS: Final = 2.0
MAX_MEMORY_KIB: Final = 262144
_MAX_LANES: Final = 16
_BCRYPT_BYTES: Final = 72  # bcrypt reads no more of a password; every implementation cuts it there
_CRYPT_BYTES: Final = 512  # the longest password of crypt(3); SHA-crypt's cost grows with it

# Seconds of work, half as much again as measured on a server's core of 2024.
_ARGON2_KIB: Final = 1.3e-6  # one pass over 1 KiB
_BCRYPT_ROUND: Final = 75e-6
_PBKDF2_ROUND: Final = {"256": 0.28e-6, "512": 0.6e-6}
_SCRYPT_BLOCK: Final = 0.27e-6  # N * r * p blocks
_SHA_CRYPT_ROUND: Final = 2e-6  # with the longest password

# Least values of the OWASP Password Storage Cheat Sheet (2024).
_ADVISED_ARGON2_KIB: Final = 35840  # memory times passes
_ADVISED_BCRYPT: Final = 10
_ADVISED_PBKDF2: Final = {"256": 600_000, "512": 210_000}
_ADVISED_SCRYPT: Final = 655_360  # N * r * p

_NUMBER: Final = "[1-9][0-9]{0,9}"
_SHA_CRYPT_ROUNDS: Final = 5000  # where the hash names none


class _Scheme(NamedTuple):
    """One kind of hash. ``pattern`` has a group ``digest``, whose first character is six bits.

    ``prefixes`` are what a hash of this kind begins with, also one that is cut off. ``seconds`` and
    ``memory_kib`` tell what a verification costs, ``weakness`` why today's advice is against it,
    and ``fault`` which of its parameters makes no sense.
    """

    name: str
    prefixes: tuple[str, ...]
    pattern: re.Pattern[str]
    seconds: Callable[[re.Match[str]], float]
    weakness: Callable[[re.Match[str]], str]
    verify: Callable[[re.Match[str], bytes], bool]
    memory_kib: Callable[[re.Match[str]], int] = lambda match: 8
    fault: Callable[[re.Match[str]], str] = lambda match: ""


class PasswordHash:
    """A hash that could be read. It never appears in full in a message."""

    __slots__ = ("_match", "_scheme")

    def __init__(self, scheme: _Scheme, match: re.Match[str]) -> None:
        self._scheme = scheme
        self._match = match

    def __repr__(self) -> str:
        return f"<PasswordHash {self.scheme}>"

    @property
    def scheme(self) -> str:
        """The name of its kind, such as ``bcrypt``."""
        return self._scheme.name

    @property
    def seconds(self) -> float:
        """How long a verification takes on an ordinary core."""
        return self._scheme.seconds(self._match)

    @property
    def memory_kib(self) -> int:
        """How much memory a verification takes."""
        return self._scheme.memory_kib(self._match)

    @property
    def weakness(self) -> str:
        """Why the hash is weaker than today's advice; empty if it is not."""
        return self._scheme.weakness(self._match)

    @property
    def fault(self) -> str:
        """Which of its parameters can't be right; empty if all can."""
        return self._scheme.fault(self._match)

    def matches(self, password: bytes) -> bool:
        """Tell whether this is the password's hash; never raises."""
        try:
            return self._scheme.verify(self._match, password)
        except (InvalidKey, ValueError):
            return False

    def decoy(self) -> str:
        """Return a hash that costs exactly the same, and that no known password has."""
        text, place = self._match.string, self._match.start("digest")
        return text[:place] + ("B" if text[place] == "A" else "A") + text[place + 1 :]


def read_hash(text: str) -> PasswordHash | None:
    """Return the hash that is written here; ``None`` if it is of no known kind."""
    for scheme in _SCHEMES:
        if text.startswith(scheme.prefixes):
            found = scheme.pattern.fullmatch(text)
            return None if found is None else PasswordHash(scheme, found)
    return None


def why_unusable(text: str) -> str:
    """Return why a hash can't be used, to follow "the password hash"; empty if it can."""
    found = read_hash(text)
    if found is None:
        return _why_unreadable(text)
    if found.fault:
        return found.fault
    if found.memory_kib > MAX_MEMORY_KIB:
        return f"takes more than {MAX_MEMORY_KIB // 1024} MiB to verify"
    if found.seconds > MAX_SECONDS:
        return f"takes more than {MAX_SECONDS:.0f} seconds to verify"
    return ""


def _why_unreadable(text: str) -> str:
    for pattern, why in _REFUSED:
        if pattern.match(text):
            return why
    for scheme in _SCHEMES:
        if text.startswith(scheme.prefixes):
            return f"begins like {scheme.name} and can't be read; it may be cut off"
    return "is of no kind that is supported; is it the password itself?"


# Argon2 (RFC 9106).


def _argon2_kib(match: re.Match[str]) -> int:
    return int(match["memory"]) * int(match["passes"])


def _fault_of_argon2(match: re.Match[str]) -> str:
    memory, lanes = int(match["memory"]), int(match["lanes"])
    if lanes > _MAX_LANES:
        return f"has more than {_MAX_LANES} lanes"
    return "has less than 8 KiB of memory a lane" if memory < 8 * lanes else ""


def _verify_argon2(match: re.Match[str], password: bytes) -> bool:
    kind = Argon2id if match["kind"] == "id" else Argon2i
    kind.verify_phc_encoded(password, match["phc"])
    return True


# bcrypt.


def _verify_bcrypt(match: re.Match[str], password: bytes) -> bool:
    import bcrypt

    if match["prehashed"]:
        password = sha256(password).hexdigest().encode()
    # The salt's last character has two bits; what some systems write into the others is void.
    last = _BCRYPT_ALPHABET[_BCRYPT_ALPHABET.index(match["last"]) & 0b110000]
    expected = f"{match['cost']}{match['salt']}{last}{match['digest']}"
    return bcrypt.checkpw(password[:_BCRYPT_BYTES], expected.encode())


_BCRYPT_ALPHABET: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


# PBKDF2 (RFC 8018).


def _fault_of_pbkdf2(match: re.Match[str]) -> str:
    # Each further block of the digest would cost all rounds once more.
    most = int(match["bits"]) // 8
    return f"has a digest of more than {most} bytes" if len(_digest_of(match)) > most else ""


def _pbkdf2_rounds(match: re.Match[str]) -> int:
    return int(match["rounds"])


def _weakness_of_pbkdf2(match: re.Match[str]) -> str:
    advised = _ADVISED_PBKDF2[match["bits"]]
    return f"has less than {advised} rounds" if _pbkdf2_rounds(match) < advised else ""


def _verify_pbkdf2(match: re.Match[str], password: bytes) -> bool:
    return _is_pbkdf2(match, _from_base64(match["salt"]), password)


def _verify_django_pbkdf2(match: re.Match[str], password: bytes) -> bool:
    return _is_pbkdf2(match, match["salt"].encode(), password)


def _is_pbkdf2(match: re.Match[str], salt: bytes, password: bytes) -> bool:
    digest = _digest_of(match)
    algorithm = hashes.SHA256() if match["bits"] == "256" else hashes.SHA512()
    PBKDF2HMAC(algorithm, len(digest), salt, _pbkdf2_rounds(match)).verify(password, digest)
    return True


# scrypt (RFC 7914).


def _scrypt_sizes(match: re.Match[str]) -> tuple[int, int, int]:
    groups = match.groupdict()
    n = int(groups["n"]) if groups.get("n") else 1 << min(int(groups["ln"]), 63)
    return n, int(groups["r"]), int(groups["p"])


def _scrypt_blocks(match: re.Match[str]) -> int:
    n, r, p = _scrypt_sizes(match)
    return n * r * p


def _scrypt_kib(match: re.Match[str]) -> int:
    n, r, _ = _scrypt_sizes(match)
    return n * r // 8


def _fault_of_scrypt(match: re.Match[str]) -> str:
    n, _, _ = _scrypt_sizes(match)
    return "has an N that is no power of two" if n < 2 or n & (n - 1) else ""


def _weakness_of_scrypt(match: re.Match[str]) -> str:
    return "has a lower cost than N=2^17, r=8" if _scrypt_blocks(match) < _ADVISED_SCRYPT else ""


def _verify_scrypt(match: re.Match[str], password: bytes) -> bool:
    return _is_scrypt(match, _from_base64(match["salt"]), password)


def _verify_django_scrypt(match: re.Match[str], password: bytes) -> bool:
    return _is_scrypt(match, match["salt"].encode(), password)


def _is_scrypt(match: re.Match[str], salt: bytes, password: bytes) -> bool:
    digest, (n, r, p) = _digest_of(match), _scrypt_sizes(match)
    Scrypt(salt, len(digest), n, r, p).verify(password, digest)
    return True


# SHA-crypt.


def _sha_crypt_seconds(match: re.Match[str]) -> float:
    return int(match["rounds"] or _SHA_CRYPT_ROUNDS) * _SHA_CRYPT_ROUND


def _verify_sha_crypt(match: re.Match[str], password: bytes) -> bool:
    from passlib.hash import sha256_crypt, sha512_crypt

    if len(password) > _CRYPT_BYTES:
        return False
    kind = sha256_crypt if match["bits"] == "5" else sha512_crypt
    is_right: bool = kind.verify(password, match.string)
    return is_right


def sha_crypt(name: str, bits: int, digits: int) -> _Scheme:
    """Return the kind of SHA-crypt with this number, whose digest has so many ``digits``."""
    return _Scheme(
        name,
        (f"${bits}$",),
        re.compile(
            rf"\$(?P<bits>{bits})\$(?:rounds=(?P<rounds>{_NUMBER})\$)?[./A-Za-z0-9]{{0,16}}"
            rf"\$(?P<digest>[./A-Za-z0-9]{{{digits}}})"
        ),
        _sha_crypt_seconds,
        lambda match: "is SHA-crypt, which is no longer advised",
        _verify_sha_crypt,
    )


# The tables.


def _digest_of(match: re.Match[str]) -> bytes:
    return _from_base64(match["digest"])


def _from_base64(text: str) -> bytes:
    """Decode base64 without padding, also with a dot for the plus, as passlib writes it."""
    plain = text.rstrip("=").replace(".", "+")
    return base64.b64decode(plain + "==="[: -len(plain) % 4])


_SCHEMES: Final = (
    _Scheme(
        "Argon2",
        ("$argon2id$", "$argon2i$", "argon2$"),
        re.compile(
            r"(?:argon2)?(?P<phc>\$argon2(?P<kind>id|i)\$v=19"
            rf"\$m=(?P<memory>{_NUMBER}),t=(?P<passes>{_NUMBER}),p=(?P<lanes>{_NUMBER})"
            r"\$[A-Za-z0-9+/]{11,86}\$(?P<digest>[A-Za-z0-9+/]{22,86}))"
        ),
        lambda match: _argon2_kib(match) * _ARGON2_KIB,
        lambda match: (
            "has a lower cost than m=19456, t=2" if _argon2_kib(match) < _ADVISED_ARGON2_KIB else ""
        ),
        _verify_argon2,
        lambda match: int(match["memory"]),
        _fault_of_argon2,
    ),
    _Scheme(
        "bcrypt",
        ("$2a$", "$2b$", "$2y$", "bcrypt$", "bcrypt_sha256$"),
        re.compile(
            r"(?:bcrypt(?P<prehashed>_sha256)?\$)?(?P<cost>\$2[aby]\$(?P<log>0[4-9]|[12][0-9]|3[01])\$)"
            r"(?P<salt>[./A-Za-z0-9]{21})(?P<last>[./A-Za-z0-9])(?P<digest>[./A-Za-z0-9]{31})"
        ),
        lambda match: _BCRYPT_ROUND * (1 << int(match["log"])),
        lambda match: (
            f"has a lower cost than {_ADVISED_BCRYPT}"
            if int(match["log"]) < _ADVISED_BCRYPT
            else ""
        ),
        _verify_bcrypt,
    ),
    _Scheme(
        "PBKDF2",
        ("$pbkdf2-sha256$", "$pbkdf2-sha512$"),
        re.compile(
            rf"\$pbkdf2-sha(?P<bits>256|512)\$(?:i=)?(?P<rounds>{_NUMBER})(?:,l=[0-9]{{1,3}})?"
            r"\$(?P<salt>[A-Za-z0-9./+]{0,128})\$(?P<digest>[A-Za-z0-9./+]{22,86})"
        ),
        lambda match: _pbkdf2_rounds(match) * _PBKDF2_ROUND[match["bits"]],
        _weakness_of_pbkdf2,
        _verify_pbkdf2,
        fault=_fault_of_pbkdf2,
    ),
    _Scheme(
        "Django's PBKDF2",
        ("pbkdf2_sha256$", "pbkdf2_sha512$"),
        re.compile(
            rf"pbkdf2_sha(?P<bits>256|512)\$(?P<rounds>{_NUMBER})"
            r"\$(?P<salt>[!-#%-~]{1,128})\$(?P<digest>[A-Za-z0-9/+]{43}=|[A-Za-z0-9/+]{86}==)"
        ),
        lambda match: _pbkdf2_rounds(match) * _PBKDF2_ROUND[match["bits"]],
        _weakness_of_pbkdf2,
        _verify_django_pbkdf2,
        fault=_fault_of_pbkdf2,
    ),
    _Scheme(
        "scrypt",
        ("$scrypt$",),
        re.compile(
            r"\$scrypt\$ln=(?P<ln>[1-9][0-9]?),r=(?P<r>[1-9][0-9]{0,4}),p=(?P<p>[1-9][0-9]{0,4})"
            r"\$(?P<salt>[A-Za-z0-9./+]{0,128})\$(?P<digest>[A-Za-z0-9./+]{22,86})"
        ),
        lambda match: _scrypt_blocks(match) * _SCRYPT_BLOCK,
        _weakness_of_scrypt,
        _verify_scrypt,
        _scrypt_kib,
        _fault_of_scrypt,
    ),
    _Scheme(
        "Django's scrypt",
        ("scrypt$",),
        re.compile(
            rf"scrypt\$(?P<n>{_NUMBER})\$(?P<salt>[!-#%-~]{{1,128}})\$(?P<r>[1-9][0-9]{{0,4}})"
            r"\$(?P<p>[1-9][0-9]{0,4})\$(?P<digest>[A-Za-z0-9/+]{86}==)"
        ),
        lambda match: _scrypt_blocks(match) * _SCRYPT_BLOCK,
        _weakness_of_scrypt,
        _verify_django_scrypt,
        _scrypt_kib,
        _fault_of_scrypt,
    ),
    sha_crypt("SHA-256-crypt", 5, digits=43),
    sha_crypt("SHA-512-crypt", 6, digits=86),
)

# What other systems have and nobody should: most of it falls to a guess a nanosecond.
_REFUSED: Final = (
    (
        re.compile(r"\$1\$|\$apr1\$|\$md5|md5\$|\{S?MD5\}|[0-9A-Fa-f]{32}\Z"),
        "is an MD5 hash",
    ),
    (
        re.compile(r"\{S?SHA\}|\$?sha1\$|pbkdf2_sha1\$|\$pbkdf2\$|[0-9A-Fa-f]{40}\Z"),
        "is a SHA-1 hash",
    ),
    (
        re.compile(r"[0-9A-Fa-f]{64}\Z|[0-9A-Fa-f]{128}\Z"),
        "is a bare digest, without a salt or a cost",
    ),
    (re.compile(r"[./0-9A-Za-z]{13}\Z|_[./0-9A-Za-z]{19}\Z"), "is a hash of DES crypt"),
    (
        re.compile(r"\$argon2d\$"),
        "is an Argon2d hash; only Argon2id and Argon2i are supported",
    ),
    (re.compile(r"\$argon2id?\$(?:v=16\$|m=)"), "is of an outdated version of Argon2"),
    (re.compile(r"\$2x?\$"), "is of an outdated version of bcrypt"),
    (re.compile(r"\$g?y\$|\$7\$"), "is a yescrypt hash, which is not supported"),
)
