"""Keys that sign and verify JWTs, each bound to one algorithm.

A key is bound to its algorithm when it is loaded, so a token can't choose how it is verified
(RFC 8725 section 3.1). Weak keys, keys of the wrong type, and sets that mix a shared secret with
public keys are refused at loading. No message holds key material.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256", "HS256")

MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: as long as the hash
MIN_RSA_BITS = 2048  # RFC 7518 section 3.3
MAX_RSA_BITS = 8192  # a longer key only slows down each verification
MAX_RSA_EXPONENT_BITS = 256  # FIPS 186-5 appendix A.1.1; likewise
_GENERATED_RSA_BITS = 3072

IMPLEMENTATIONS: dict[str, Algorithm] = {
    name: algorithm for name, algorithm in get_default_algorithms().items() if name in ALGORITHMS
}
_GENERATORS: dict[str, Callable[[], Any]] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RS256": lambda: rsa.generate_private_key(65537, _GENERATED_RSA_BITS),
    "PS256": lambda: rsa.generate_private_key(65537, _GENERATED_RSA_BITS),
}
_PRIVATE_TYPES = (ed25519.Ed25519PrivateKey, ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)
_POWERS_OF_65537 = {
    prime: {pow(65537, exponent, prime) for exponent in range(prime)}
    for prime in range(3, 168)
    if all(prime % divisor for divisor in range(2, prime))
}
# Encodings of the points of small order on Curve25519: anybody can forge signatures for such a key.
_ED25519_PRIME = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _ED25519_PRIME - 1, _ORDER_8, _ED25519_PRIME - _ORDER_8})
KEY_ID = re.compile(r"[!-~]{1,256}")
PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})  # RFC 7518 section 6


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the one algorithm it is used with. ``repr`` never shows the key itself.

    ``id`` is its ``kid`` (RFC 7517 section 4.5); a key in a foreign set may lack one.
    """

    id: str | None
    algorithm: str
    _verifying: Any = field(repr=False)
    _signing: Any = field(repr=False)

    @property
    def is_secret(self) -> bool:
        """Tell whether it is a shared secret (HS256), which is never published."""
        return self.algorithm == "HS256"

    @property
    def has_private_half(self) -> bool:
        """Tell whether it can sign."""
        return self._signing is not None

    def is_signature(self, signature: bytes, message: bytes) -> bool:
        """Tell whether ``signature`` is this key's signature of ``message``; never raises."""
        return IMPLEMENTATIONS[self.algorithm].verify(message, self._verifying, signature)

    def fingerprint(self) -> str:
        """Return a thumbprint (RFC 7638) of what the key verifies with, to tell it from others."""
        if isinstance(self._verifying, bytes):
            return sha256(self._verifying).hexdigest()
        jwk = IMPLEMENTATIONS[self.algorithm].to_jwk(self._verifying, as_dict=True)
        public = {name: jwk[name] for name in sorted(PUBLIC_MEMBERS) if name in jwk}
        return sha256(json.dumps(public).encode()).hexdigest()

    def sign(self, message: bytes) -> bytes:
        """Return the JWS signature of ``message`` (RFC 7518); ``ValueError`` if it can't."""
        if self._signing is None:
            raise ValueError(f"key {self.id!r} has no private half and can't sign")
        return IMPLEMENTATIONS[self.algorithm].sign(message, self._signing)

    def publish(self) -> dict[str, str]:
        """Return the public JWK (RFC 7517); ``ValueError`` for a shared secret."""
        if self.is_secret:
            raise ValueError(f"key {self.id!r} is a shared secret and is never published")
        jwk = IMPLEMENTATIONS[self.algorithm].to_jwk(self._verifying, as_dict=True)
        public = {name: jwk[name] for name in PUBLIC_MEMBERS if name in jwk}
        named = {} if self.id is None else {"kid": self.id}
        return public | named | {"alg": self.algorithm, "use": "sig"}


class KeyRing:
    """The keys of one issuer by ``kid``, which several keys may share (RFC 7517 section 4.5)."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        self._by_id: dict[str | None, list[Key]] = {}
        for key in self.keys:
            self._by_id.setdefault(key.id, []).append(key)

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the keys with this ``kid``; without a ``kid``, all keys."""
        return self.keys if key_id is None else self._by_id.get(key_id, ())

    def find_unnamed(self) -> Sequence[Key]:
        """Return the keys without a ``kid``, which may be any."""
        return self._by_id.get(None, ())


