"""Group J of the hostile suite: each JWT an attacker or a careless issuer sends, and the verdict.

A case is made for a *party*: the sidecar itself, or a foreign issuer that it trusts. The bench
holds the party's private keys, because a bad claim or header must be refused even when it is well
signed. A case that is not accepted is answered 401.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from sidecar.core.key_documents import load_key
from sidecar.core.keys import MIN_RSA_BITS, Key, generate_key

PUBLIC_ALGORITHMS = ("EdDSA", "ES256", "RS256", "PS256")

# The order of the base points: P-256 (SEC 2, section 2.4.2) and Ed25519 (RFC 8032 section 5.1).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


class Pems(dict[str, str]):
    """Private keys by algorithm, each made when it is first asked for: an RSA key takes long.

    An RSA key has the fewest bits that are good enough, as most have and as is quickest.
    """

    def __missing__(self, algorithm: str) -> str:
        is_rsa = algorithm in ("RS256", "PS256")
        self[algorithm] = _generate_rsa() if is_rsa else generate_key(algorithm)
        return self[algorithm]


def _generate_rsa() -> str:
    key = rsa.generate_private_key(65537, MIN_RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@dataclass(frozen=True, slots=True)
class Party:
    """An issuer as it sees itself: its name, its audience, one private key an algorithm."""

    issuer: str
    audience: str
    pems: Mapping[str, str]
    is_own: bool

    def key(self, algorithm: str = "EdDSA") -> Key:
        return _load(algorithm, self.pems[algorithm])

    def public(self, algorithm: str) -> PublicKeyTypes:
        """Return the public key that belongs to the private one."""
        public: PublicKeyTypes = self.private(algorithm).public_key()
        return public

    def private(self, algorithm: str) -> Any:
        """Return the key itself, for what no signer would do."""
        return _load_private(self.pems[algorithm])


@dataclass(frozen=True, slots=True)
class Bench:
    """What a case is made with: a party, a live account and token id, and the time."""

    party: Party
    account: str
    jti: str
    now: int
    leeway_seconds: int

    def claims(self, **changes: object) -> dict[str, object]:
        """Good claims with changes; ``GONE`` takes one away."""
        good: dict[str, object] = {
            "iss": self.party.issuer,
            "aud": self.party.audience,
            "sub": self.account,
            "jti": self.jti,
            "iat": self.now - 1,
            "exp": self.now + 3600,
        }
        return {name: value for name, value in (good | changes).items() if value is not GONE}

    def header(self, algorithm: str = "EdDSA", **changes: object) -> dict[str, object]:
        good: dict[str, object] = {"alg": algorithm, "typ": "JWT", "kid": f"{algorithm}-1"}
        return {name: value for name, value in (good | changes).items() if value is not GONE}

    def sign(self, header: bytes, payload: bytes, algorithm: str = "EdDSA") -> str:
        """Sign any bytes well: what an issuer would send that writes such a header or payload."""
        signing_input = f"{part(header)}.{part(payload)}"
        return f"{signing_input}.{part(self.party.key(algorithm).sign(signing_input.encode()))}"

    def with_claims(self, **changes: object) -> str:
        return self.sign(dump(self.header()), dump(self.claims(**changes)))

    def with_header(self, algorithm: str = "EdDSA", **changes: object) -> str:
        header = dump(self.header(algorithm, **changes))
        return self.sign(header, dump(self.claims()), algorithm)

    def with_payload(self, payload: bytes) -> str:
        return self.sign(dump(self.header()), payload)

    def with_raw_claim(self, member: str) -> str:
        """Good claims and one member in its own spelling (``NaN``, a duplicate, a long number)."""
        return self.with_payload(dump(self.claims())[:-1] + f",{member}}}".encode())

    def good(self, algorithm: str = "EdDSA") -> str:
        return self.with_header(algorithm)

    def with_signature(self, make: Callable[[bytes, bytes], bytes], algorithm: str) -> str:
        """A good token with ``make(signature, signing input)`` in place of its signature."""
        signing_input, _, signature = self.good(algorithm).rpartition(".")
        return f"{signing_input}.{part(make(unpart(signature), signing_input.encode()))}"


class _Gone:
    pass


GONE = _Gone()


@dataclass(frozen=True, slots=True)
class JwtCase:
    id: str
    make: Callable[[Bench], str]
    accepted_by: frozenset[str] = frozenset()
    """Whose token of this kind is good: ``own``, ``foreign``, both, or nobody's."""

    def is_accepted(self, party: Party) -> bool:
        return ("own" if party.is_own else "foreign") in self.accepted_by


