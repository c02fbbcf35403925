"""Parses signed tokens before any key is involved, and writes them.

Only the compact serialisation (RFC 7515 section 7.1) is accepted, and only in its one canonical
encoding: a token with two encodings would get past anything keyed on the string, such as a cache or
a denial. What is parsed here is what is verified; no other code parses the token again.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.core.keys import KEY_ID, Key
from sidecar.core.strict_json import read_object
from sidecar.core.tokens import MAX_JWT_CHARS

MAX_HEADER_BYTES = 4096

_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# RFC 7519 section 5.1, RFC 9068 section 2.1, and JWT-SVID section 2.3 for JOSE.
_MEDIA_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt", "jose"})

# By a part's length modulo four: the last characters whose unused bits are zero (RFC 4648 section
# 3.5). A remainder of one is never valid base64url.
_LAST_CHARACTERS: tuple[frozenset[str] | None, ...] = (
    None,
    frozenset(),
    frozenset("AQgw"),
    frozenset("AEIMQUYcgkosw048"),
)

_FORBIDDEN_MEMBERS = {
    # Extensions that change the meaning of the signature (RFC 7515 section 4.1.11, RFC 7797).
    "crit": "names critical extensions, and none is supported",
    "b64": "has an unencoded payload",
    # Keys that the token itself supplies (RFC 8725 section 3.10).
    "jwk": "brings its own key",
    "jku": "brings its own key",
    "x5u": "brings its own key",
    "x5c": "brings its own key",
    # Encryption, compression and nesting: members of JWE and of tokens within tokens.
    "enc": "is encrypted",
    "zip": "is compressed",
    "epk": "is encrypted",
    "p2c": "is encrypted",
    "p2s": "is encrypted",
    "cty": "is nested",
}


class JwtRefused(Exception):
    """The token is refused; the message is for the caller and holds no part of the token."""


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A well-formed token whose signature is not verified yet. ``repr`` shows no part of it."""

    algorithm: str = field(repr=False)
    """The header's ``alg``; compared with the key's own algorithm, never used to choose one."""
    key_id: str | None = field(repr=False)
    claims: Mapping[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read_token(token: str) -> SignedToken:
    """Return the parts of ``token``; raise ``JwtRefused``. Takes time linear in its length."""
    if len(token) > MAX_JWT_CHARS:
        raise JwtRefused("The token is too long.")
    parts = _PARTS.fullmatch(token)
    if parts is None:
        raise JwtRefused("A JWT is three base64url parts without padding.")
    header = _read_part(parts[1])
    if len(header) > MAX_HEADER_BYTES:
        raise JwtRefused("The token's header is too long.")
    algorithm, key_id = _read_header(_read_json(header))
    return SignedToken(
        algorithm=algorithm,
        key_id=key_id,
        claims=_read_json(_read_part(parts[2])),
        signing_input=token[: parts.end(2)].encode("ascii"),
        signature=_read_part(parts[3]),
    )


def write_token(claims: Mapping[str, object], key: Key, media_type: str = "JWT") -> str:
    """Return ``claims`` signed with ``key``; ``ValueError`` if the key has no private half."""
    header = {"alg": key.algorithm, "typ": media_type, "kid": key.id}
    signing_input = b".".join((_write_part(_write_json(header)), _write_part(_write_json(claims))))
    return b".".join((signing_input, _write_part(key.sign(signing_input)))).decode("ascii")


def _read_part(part: str) -> bytes:
    last_characters = _LAST_CHARACTERS[len(part) % 4]
    if last_characters is not None and part[-1] not in last_characters:
        raise JwtRefused("The token is not in canonical base64url.")
    return binascii.a2b_base64(part.translate(_TO_STANDARD_ALPHABET) + "==")


_TO_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def _read_json(document: bytes) -> dict[str, object]:
    try:
        return read_object(document)
    except ValueError as error:
        raise JwtRefused(f"A part of the token is {error}.") from None


def _read_header(header: Mapping[str, object]) -> tuple[str, str | None]:
    """Return ``alg`` and ``kid``. Unknown scalar members are ignored (RFC 7515 section 4)."""
    for name, value in header.items():
        if name in _FORBIDDEN_MEMBERS:
            raise JwtRefused(f"The token {_FORBIDDEN_MEMBERS[name]}.")
        if not isinstance(value, str | int):
            raise JwtRefused("The token's header has a member that is not a string or an integer.")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise JwtRefused("The token names no algorithm.")
    if key_id is not None and not (isinstance(key_id, str) and KEY_ID.fullmatch(key_id)):
        raise JwtRefused("The token's kid is not 1 to 256 visible ASCII characters.")
    if str(header.get("typ", "JWT")).lower() not in _MEDIA_TYPES:
        raise JwtRefused("The token's typ is not JWT.")
    return algorithm, key_id


def _write_json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _write_part(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