class OwnKeys(KeyRing):
    """The sidecar's own keys: a token without a ``kid`` is judged only if there is one key.

    Raises ``ValueError`` for keys that can't be used together.
    """

    def __init__(self, keys: tuple[Key, ...]) -> None:
        check_signing_keys(keys)
        super().__init__(keys)

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the key with this ``kid``; without a ``kid``, the key if there is only one."""
        return () if key_id is None and len(self.keys) > 1 else super().find(key_id)


def bind_key(key_id: str | None, algorithm: str, material: Any) -> Key:
    """Return ``material`` (a ``cryptography`` key, or a secret's bytes) bound to ``algorithm``.

    A public key is accepted too; it verifies but can't sign. Raises ``ValueError`` for a key that
    does not fit the algorithm or is too weak.
    """
    if key_id is not None and not KEY_ID.fullmatch(key_id):
        raise ValueError("a key id must be 1 to 256 visible ASCII characters")
    if not is_of_family(material, algorithm):
        raise ValueError(f"not a key for {algorithm}")
    if isinstance(material, bytes):
        _check_secret(material)
        return Key(key_id, algorithm, material, material)
    is_private = isinstance(material, _PRIVATE_TYPES)
    public = material.public_key() if is_private else material
    _check_public(public)
    return Key(key_id, algorithm, public, material if is_private else None)


def generate_key(algorithm: str) -> str:
    """Return a fresh private key as ``load_key`` reads it: PKCS #8 PEM, or for HS256 a secret.

    Raises ``ValueError`` for an algorithm that is not in ``ALGORITHMS``.
    """
    check_algorithms((algorithm,), is_local=True)
    if algorithm == "HS256":
        return secrets.token_urlsafe(MIN_SECRET_BYTES) + "\n"
    pem = _GENERATORS[algorithm]().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return str(pem, "ascii")


def check_algorithms(algorithms: tuple[str, ...], *, is_local: bool) -> None:
    """Raise ``ValueError`` unless one issuer may use these algorithms together.

    A shared secret beside public keys enables key-confusion attacks (RFC 8725 section 2.1), and a
    secret published at a URL is not secret.
    """
    for name in algorithms:
        if name not in ALGORITHMS:
            raise ValueError(f"algorithm {name!r} is not one of {', '.join(ALGORITHMS)}")
    if not algorithms:
        raise ValueError("no algorithm is named")
    if "HS256" in algorithms and len(set(algorithms)) > 1:
        raise ValueError("HS256 (a shared secret) can't be combined with public-key algorithms")
    if "HS256" in algorithms and not is_local:
        raise ValueError("HS256 needs a key set from a file, as a secret at a URL is not secret")


def check_signing_keys(keys: tuple[Key, ...]) -> None:
    """Raise ``ValueError`` unless these can be the sidecar's own keys; the first one signs."""
    _check_together(keys)
    if keys and not keys[0].has_private_half:
        raise ValueError(f"key {keys[0].id!r} is the first, so it signs and needs its private half")


def is_of_family(material: Any, algorithm: str) -> bool:
    """Tell whether a key has the type that ``algorithm`` works with (RFC 7518 section 3.1)."""
    match algorithm:
        case "HS256":
            return isinstance(material, bytes)
        case "EdDSA":
            return isinstance(material, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey)
        case "ES256":
            kinds = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
            return isinstance(material, kinds) and isinstance(material.curve, ec.SECP256R1)
        case _:
            return isinstance(material, rsa.RSAPrivateKey | rsa.RSAPublicKey)


def _check_secret(secret: bytes) -> None:
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"the secret is shorter than {MIN_SECRET_BYTES} bytes")
    try:
        IMPLEMENTATIONS["HS256"].prepare_key(secret)
    except PyJWTError:
        raise ValueError("HS256 needs a shared secret, but this is another kind of key") from None


def _check_public(public: Any) -> None:
    if isinstance(public, rsa.RSAPublicKey):
        _check_rsa(public)
    elif isinstance(public, ed25519.Ed25519PublicKey):
        encoded = int.from_bytes(public.public_bytes_raw(), "little")
        if encoded % 2**255 % _ED25519_PRIME in _SMALL_ORDER:
            raise ValueError("the Ed25519 key has small order: anybody can forge its signatures")


def _check_rsa(public: rsa.RSAPublicKey) -> None:
    if public.key_size < MIN_RSA_BITS:
        raise ValueError(f"the RSA key is shorter than {MIN_RSA_BITS} bits")
    if public.key_size > MAX_RSA_BITS:
        raise ValueError(f"the RSA key is longer than {MAX_RSA_BITS} bits")
    numbers = public.public_numbers()
    if numbers.e.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise ValueError(f"the RSA key's exponent is longer than {MAX_RSA_EXPONENT_BITS} bits")
    if any(numbers.n % prime == 0 for prime in (2, *_POWERS_OF_65537)):
        raise ValueError("the RSA key's modulus has a small factor")
    if _is_factorable(numbers.n):
        raise ValueError("the RSA key can be factored (CVE-2017-15361)")


def _is_factorable(modulus: int) -> bool:
    """Tell whether a chip with the flaw of CVE-2017-15361 (ROCA) made the key.

    Modulo every small prime, the primes of such a key are powers of 65537, and so is their product.
    At most one in 2^27 other keys looks the same.
    """
    return all(modulus % prime in powers for prime, powers in _POWERS_OF_65537.items())


def _check_together(keys: tuple[Key, ...]) -> None:
    ids = [key.id for key in keys]
    for key_id in ids:
        if ids.count(key_id) > 1:
            named = "no kid" if key_id is None else f"the id {key_id!r}"
            raise ValueError(f"two keys have {named}")
    if len({key.is_secret for key in keys}) > 1:
        raise ValueError("a shared secret (HS256) can't be combined with public keys")
