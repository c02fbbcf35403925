"""Reads keys from PEM, a shared secret, a JWK or a JWK Set, and publishes them as a JWK Set.

No message holds key material.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from jwt.exceptions import PyJWTError

from sidecar.core.keys import (
    IMPLEMENTATIONS,
    KEY_ID,
    PRIVATE_MEMBERS,
    PUBLIC_MEMBERS,
    Key,
    bind_key,
    check_algorithms,
    is_of_family,
)
from sidecar.core.strict_json import read_object

MAX_KEYS = 64
MAX_SET_BYTES = 256 * 1024
_SIGNING_USES = ("sig", "jwt-svid")  # the latter in trust bundles (SPIFFE, section 4.2.2)
_JWK_READERS = {
    "OKP": IMPLEMENTATIONS["EdDSA"],
    "EC": IMPLEMENTATIONS["ES256"],
    "RSA": IMPLEMENTATIONS["RS256"],
    "oct": IMPLEMENTATIONS["HS256"],
}


class UnfitKey(ValueError):
    """A sound key that serves another purpose (encryption, another algorithm)."""


class SkippedKey(NamedTuple):
    """A key of a set that verifies nothing here."""

    position: int
    """Its place in the set, counted from 1."""
    reason: str
    """Why it is skipped; holds nothing of the key."""
    is_odd: bool
    """Whether something is wrong with it; otherwise, it only serves another purpose."""

    def __str__(self) -> str:
        return f"key {self.position}: {self.reason}"


class LoadedKeys(NamedTuple):
    """The keys of a set that can be used, and the others."""

    keys: tuple[Key, ...]
    skipped: tuple[SkippedKey, ...]


def load_key(key_id: str, algorithm: str, text: str) -> Key:
    """Return the key in ``text``: PEM, a JWK, or for HS256 the secret itself (its UTF-8 bytes).

    White space around ``text`` is ignored. A public key is accepted too; it verifies but can't
    sign. Raises ``ValueError`` that says what is wrong with the key.
    """
    check_algorithms((algorithm,), is_local=True)
    try:
        return bind_key(key_id, algorithm, _read_key(algorithm, text.strip()))
    except ValueError as error:
        raise ValueError(f"key {key_id!r}: {error}") from None


def load_key_set(document: bytes, algorithms: tuple[str, ...], *, is_local: bool) -> LoadedKeys:
    """Return the keys of a JWK Set (RFC 7517 section 5) that verify one of ``algorithms``.

    A key without ``alg`` is bound to the first of ``algorithms`` that fits its type. Keys may share
    a ``kid``, or have none. What can't be used is skipped, as section 5 asks, so that one odd key
    does not lock out all callers; a shared secret is used only from an admin's own file
    (``is_local``). Keys beyond the first ``MAX_KEYS`` are not read. Raises ``ValueError`` if no key
    is left.
    """
    check_algorithms(algorithms, is_local=is_local)
    keys: list[Key] = []
    skipped: list[SkippedKey] = []
    places: dict[object, int] = {}
    jwks = _read_set(document)
    for position, jwk in enumerate(jwks[:MAX_KEYS], start=1):
        try:
            key = _read_set_key(jwk, algorithms, is_local=is_local)
        except ValueError as error:
            skipped.append(SkippedKey(position, str(error), not isinstance(error, UnfitKey)))
            continue
        first = places.setdefault((key.id, key.algorithm, key.fingerprint()), position)
        if first == position:
            keys.append(key)
        else:
            skipped.append(SkippedKey(position, f"it repeats key {first}", is_odd=False))
    if len(jwks) > MAX_KEYS:
        rest = f"it and those after it are not read, as a set has at most {MAX_KEYS} keys"
        skipped.append(SkippedKey(MAX_KEYS + 1, rest, is_odd=True))
    if not keys:
        raise ValueError("; ".join(["no usable key", *map(str, skipped)]))
    return LoadedKeys(tuple(keys), tuple(skipped))


def export_key_set(keys: Iterable[Key]) -> dict[str, list[dict[str, str]]]:
    """Return the JWK Set that ``/.well-known/jwks.json`` publishes: public halves, no secrets."""
    return {"keys": [key.publish() for key in keys if not key.is_secret]}


def _read_key(algorithm: str, text: str) -> Any:
    if text.startswith("{"):
        jwk = read_object(text.encode())
        _check_purpose(jwk, ("sign", "verify"))
        if jwk.get("alg", algorithm) != algorithm:
            raise ValueError(f"the JWK's own alg is not {algorithm}")
        return _read_jwk(jwk)
    if algorithm == "HS256":
        return text.encode()
    return _read_pem(text)


def _read_pem(text: str) -> Any:
    try:
        if "PRIVATE KEY" in text:
            return serialization.load_pem_private_key(text.encode(), password=None)
        return serialization.load_pem_public_key(text.encode())
    except TypeError:
        raise ValueError("the PEM key is encrypted; only an unencrypted one can be read") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("this is neither a readable PEM key nor a JWK") from None


def _read_jwk(jwk: Mapping[str, object]) -> Any:
    reader = _JWK_READERS.get(str(jwk.get("kty")))
    if reader is None:
        raise UnfitKey("its kty is none of OKP, EC, RSA, oct")
    try:
        return reader.from_jwk(dict(jwk))
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        raise ValueError("its members do not form a valid key") from None


def _read_set(document: bytes) -> list[object]:
    if len(document) > MAX_SET_BYTES:
        raise ValueError(f"a JWK Set of more than {MAX_SET_BYTES} bytes")
    # Editors of Windows put a byte order mark in front; RFC 8259 section 8.1 lets us ignore it.
    jwks = read_object(document.removeprefix(BOM_UTF8)).get("keys")
    if not isinstance(jwks, list):
        raise ValueError('not a JWK Set: no list "keys"')
    return jwks


def _read_set_key(jwk: object, algorithms: tuple[str, ...], *, is_local: bool) -> Key:
    if not isinstance(jwk, dict):
        raise ValueError("not a JSON object")
    jwk = {name: value for name, value in jwk.items() if value is not None}  # as if left out
    _check_purpose(jwk, ("verify",))
    key_id = jwk.get("kid")
    if key_id is not None and not (isinstance(key_id, str) and KEY_ID.fullmatch(key_id)):
        raise ValueError("its kid is not 1 to 256 visible ASCII characters")
    if "alg" in jwk and jwk["alg"] not in algorithms:
        raise UnfitKey("its alg is not among the issuer's algorithms")
    if jwk.get("kty") != "oct":
        if not is_local and not PRIVATE_MEMBERS.isdisjoint(jwk):
            raise ValueError("its private half is published, so anybody can sign with it")
        # Of a key in an admin's own file, only the public half is read.
        jwk = {name: jwk[name] for name in ("alg", *PUBLIC_MEMBERS) if name in jwk}
    material = _read_jwk(jwk)
    candidates = (jwk["alg"],) if "alg" in jwk else algorithms
    fitting = next((name for name in candidates if is_of_family(material, name)), None)
    if fitting is None:
        raise UnfitKey("its type fits none of the issuer's algorithms")
    return bind_key(key_id, fitting, material)


def _check_purpose(jwk: Mapping[str, object], operations: tuple[str, ...]) -> None:
    """Raise ``UnfitKey`` if a JWK's ``use`` or ``key_ops`` forbid this (RFC 7517, 4.2 and 4.3)."""
    if jwk.get("use", "sig") not in _SIGNING_USES:
        raise UnfitKey("its use is not sig")
    allowed = jwk.get("key_ops", list(operations))
    if not isinstance(allowed, list) or not any(name in allowed for name in operations):
        raise UnfitKey(f"its key_ops do not hold {' or '.join(operations)}")