BOTH = frozenset({"own", "foreign"})
FOREIGN = frozenset({"foreign"})
OWN = frozenset({"own"})


@cache
def _load(algorithm: str, pem: str) -> Key:
    return load_key(f"{algorithm}-1", algorithm, pem)


@cache
def _load_private(pem: str) -> Any:
    return serialization.load_pem_private_key(pem.encode(), password=None)


def make_party(issuer: str, audience: str, *, is_own: bool) -> Party:
    return Party(issuer, audience, Pems(), is_own)


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def unpart(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


Make = Callable[[Bench], str]


def header(algorithm: str = "EdDSA", **changes: object) -> Make:
    return lambda bench: bench.with_header(algorithm, **changes)


def claims(**changes: object) -> Make:
    """Make a token with these claims; a function is called with the bench."""

    def make(bench: Bench) -> str:
        values = {name: v(bench) if callable(v) else v for name, v in changes.items()}
        return bench.with_claims(**values)

    return make


def payload(content: bytes) -> Make:
    return lambda bench: bench.with_payload(content)


def encoded(encoding: str) -> Make:
    return lambda bench: bench.with_payload(dump(bench.claims()).decode().encode(encoding))


def raw_claim(member: str) -> Make:
    return lambda bench: bench.with_raw_claim(member)


def raw_time(name: str, spelling: str) -> Make:
    """Make a token whose only ``name`` is spelt so."""

    def make(bench: Bench) -> str:
        rest = dump(bench.claims(**{name: GONE}))
        return bench.with_payload(rest[:-1] + f',"{name}":{spelling}}}'.encode())

    return make


def doubled(name: str) -> Make:
    return lambda bench: bench.with_raw_claim(f'"{name}":{json.dumps(bench.claims()[name])}')


def respelled(respell: Callable[[str], str]) -> Make:
    return lambda bench: respell(bench.good())


def signature(make: Callable[[bytes, bytes], bytes], algorithm: str) -> Make:
    return lambda bench: bench.with_signature(make, algorithm)


def constant(value: bytes) -> Callable[[bytes, bytes], bytes]:
    return lambda _signature, _signing_input: value


def unsigned(algorithm: object) -> Make:
    return lambda bench: f"{part(dump(bench.header(alg=algorithm)))}.{part(dump(bench.claims()))}."


def confused(algorithm: str, spell: Callable[[Party, str], bytes]) -> Make:
    """Sign with a public key's bytes as the HMAC secret, under that key's own kid."""

    def make(bench: Bench) -> str:
        head = dump(bench.header(algorithm, alg="HS256"))
        signing_input = f"{part(head)}.{part(dump(bench.claims()))}"
        secret = spell(bench.party, algorithm)
        return f"{signing_input}.{part(hmac.digest(secret, signing_input.encode(), 'sha256'))}"

    return make


def rsa_signature(algorithm: str, scheme: padding.AsymmetricPadding) -> Make:
    def make(bench: Bench) -> str:
        key = bench.party.private(algorithm)
        assert isinstance(key, rsa.RSAPrivateKey)
        return bench.with_signature(lambda _, i: key.sign(i, scheme, hashes.SHA256()), algorithm)

    return make


def _by_stranger(bench: Bench, **members: object) -> str:
    """Sign with a key nobody knows but the attacker."""
    stranger = load_key("EdDSA-1", "EdDSA", generate_key("EdDSA"))
    embedded = {name: stranger.publish() if name == "jwk" else v for name, v in members.items()}
    signing_input = f"{part(dump(bench.header('EdDSA', **embedded)))}.{part(dump(bench.claims()))}"
    return f"{signing_input}.{part(stranger.sign(signing_input.encode()))}"


def _der_signature(signature: bytes, signing_input: bytes, bench: Bench) -> bytes:
    key = bench.party.private("ES256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(signing_input, ec.ECDSA(hashes.SHA256()))


def _oversized_scalars(signature: bytes, _signing_input: bytes) -> bytes:
    """r + n and s + n where they fit: equal modulo n, another spelling."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return ((r + P256_ORDER) % 2**256).to_bytes(32, "big") + (s % P256_ORDER).to_bytes(32, "big")


def _negated(signature: bytes, _signing_input: bytes) -> bytes:
    r = P256_ORDER - int.from_bytes(signature[:32], "big")
    return r.to_bytes(32, "big") + signature[32:]


def _shifted_scalar(signature: bytes, _signing_input: bytes) -> bytes:
    """Ed25519 with S + L, which a lax verifier takes (RFC 8032 section 5.1.7 forbids)."""
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + scalar.to_bytes(32, "little")


def _pss(digest: hashes.HashAlgorithm, salt_bytes: int) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=salt_bytes)


def _integer_plus_modulus(bench: Bench) -> str:
    key = bench.party.private("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)
    modulus = key.public_key().public_numbers().n
    return bench.with_signature(
        lambda s, _i: (int.from_bytes(s, "big") + modulus).to_bytes(len(s) + 1, "big"), "RS256"
    )


# What stands before the hash in a signature of PKCS #1 v1.5 (RFC 8017 section 9.2, note 1).
SHA256_NAME = bytes.fromhex("608648016503040201")
DIGEST_INFO = bytes.fromhex("3031300d0609") + SHA256_NAME + bytes.fromhex("05000420")


def _padded(content: bytes, size: int, kind: bytes = b"\0\1", filling: bytes = b"\xff") -> bytes:
    return kind + filling * (size - len(content) - 3) + b"\0" + content


# By what is wrong with them: blocks that a lax verifier takes for the one right one (CVE-2006-4339
# and its many successors), from a hash and the size of the modulus in bytes.
BLOCKS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "junk after the hash": lambda h, n: (
        b"\0\1" + b"\xff" * 8 + b"\0" + DIGEST_INFO + h + bytes(n - 62)
    ),
    "junk in the parameters": lambda h, n: _padded(
        bytes.fromhex("3034300f0609") + SHA256_NAME + bytes.fromhex("0502ffff0420") + h, n
    ),
    "a zero in the padding": lambda h, n: b"\0\1\0" + _padded(DIGEST_INFO + h, n)[3:],
    "block type 0": lambda h, n: _padded(DIGEST_INFO + h, n, b"\0\0"),
    "block type 2": lambda h, n: _padded(DIGEST_INFO + h, n, b"\0\2"),
    "padding of zeros": lambda h, n: _padded(DIGEST_INFO + h, n, filling=b"\0"),
    "padding of ones": lambda h, n: _padded(DIGEST_INFO + h, n, filling=b"\1"),
    "no padding": lambda h, n: b"\0\1\0" + DIGEST_INFO + h + bytes(n - 54),
    "no separator": lambda h, n: (b"\0\1" + b"\xff" * n)[: n - 51] + DIGEST_INFO + h,
    "no parameters": lambda h, n: _padded(
        bytes.fromhex("302f300b0609") + SHA256_NAME + b"\4\x20" + h, n
    ),
    "a length in its long form": lambda h, n: _padded(b"\x30\x81" + DIGEST_INFO[1:] + h, n),
    "an indefinite length": lambda h, n: _padded(b"\x30\x80" + DIGEST_INFO[2:] + h + b"\0\0", n),
    "a long zero length": lambda h, n: _padded(DIGEST_INFO[:-1] + b"\x82\0\x20" + h, n),
    "the name of SHA-1": lambda h, n: _padded(
        bytes.fromhex("3029300906052b0e03021a05000420") + h, n
    ),
    "the name of SHA-512": lambda h, n: _padded(DIGEST_INFO.replace(b"\4\2\1", b"\4\2\3") + h, n),
    "another tag for the hash": lambda h, n: _padded(DIGEST_INFO[:-2] + b"\3\x20" + h, n),
    "half of the hash": lambda h, n: _padded(DIGEST_INFO + h[:16], n),
    "the hash alone": lambda h, n: _padded(h, n),
    "the bare number": lambda h, n: h.rjust(n, b"\0"),
}


def _with_block(make_block: Callable[[bytes, int], bytes]) -> Make:
    """Sign a block as it is, which no library does."""

    def make(bench: Bench) -> str:
        key = bench.party.private("RS256")
        assert isinstance(key, rsa.RSAPrivateKey)
        numbers, size = key.private_numbers(), key.key_size // 8

        def sign(_: bytes, message: bytes) -> bytes:
            block = make_block(hashlib.sha256(message).digest(), size)
            assert len(block) == size
            return _sign_raw(int.from_bytes(block, "big"), numbers).to_bytes(size, "big")

        return bench.with_signature(sign, "RS256")

    return make


def _sign_raw(block: int, key: rsa.RSAPrivateNumbers) -> int:
    """RSASP1 by the two primes (RFC 8017 section 5.1.2), which is the quicker way."""
    by_p, by_q = pow(block, key.dmp1, key.p), pow(block, key.dmq1, key.q)
    return by_q + key.q * ((by_p - by_q) * key.iqmp % key.p)


def _other_payload(bench: Bench) -> str:
    header, _, signature = bench.good().split(".")
    return f"{header}.{part(dump(bench.claims(sub='admin')))}.{signature}"


def _respelled(token: str, position: int) -> str:
    """Set the unused bits of a part's last character: the same bytes, another string."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    parts = token.split(".")
    text = parts[position]
    assert len(text) % 4, "a part without unused bits has no second spelling"
    parts[position] = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    return ".".join(parts)


def _signed_respelled(bench: Bench, position: int) -> str:
    """Sign over the second spelling of the header or the payload."""
    header, payload = dump(bench.header()), dump(bench.claims())
    header += b" " * (len(header) % 3 == 0)
    payload += b" " * (len(payload) % 3 == 0)
    signing_input = _respelled(f"{part(header)}.{part(payload)}", position)
    return f"{signing_input}.{part(bench.party.key().sign(signing_input.encode()))}"


def _in_standard_alphabet(bench: Bench) -> str:
    for counter in range(1000):
        token = bench.with_claims(n=counter)
        signing_input, _, signature = token.rpartition(".")
        if "-" in signature or "_" in signature:
            return f"{signing_input}.{signature.replace('-', '+').replace('_', '/')}"
    raise AssertionError("no signature with - or _ in a thousand")


def _json_serialised(bench: Bench) -> str:
    protected, payload, signature = bench.good().split(".")
    return json.dumps({"protected": protected, "payload": payload, "signature": signature})


def _low_order_forgery(_signature: bytes, _signing_input: bytes) -> bytes:
    """R and S of the neutral element: valid for a key of small order, and only there."""
    return b"\x01" + bytes(63)


def _groups(size: int) -> Callable[[Bench], object]:
    """List the groups of a caller who is in many, with about ``size`` characters in all."""
    return lambda _bench: [f"group-{number:029}" for number in range(size // 38)]


def _accepted() -> Iterator[JwtCase]:
    for algorithm in PUBLIC_ALGORITHMS:
        yield JwtCase(f"J0 good {algorithm}", header(algorithm), BOTH)
    yield JwtCase("J0 aud list", lambda b: b.with_claims(aud=["x", b.party.audience]), BOTH)
    yield JwtCase("J0 no typ", header(typ=GONE), BOTH)
    yield JwtCase("J0 typ at+jwt", header(typ="at+jwt"), BOTH)
    yield JwtCase("J0 typ in lower case", header(typ="jwt"), BOTH)
    yield JwtCase("J0 typ JOSE", header(typ="JOSE"), BOTH)
    yield JwtCase("J0 unknown plain header member", header(ver="2"), BOTH)
    yield JwtCase("J0 unknown claims", lambda b: b.with_claims(roles=["a", {"b": 1}]), BOTH)
    yield JwtCase("J0 iat with a fraction", lambda b: b.with_claims(iat=b.now - 0.5), BOTH)
    for size in (7000, 9000, 12_000):
        yield JwtCase(f"J0 {size} characters of groups", claims(pad=_groups(size)), BOTH)
    yield JwtCase("J0 no jti", lambda b: b.with_claims(jti=GONE), FOREIGN)


_SUBJECT = serialization.PublicFormat.SubjectPublicKeyInfo


def _spell(
    encoding: serialization.Encoding, layout: serialization.PublicFormat = _SUBJECT
) -> Callable[[Party, str], bytes]:
    return lambda party, algorithm: party.public(algorithm).public_bytes(encoding, layout)


def _as_pkcs1(party: Party, algorithm: str) -> bytes:
    """CVE-2017-11424: the older PEM of RSA keys, which a list of forbidden prefixes forgot."""
    is_rsa = isinstance(party.public(algorithm), rsa.RSAPublicKey)
    layout = serialization.PublicFormat.PKCS1 if is_rsa else _SUBJECT
    return _spell(serialization.Encoding.PEM, layout)(party, algorithm)


# Everything a public key has been taken for an HMAC secret as.
KEY_SPELLINGS: Mapping[str, Callable[[Party, str], bytes]] = {
    "PEM": _spell(serialization.Encoding.PEM),
    "PEM without its last newline": lambda p, a: KEY_SPELLINGS["PEM"](p, a).rstrip(),
    "PKCS #1 PEM": _as_pkcs1,
    "DER": _spell(serialization.Encoding.DER),
    "OpenSSH (CVE-2022-29217)": _spell(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ),
    "JWK": lambda p, a: dump(p.key(a).publish()),
    "JWKS": lambda p, a: dump({"keys": [p.key(a).publish()]}),
    "nothing": lambda _p, _a: b"",
}


def _algorithms() -> Iterator[JwtCase]:
    for name in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "eddsa",
        "ES256K",
        "HS512",
        ["EdDSA"],
        None,
        1,
    ):
        yield JwtCase(f"J1 alg {name!r} unsigned", unsigned(name))
        yield JwtCase(f"J1 alg {name!r} signed", header(alg=name))
    yield JwtCase("J1 alg missing", header(alg=GONE))
    yield JwtCase(
        "J1 alg given twice",
        lambda b: b.sign(b'{"alg":"none",' + dump(b.header())[1:], dump(b.claims())),
    )

    for algorithm in PUBLIC_ALGORITHMS:
        for name, spell in KEY_SPELLINGS.items():
            yield JwtCase(
                f"J2 HS256 with the {algorithm} public key as {name}",
                confused(algorithm, spell),
            )

    for claimed in ("RS384", "RS512", "PS512", "ES384", "ES512", "HS256", "Ed448", "EdDSA"):
        yield JwtCase(
            f"J3 {claimed} claimed for an RS256 key",
            header("RS256", alg=claimed),
        )
    yield JwtCase("J3 PS256 on an RS256 key", rsa_signature("RS256", _pss(hashes.SHA256(), 32)))
    yield JwtCase("J3 RS256 on a PS256 key", rsa_signature("PS256", padding.PKCS1v15()))
    yield JwtCase(
        "J3 RS256 signed and claimed under a PS256 key's kid", header("RS256", kid="PS256-1")
    )
    yield JwtCase("J3 ES256 claimed for an Ed25519 key", header(alg="ES256"))


def _signatures() -> Iterator[JwtCase]:
    def spoilt(name: str, make: Callable[[bytes, bytes], bytes], algorithm: str) -> JwtCase:
        return JwtCase(f"J4 {algorithm} {name}", signature(make, algorithm))

    for algorithm in PUBLIC_ALGORITHMS:
        yield spoilt("empty", lambda _s, _i: b"", algorithm)
        yield spoilt("one byte", lambda _s, _i: b"\0", algorithm)
        yield spoilt("truncated", lambda s, _i: s[:-1], algorithm)
        yield spoilt("extended", lambda s, _i: s + b"\0", algorithm)
        yield spoilt("zero before it", lambda s, _i: b"\0" + s, algorithm)
        yield spoilt("first bit flipped", lambda s, _i: bytes([s[0] ^ 0x80]) + s[1:], algorithm)
        yield spoilt("last bit flipped", lambda s, _i: s[:-1] + bytes([s[-1] ^ 1]), algorithm)
        yield spoilt("all zero", lambda s, _i: bytes(len(s)), algorithm)
        yield spoilt("all ones", lambda s, _i: b"\xff" * len(s), algorithm)
        yield spoilt("twice", lambda s, _i: s + s, algorithm)

    order = P256_ORDER.to_bytes(32, "big")
    one = (1).to_bytes(32, "big")
    edges = {"0": bytes(32), "1": one, "n": order, "max": b"\xff" * 32}
    for r_name, r in edges.items():
        for s_name, s in edges.items():
            yield spoilt(f"r={r_name} s={s_name}", constant(r + s), "ES256")
    yield spoilt("r=0", lambda s, _i: bytes(32) + s[32:], "ES256")
    yield spoilt("s=0", lambda s, _i: s[:32] + bytes(32), "ES256")
    yield spoilt("r and s swapped", lambda s, _i: s[32:] + s[:32], "ES256")
    yield spoilt("r + n", _oversized_scalars, "ES256")
    yield spoilt("negated r", _negated, "ES256")
    yield spoilt("padded to P-384", lambda s, _i: bytes(16) + s[:32] + bytes(16) + s[32:], "ES256")
    yield JwtCase(
        "J4 ES256 as DER", lambda b: b.with_signature(lambda s, i: _der_signature(s, i, b), "ES256")
    )
    yield spoilt("S + L", _shifted_scalar, "EdDSA")
    yield spoilt("of small order", _low_order_forgery, "EdDSA")
    yield JwtCase("J4 RS256 plus its modulus", _integer_plus_modulus)
    for name, scheme in (
        ("with an empty salt", _pss(hashes.SHA256(), 0)),
        ("with a salt of 20 bytes", _pss(hashes.SHA256(), 20)),
        ("with MGF1 of SHA-1", _pss(hashes.SHA1(), 32)),
        ("with MGF1 of SHA-512", _pss(hashes.SHA512(), 32)),
    ):
        yield JwtCase(f"J4 PS256 {name}", rsa_signature("PS256", scheme))
    right = _with_block(lambda h, n: _padded(DIGEST_INFO + h, n))
    yield JwtCase("J4 RS256 of a block that is right", right, BOTH)
    for name, block in BLOCKS.items():
        yield JwtCase(f"J4 RS256 of a block with {name}", _with_block(block))
    yield JwtCase("J4 another payload under a good signature", _other_payload)
    yield JwtCase("J4 signed by a stranger under our kid", lambda b: _by_stranger(b))


def _headers() -> Iterator[JwtCase]:
    nowhere = "http://127.0.0.1:9/jwks.json"
    yield JwtCase("J5 embedded jwk", lambda b: _by_stranger(b, jwk=True))
    yield JwtCase("J5 embedded jwk without kid", lambda b: _by_stranger(b, jwk=True, kid=GONE))
    yield JwtCase("J5 jku", lambda b: _by_stranger(b, jku=nowhere))
    yield JwtCase("J5 x5u", lambda b: _by_stranger(b, x5u=nowhere))
    yield JwtCase("J5 x5c", lambda b: _by_stranger(b, x5c=["MIIB"]))
    yield JwtCase(
        "J5 jwk of our own key, signed by it", lambda b: b.with_header(jwk=b.party.key().publish())
    )

    for kid in ("unknown", "../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "EdDSA-1\0", ""):
        yield JwtCase(f"J6 kid {kid!r}", header(kid=kid))
    for value in (1, 1.5, True, None, ["EdDSA-1"], {"kid": "EdDSA-1"}, "EdDSA-2", "eddsa-1"):
        yield JwtCase(f"J6 kid {value!r} by type", header(kid=value))
    yield JwtCase("J6 kid of 1 MB", header(kid="k" * 2**20))
    yield JwtCase("J6 kid of 2 KB", header(kid="k" * 2048))
    # RFC 7515 section 4.1.4: a kid is a hint. Our own tokens always have one.
    yield JwtCase("J6 no kid beside several keys", header(kid=GONE), FOREIGN)
    yield JwtCase(
        "J6 kid twice", lambda b: b.sign(b'{"kid":"x",' + dump(b.header())[1:], dump(b.claims()))
    )

    for crit in (["exp"], [], ["b64"], ["http://example.com/x"], "exp", None, [1]):
        yield JwtCase(f"J7 crit {crit!r}", header(crit=crit, exp=1))
    for unencoded in (False, True, "false"):
        yield JwtCase(f"J7 b64 {unencoded!r}", header(b64=unencoded))
    yield JwtCase("J7 b64 false and critical", lambda b: b.with_header(b64=False, crit=["b64"]))

    yield JwtCase("J8 zip", header(zip="DEF"))
    yield JwtCase("J8 enc", header(enc="A256GCM"))
    yield JwtCase("J8 huge p2c", header(alg="PBES2-HS256+A128KW", p2c=2**31, p2s="AAAA"))
    yield JwtCase("J8 JWE of five parts", lambda b: f"{b.good()}.AAAA.AAAA")
    yield JwtCase(
        "J8 JWE dir, five parts",
        lambda b: ".".join(
            [part(dump({"alg": "dir", "enc": "A128GCM"})), "", "AAAA", "AAAA", "AAAA"]
        ),
    )

    yield JwtCase(
        "J9 cty JWT around a token", lambda b: b.sign(dump(b.header(cty="JWT")), b.good().encode())
    )
    yield JwtCase("J9 token as the payload", lambda b: b.with_payload(b.good().encode()))
    yield JwtCase("J9 token as a JSON string", lambda b: b.with_payload(dump(b.good())))
    yield JwtCase("J9 JSON serialisation", _json_serialised)

    for media_type in ("JWE", "dpop+jwt", "id_token+jwt", "assertion+jwt", "", 1, None, ["JWT"]):
        yield JwtCase(f"J11 typ {media_type!r}", header(typ=media_type))


def _times() -> Iterator[JwtCase]:
    yield JwtCase("J10 exp missing", lambda b: b.with_claims(exp=GONE), OWN)
    yield JwtCase("J10 exp past", lambda b: b.with_claims(exp=b.now - b.leeway_seconds - 1))
    yield JwtCase(
        "J10 exp at the leeway's end", lambda b: b.with_claims(exp=b.now - b.leeway_seconds)
    )
    yield JwtCase(
        "J10 exp within the leeway",
        lambda b: b.with_claims(exp=b.now - b.leeway_seconds + 5),
        FOREIGN,
    )
    yield JwtCase("J10 exp soon", lambda b: b.with_claims(exp=b.now + 30), BOTH)
    yield JwtCase("J10 exp a string", lambda b: b.with_claims(exp=str(b.now + 60)))
    for spelling in (
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "false",
        "null",
        "[4102444800]",
        "{}",
        "-1",
        "0",
        "-0.5",
        "-0",
        "0.5",
        "-1e9",
        "1e12",
        "253402300800",
        "253402300799.5",
        "1e308",
        "4102444800." + "0" * 100,
        "9" * 20,
        "9" * 5000,
        "04102444800",
        "0x7fffffff",
    ):
        yield JwtCase(f"J10 exp {spelling[:24]} ({len(spelling)})", raw_time("exp", spelling))
    # RFC 7519 section 2: a NumericDate may have a fraction, and JSON may spell it with an exponent.
    for spelling in (
        "9e9",
        "9E+9",
        "4102444800.0",
        "4102444800.123456789",
        "4102444800.1234567890123456789012345",
        "4.1024448e9",
        "253402300799",
        "253402300799.0",
    ):
        yield JwtCase(f"J10 exp {spelling}", raw_time("exp", spelling), BOTH)
    yield JwtCase(
        "J10 exp a fraction past",
        lambda b: b.with_claims(exp=b.now - b.leeway_seconds - 0.25),
    )
    yield JwtCase("J10 exp a fraction soon", lambda b: b.with_claims(exp=b.now + 30.5), BOTH)

    for name in ("nbf", "iat"):
        late: dict[str, Callable[[Bench], object]] = {
            "far in the future": lambda b: b.now + 3600,
            "beyond the leeway": lambda b: b.now + b.leeway_seconds + 30,
            "a string": lambda b: str(b.now - 60),
            "a bool": lambda _b: True,
            "null": lambda _b: None,
            "negative": lambda _b: -1,
            "a list": lambda b: [b.now],
        }
        for what, value in late.items():
            yield JwtCase(f"J10 {name} {what}", claims(**{name: value}))
        yield JwtCase(
            f"J10 {name} within the leeway",
            claims(**{name: lambda b: b.now + b.leeway_seconds - 5}),
            BOTH,
        )
        yield JwtCase(
            f"J10 {name} a fraction beyond the leeway",
            claims(**{name: lambda b: b.now + b.leeway_seconds + 30.5}),
        )
        yield JwtCase(f"J10 {name} a fraction ago", claims(**{name: lambda b: b.now - 60.5}), BOTH)
        for spelling in ("1e9", "1.5E9", "0", "0.5"):
            yield JwtCase(f"J10 {name} {spelling}", raw_time(name, spelling), BOTH)
        for spelling in ("NaN", "Infinity", "1e999", "-0.5", "1e308", "9" * 5000):
            yield JwtCase(f"J10 {name} {spelling[:24]}", raw_time(name, spelling))


BAD_ACCOUNTS: tuple[object, ...] = (
    *(1, True, None, 1.5, [], ["acme"], {}, GONE),
    *("", " ", "acme ", "acme\r\nX-Account: x", "acme\n", "acme\0", "é", "ａｃｍｅ", "\ud800"),
    *("a" * 129, "a" * 4000, "a/b", "a:b", "a b"),
)
BAD_TOKEN_IDS: tuple[object, ...] = (1, None, [], True, "", "a\r\nb", "é", "j" * 257)


def _names() -> Iterator[JwtCase]:
    for issuer in ("other", "", None, 1, ["sidecar"], {"a": 1}, GONE):
        label = "missing" if issuer is GONE else repr(issuer)
        yield JwtCase(f"J11 iss {label}", claims(iss=issuer))
    yield JwtCase("J11 iss with a space", lambda b: b.with_claims(iss=b.party.issuer + " "))
    yield JwtCase(
        "J11 iss a part of ours (CVE-2024-53861)", lambda b: b.with_claims(iss=b.party.issuer[:-1])
    )
    yield JwtCase("J11 iss in upper case", lambda b: b.with_claims(iss=b.party.issuer.upper()))
    for audience in ("other", "", None, 1, [], ["other"], [1], [None], {"a": 1}, GONE):
        label = "missing" if audience is GONE else repr(audience)
        yield JwtCase(f"J11 aud {label}", claims(aud=audience))
    yield JwtCase(
        "J11 aud ours beside a number", lambda b: b.with_claims(aud=[b.party.audience, 1])
    )
    yield JwtCase("J11 aud with ours inside", lambda b: b.with_claims(aud=f"x{b.party.audience}x"))
    yield JwtCase("J11 aud a list in a list", lambda b: b.with_claims(aud=[[b.party.audience]]))
    yield JwtCase(
        "J11 aud of a thousand", lambda b: b.with_claims(aud=["x"] * 1000 + [b.party.audience])
    )

    for name in ("sub", "aud", "exp", "iss", "jti"):
        yield JwtCase(f"J13 {name} twice", doubled(name))
    yield JwtCase("J13 sub twice, once escaped", raw_claim('"s\u0075b":"admin"'))
    for subject in BAD_ACCOUNTS:
        label = "missing" if subject is GONE else ascii(subject)[:24]
        size = len(subject) if isinstance(subject, str) else 0
        yield JwtCase(f"J13 sub {label} ({size})", claims(sub=subject))
    for token_id in BAD_TOKEN_IDS:
        label = ascii(token_id)[:24]
        yield JwtCase(f"J13 jti {label}", claims(jti=token_id))
    yield JwtCase("J13 jti missing on our own", lambda b: b.with_claims(jti=GONE), FOREIGN)


def _spellings() -> Iterator[JwtCase]:
    around: dict[str, Callable[[str], str]] = {
        "padded": lambda t: t + "==",
        "padded once": lambda t: t + "=",
        "padded header": lambda t: t.replace(".", "==.", 1),
        "space after": lambda t: t + " ",
        "space before": lambda t: " " + t,
        "newline after": lambda t: t + "\n",
        "newline inside": lambda t: t.replace(".", ".\n", 1),
        "NUL after": lambda t: t + "\0",
        "tab inside": lambda t: t.replace(".", "\t.", 1),
        "two parts": lambda t: t.rpartition(".")[0],
        "one part": lambda t: t.partition(".")[0],
        "four parts": lambda t: t + ".AAAA",
        "a dot after": lambda t: t + ".",
        "a dot before": lambda t: "." + t,
        "two dots": lambda t: t.replace(".", "..", 1),
        "no header": lambda t: t[t.index(".") :],
        "no payload": lambda t: ".".join([t.split(".")[0], "", t.split(".")[2]]),
        "only dots": lambda _t: "..",
        "nothing": lambda _t: "",
        "a full-width letter": lambda t: t[:-1] + "Ａ",
        "quoted": lambda t: f'"{t}"',
        "a comma and another": lambda t: f"{t},{t}",
        "signature in another spelling": lambda t: _respelled(t, 2),
        "a part with a lone character": lambda t: t + "AAA",
    }
    for name, respell in around.items():
        yield JwtCase(f"J12 {name}", respelled(respell))
    yield JwtCase("J12 standard alphabet", _in_standard_alphabet)
    yield JwtCase("J12 header signed in another spelling", lambda b: _signed_respelled(b, 0))
    yield JwtCase("J12 payload signed in another spelling", lambda b: _signed_respelled(b, 1))


def _payloads() -> Iterator[JwtCase]:
    for name, content in {
        "array": b"[]",
        "string": b'"x"',
        "number": b"1",
        "null": b"null",
        "empty object": b"{}",
        "no JSON": b"x",
        "invalid UTF-8": b'{"sub":"\xff"}',
        "a byte": b"\0",
    }.items():
        yield JwtCase(f"J13 payload {name}", payload(content))
    for encoding in ("utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"):
        yield JwtCase(f"J13 payload in {encoding}", encoded(encoding))
    yield JwtCase("J13 payload and more", lambda b: b.with_payload(dump(b.claims()) + b"{}"))
    yield JwtCase("J13 comment", lambda b: b.with_payload(dump(b.claims()) + b"//"))
    yield JwtCase("J13 comma at the end", lambda b: b.with_payload(dump(b.claims())[:-1] + b",}"))

    yield JwtCase("J14 header of 16 KB", header(pad="x" * 16384))
    yield JwtCase("J14 header of 5 KB", header(pad="x" * 5000))
    yield JwtCase("J14 payload of 1 MB", lambda b: b.with_claims(pad="x" * 2**20))
    for depth in (17, 500, 2500):
        yield JwtCase(f"J14 {depth} lists deep", raw_claim(f'"x":{"[" * depth}{"]" * depth}'))
        yield JwtCase(f"J14 {depth} lists deep, never closed", raw_claim(f'"x":{"[" * depth}'))
    yield JwtCase("J14 500 objects deep", raw_claim('"x":' + '{"x":' * 500 + "1" + "}" * 500))
    for spelling in ("7" * 5000, "-" + "7" * 100, "0." + "7" * 4000, "1e400", "1E+400", "7" * 25):
        yield JwtCase(
            f"J14 number of {len(spelling)} characters {spelling[:6]}", raw_claim(f'"x":{spelling}')
        )


JWT_CASES: tuple[JwtCase, ...] = (
    *_accepted(),
    *_algorithms(),
    *_signatures(),
    *_headers(),
    *_times(),
    *_names(),
    *_spellings(),
    *_payloads(),
)
