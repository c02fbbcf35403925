"""Which keys are loaded, how, and which are refused before the first socket opens."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
from functools import cache
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from sidecar.core.key_documents import MAX_KEYS, export_key_set, load_key, load_key_set
from sidecar.core.keys import (
    ALGORITHMS,
    KeyRing,
    OwnKeys,
    bind_key,
    check_algorithms,
    check_signing_keys,
    generate_key,
)
from sidecar.core.strict_json import read_object
from tests.conformance.jwt_cases import Pems

PUBLIC = ("EdDSA", "ES256", "RS256", "PS256")
TEXTS = Pems()
SHORT_RSA = rsa.generate_private_key(65537, 1024)
PRIME = 2**255 - 19
ORDER_8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
SECRET = "correct horse battery staple and more"


def to_pem(key: Any, password: bytes | None = None) -> str:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return pem.decode()


def public_pem(algorithm: str) -> str:
    private = serialization.load_pem_private_key(TEXTS[algorithm].encode(), password=None)
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def oct_jwk(secret: bytes = b"s" * 32, **members: object) -> dict[str, object]:
    k = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    return {"kty": "oct", "k": k, **members}


def public_jwk(algorithm: str, **changes: object) -> dict[str, object]:
    jwk: dict[str, object] = {**_published(algorithm), **changes}
    return {name: value for name, value in jwk.items() if value is not None}


@cache
def _published(algorithm: str) -> dict[str, str]:
    text = TEXTS["RS256" if algorithm == "PS256" else algorithm]  # RSA keys take long to make
    return load_key("k1", algorithm, text).publish()


def short_rsa_jwk() -> dict[str, object]:
    n = SHORT_RSA.public_key().public_numbers().n
    modulus = base64.urlsafe_b64encode(n.to_bytes(128, "big")).decode().rstrip("=")
    return {"kty": "RSA", "kid": "short", "n": modulus, "e": "AQAB"}


def key_set(*jwks: object) -> bytes:
    return json.dumps({"keys": jwks}).encode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_generated_key_loads_signs_and_verifies(algorithm: str) -> None:
    key = load_key("k1", algorithm, generate_key(algorithm))
    signature = key.sign(b"message")
    assert key.has_private_half
    assert key.is_signature(signature, b"message")
    assert not key.is_signature(signature, b"another message")
    assert not key.is_signature(b"", b"message")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_repr_shows_a_key(algorithm: str) -> None:
    key = load_key("k1", algorithm, TEXTS[algorithm])
    assert repr(key) == f"Key(id='k1', algorithm='{algorithm}')"


@pytest.mark.parametrize("algorithm", PUBLIC)
def test_a_public_key_verifies_and_cannot_sign(algorithm: str) -> None:
    signature = load_key("k1", algorithm, TEXTS[algorithm]).sign(b"m")
    public = load_key("k1", algorithm, public_pem(algorithm))
    assert public.is_signature(signature, b"m")
    with pytest.raises(ValueError, match="no private half"):
        public.sign(b"m")


@pytest.mark.parametrize("algorithm", PUBLIC)
def test_a_published_key_is_its_public_half_and_reads_back(algorithm: str) -> None:
    key = load_key("k1", algorithm, TEXTS[algorithm])
    document = export_key_set([key])
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & document["keys"][0].keys()
    ((read,), _) = load_key_set(json.dumps(document).encode(), (algorithm,), is_local=False)
    assert (read.id, read.algorithm, read.has_private_half) == ("k1", algorithm, False)
    assert read.is_signature(key.sign(b"m"), b"m")


def test_a_shared_secret_is_never_published() -> None:
    key = load_key("k1", "HS256", TEXTS["HS256"])
    assert export_key_set([key]) == {"keys": []}
    with pytest.raises(ValueError, match="never published"):
        key.publish()


def test_a_secret_is_the_text_without_the_white_space_around_it() -> None:
    plain, in_file = load_key("k", "HS256", SECRET), load_key("k", "HS256", f"{SECRET}\n")
    assert plain.sign(b"m") == in_file.sign(b"m")


def test_a_private_jwk_loads_like_its_pem() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    raw = private.private_bytes_raw(), private.public_key().public_bytes_raw()
    d, x = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "d": d, "use": "sig", "alg": "EdDSA"}
    from_jwk = load_key("k", "EdDSA", json.dumps(jwk))
    assert from_jwk.sign(b"m") == load_key("k", "EdDSA", to_pem(private)).sign(b"m")


@pytest.mark.parametrize(
    ("algorithm", "text", "reason"),
    [
        ("HS256", "s" * 31, "shorter than 32 bytes"),
        ("HS256", "", "shorter than 32 bytes"),
        ("HS256", json.dumps(oct_jwk(b"s" * 31)), "shorter than 32 bytes"),
        ("HS256", TEXTS["RS256"], "another kind of key"),
        ("HS256", public_pem("RS256"), "another kind of key"),
        ("HS256", json.dumps(oct_jwk(public_pem("ES256").encode())), "another kind of key"),
        ("HS256", json.dumps(public_jwk("RS256", alg=None)), "not a key for HS256"),
        ("RS256", to_pem(SHORT_RSA), "shorter than 2048 bits"),
        ("PS256", to_pem(SHORT_RSA), "shorter than 2048 bits"),
        ("ES256", TEXTS["RS256"], "not a key for ES256"),
        ("RS256", TEXTS["ES256"], "not a key for RS256"),
        ("EdDSA", TEXTS["ES256"], "not a key for EdDSA"),
        ("EdDSA", to_pem(ed448.Ed448PrivateKey.generate()), "not a key for EdDSA"),
        ("ES256", to_pem(ec.generate_private_key(ec.SECP384R1())), "not a key for ES256"),
        ("ES256", to_pem(ec.generate_private_key(ec.SECP256K1())), "not a key for ES256"),
        ("EdDSA", TEXTS["HS256"], "neither a readable PEM key nor a JWK"),
        ("EdDSA", "", "neither a readable PEM key nor a JWK"),
        ("EdDSA", TEXTS["EdDSA"][:60], "neither a readable PEM key nor a JWK"),
        ("RS256", to_pem(SHORT_RSA, b"pw"), "encrypted"),
        ("RS256", json.dumps(public_jwk("RS256", use="enc")), "use is not sig"),
        ("RS256", json.dumps(public_jwk("RS256", key_ops=["encrypt"])), "key_ops"),
        ("RS256", json.dumps(public_jwk("RS256", key_ops="verify")), "key_ops"),
        ("PS256", json.dumps(public_jwk("RS256")), "alg is not PS256"),
        ("RS256", '{"kty": "RSA"}', "not form a valid key"),
        ("RS256", '{"kty": "RSA", "n": 1, "e": []}', "not form a valid key"),
        ("ES256", '{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}', "not form a valid key"),
        ("RS256", '{"kty": "what"}', "kty"),
        ("RS256", '{"kty": "RSA", "kty": "RSA"}', "not strict JSON"),
        ("RS256", json.dumps(public_jwk("RS256", e="AQ")), "not form a valid key"),
        ("RS256", json.dumps(public_jwk("RS256", e="Ag")), "not form a valid key"),
        ("none", "", "algorithm 'none'"),
        ("HS512", "s" * 64, "algorithm 'HS512'"),
        ("RSA1_5", "", "algorithm 'RSA1_5'"),
    ],
    ids=itertools.count(),
)
def test_an_unfit_key_is_refused_with_its_reason_and_none_of_its_text(
    algorithm: str, text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        load_key("k1", algorithm, text)
    lines = [line for line in text.splitlines() if len(line) > 20]
    assert not any(line[:20] in str(caught.value) for line in lines)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_key_of_a_flawed_chip_is_refused() -> None:
    """Whatever its factors are, its modulus is known by what is left of it by small primes."""
    modulo = math.prod(p for p in range(2, 168) if all(p % d for d in range(2, p)))
    halves = [(modulo << 808 - place) + pow(65537, 12345 + place, modulo) for place in (0, 1)]
    flawed = rsa.RSAPublicNumbers(65537, math.prod(halves)).public_key()
    assert flawed.key_size >= 2048
    with pytest.raises(ValueError, match="CVE-2017-15361"):
        bind_key("k1", "RS256", flawed)


@pytest.mark.parametrize("y", [0, 1, PRIME - 1, ORDER_8, PRIME - ORDER_8, PRIME, PRIME + 1])
def test_a_key_that_everybody_can_sign_for_is_refused(y: int) -> None:
    """Of the messages, one in eight or more has the signature R = 1, S = 0 by such a key."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(y.to_bytes(32, "little"))
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert any(takes(key, forged, b"%d" % number) for number in range(200))
    with pytest.raises(ValueError, match="small order"):
        bind_key("k1", "EdDSA", key)
    opposite = (y | 1 << 255).to_bytes(32, "little")
    with pytest.raises(ValueError, match="small order"):
        bind_key("k1", "EdDSA", ed25519.Ed25519PublicKey.from_public_bytes(opposite))


def takes(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize(
    ("modulus", "exponent", "reason"),
    [
        (2**2047 + 2, 65537, "small factor"),
        (3 * (2**2047 + 1), 65537, "small factor"),
        (2**2047 + 9, 2**256 + 1, "exponent"),
    ],
)
def test_numbers_that_are_no_rsa_key_are_refused(modulus: int, exponent: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        bind_key("k1", "RS256", rsa.RSAPublicNumbers(exponent, modulus).public_key())


@pytest.mark.parametrize("key_id", ["", " ", "a b", "é", "k" * 257, "a\n"])
def test_a_key_id_that_no_header_could_carry_is_refused(key_id: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"):
        load_key(key_id, "EdDSA", TEXTS["EdDSA"])


@pytest.mark.parametrize(
    ("algorithms", "is_local", "reason"),
    [
        ((), True, "no algorithm"),
        (("HS256", "RS256"), True, "combined with public-key"),
        (("RS256", "HS256"), False, "combined with public-key"),
        (("HS256",), False, "from a file"),
        (("none",), True, "'none'"),
        (("RS256", "HS384"), True, "'HS384'"),
    ],
)
def test_algorithms_that_cannot_be_combined_are_refused(
    algorithms: tuple[str, ...], is_local: bool, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        check_algorithms(algorithms, is_local=is_local)


def test_own_keys_are_checked_together() -> None:
    private = load_key("k1", "EdDSA", TEXTS["EdDSA"])
    public = load_key("k2", "ES256", public_pem("ES256"))
    secret = load_key("k3", "HS256", TEXTS["HS256"])
    check_signing_keys(())
    check_signing_keys((private, public))
    for keys, reason in (
        ((public, private), "needs its private half"),
        ((private, secret), "combined with public keys"),
        ((private, load_key("k1", "ES256", TEXTS["ES256"])), "two keys have the id 'k1'"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_signing_keys(keys)


@pytest.mark.parametrize(
    ("jwk", "algorithms", "pinned"),
    [
        (public_jwk("RS256", alg=None), ("RS256",), "RS256"),
        (public_jwk("RS256", alg=None), ("PS256", "RS256"), "PS256"),
        (public_jwk("RS256", alg=None), ("ES256", "RS256"), "RS256"),
        (public_jwk("PS256"), ("RS256", "PS256"), "PS256"),
        (public_jwk("ES256", alg=None, use=None), ("RS256", "ES256"), "ES256"),
        (public_jwk("EdDSA", key_ops=["verify"]), ("EdDSA",), "EdDSA"),
        (public_jwk("RS256", kid=None, x5t="AAAA", x5c=["AAAA"]), ("RS256",), "RS256"),
    ],
)
def test_a_key_of_a_set_is_pinned_to_one_algorithm(
    jwk: dict[str, object], algorithms: tuple[str, ...], pinned: str
) -> None:
    ((key,), _) = load_key_set(key_set(jwk), algorithms, is_local=False)
    assert (key.id, key.algorithm) == (jwk.get("kid"), pinned)


UNFIT = [
    public_jwk("RS256", kid="enc", use="enc"),
    public_jwk("RS256", kid="ops", key_ops=["wrapKey"]),
    public_jwk("RS256", kid="alg", alg="RSA-OAEP"),
    public_jwk("RS256", kid="alg-list", alg=["RS256"]),
    public_jwk("EdDSA", kid="other"),
    {"kty": "unheard of", "kid": "new"},
    {},
]
NOT_FORMED = "its members do not form a valid key"
WRONG: dict[str, tuple[object, str]] = {
    "short": (short_rsa_jwk(), "the RSA key is shorter than 2048 bits"),
    "broken": ({"kty": "RSA", "n": "AA"}, NOT_FORMED),
    "not base64": (public_jwk("RS256", kid="k2", n="?" * 342), NOT_FORMED),
    "base64 of another length": (public_jwk("ES256", kid="k2", alg="RS256", x="AA"), NOT_FORMED),
    "unknown curve": (public_jwk("ES256", kid="k2", alg="RS256", crv="P-999"), NOT_FORMED),
    "kid a number": (
        public_jwk("RS256", kid=7),
        "its kid is not 1 to 256 visible ASCII characters",
    ),
    "text": ("text", "not a JSON object"),
    "null": (None, "not a JSON object"),
}


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("unfit", UNFIT, ids=lambda jwk: str(jwk.get("kid")))
def test_a_key_for_something_else_is_passed_over(unfit: object, is_local: bool) -> None:
    document = key_set(unfit, public_jwk("RS256"))
    loaded = load_key_set(document, ("RS256",), is_local=is_local)
    assert [key.id for key in loaded.keys] == ["k1"]
    assert [(key.position, key.is_odd) for key in loaded.skipped] == [(1, False)]


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_key_shuts_out_no_other(wrong: object, reason: str, is_local: bool) -> None:
    document = key_set(public_jwk("RS256"), wrong)
    loaded = load_key_set(document, ("RS256",), is_local=is_local)
    assert [key.id for key in loaded.keys] == ["k1"]
    assert [str(key) for key in loaded.skipped] == [f"key 2: {reason}"]
    assert loaded.skipped[0].is_odd


def test_of_a_set_that_is_too_long_the_first_keys_are_used() -> None:
    document = key_set(*[public_jwk("RS256", use="enc")] * 63, public_jwk("RS256"), *[{}] * 100)
    loaded = load_key_set(document, ("RS256",), is_local=False)
    assert len(loaded.keys) == 1
    assert len(loaded.skipped) == 64
    assert "at most 64 keys" in str(loaded.skipped[-1])


def test_a_byte_order_mark_in_front_of_a_set_is_ignored() -> None:
    document = b"\xef\xbb\xbf" + key_set(public_jwk("RS256"))
    assert len(load_key_set(document, ("RS256",), is_local=True).keys) == 1


def test_of_a_spiffe_bundle_the_keys_of_jwts_are_used() -> None:
    jwt_key = public_jwk("ES256", kid="j", use="jwt-svid", alg=None)
    x509_key = public_jwk("ES256", kid=None, use="x509-svid", alg=None, x5c=["MIIB"])
    loaded = load_key_set(key_set(x509_key, jwt_key), ("ES256",), is_local=True)
    assert [key.id for key in loaded.keys] == ["j"]
    assert [str(key) for key in loaded.skipped] == ["key 1: its use is not sig"]


@pytest.mark.parametrize("member", ["use", "alg", "key_ops", "kid"])
def test_a_member_that_is_null_counts_as_left_out(member: str) -> None:
    document = key_set(public_jwk("RS256") | {member: None})
    assert len(load_key_set(document, ("RS256",), is_local=False).keys) == 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not strict JSON"),
        (b"<html>", "not strict JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list"),
        (b'{"keys": {}}', "no list"),
        (b'{"keys": []}', "no usable key"),
        (key_set(*UNFIT), "no usable key; key 1: its use is not sig; key 2"),
        (key_set(*[{}] * (MAX_KEYS + 1)), "key 65: it and those after it are not read"),
        (b"\xef\xbb\xbf\xef\xbb\xbf" + key_set(public_jwk("RS256")), "not strict JSON"),
        (b'{"keys": ' + b"[" * 100_000, "not strict JSON"),
    ],
    ids=itertools.count(),
)
def test_a_set_without_a_usable_key_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_key_set(document, ("RS256",), is_local=False)


def test_a_file_may_hold_a_shared_secret_and_a_fetched_set_may_not() -> None:
    document = key_set(oct_jwk(kid="s1"))
    ((key,), _) = load_key_set(document, ("HS256",), is_local=True)
    assert key.is_secret
    with pytest.raises(ValueError, match="from a file"):
        load_key_set(document, ("HS256",), is_local=False)
    mixed = key_set(oct_jwk(kid="s1"), public_jwk("RS256"))
    assert [k.id for k in load_key_set(mixed, ("RS256",), is_local=False).keys] == ["k1"]


def test_a_set_of_weak_shared_secrets_alone_refuses_its_file() -> None:
    weak = oct_jwk(b"s" * 16)
    with pytest.raises(ValueError, match="shorter than 32 bytes"):
        load_key_set(key_set(weak), ("HS256",), is_local=True)
    loaded = load_key_set(key_set(weak, oct_jwk(kid="s2")), ("HS256",), is_local=True)
    assert [key.id for key in loaded.keys] == ["s2"]


def test_a_key_whose_private_half_is_published_is_not_trusted_and_a_file_may_hold_one() -> None:
    document = key_set(public_jwk("ES256", d="AAAA"), public_jwk("ES256", kid="k2"))
    fetched = load_key_set(document, ("ES256",), is_local=False)
    assert [key.id for key in fetched.keys] == ["k2"]
    assert "anybody can sign" in str(fetched.skipped[0])
    local = load_key_set(document, ("ES256",), is_local=True)
    assert [key.has_private_half for key in local.keys] == [False, False]


def test_a_ring_finds_by_kid_and_without_one_all_keys() -> None:
    one = load_key("a", "EdDSA", TEXTS["EdDSA"])
    two = load_key("b", "ES256", TEXTS["ES256"])
    other = load_key("b", "RS256", TEXTS["RS256"])
    ring = KeyRing([one, two, other])
    assert [*ring.find("a")] == [one]
    assert [*ring.find("b")] == [two, other]
    assert [*ring.find(None)] == [one, two, other]
    assert not ring.find("c")
    assert not KeyRing(()).find(None)


def test_of_several_keys_of_its_own_the_sidecar_takes_none_without_a_kid() -> None:
    one = load_key("a", "EdDSA", TEXTS["EdDSA"])
    two = load_key("b", "ES256", TEXTS["ES256"])
    assert [*OwnKeys((one,)).find(None)] == [one]
    assert not OwnKeys((one, two)).find(None)
    assert [*OwnKeys((one, two)).find("b")] == [two]


SHARED_KIDS = {
    "two types under one kid": (("RS256", "k1"), ("ES256", "k1")),
    "three types under one kid": (("RS256", "k1"), ("ES256", "k1"), ("EdDSA", "k1")),
    "two algorithms of one type under one kid": (("RS256", "k1"), ("PS256", "k1")),
    "several without a kid": (("RS256", None), ("ES256", None), ("EdDSA", None)),
    "some without a kid": (("RS256", "k1"), ("ES256", None)),
}


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("named", SHARED_KIDS.values(), ids=SHARED_KIDS)
def test_keys_that_share_a_kid_or_have_none_are_all_kept(
    named: tuple[tuple[str, str | None], ...], is_local: bool
) -> None:
    document = key_set(*(public_jwk(algorithm, kid=kid) for algorithm, kid in named))
    algorithms = ("RS256", "PS256", "ES256", "EdDSA")
    loaded = load_key_set(document, algorithms, is_local=is_local)
    assert [(key.algorithm, key.id) for key in loaded.keys] == [*named]
    assert loaded.skipped == ()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA", "HS256"])
@pytest.mark.parametrize("kid", ["k1", None])
def test_a_key_that_comes_twice_is_kept_once(algorithm: str, kid: str | None) -> None:
    make = oct_jwk if algorithm == "HS256" else functools.partial(public_jwk, algorithm)
    twice = key_set(make(kid=kid), make(kid=kid, x5t="AAAA"))
    loaded = load_key_set(twice, (algorithm,), is_local=True)
    assert [key.id for key in loaded.keys] == [kid]
    assert [str(key) for key in loaded.skipped] == ["key 2: it repeats key 1"]


@pytest.mark.parametrize(
    "document",
    [b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e999}',
     b'{"a":' + b"1" * 25 + b"}", b"{'a':1}", b'{"a":1}x', b'\xef\xbb\xbf{}', b'{"a":"\n"}',
     b"[" * 100_000, b'{"a":' * 20 + b"1" + b"}" * 20],
    ids=range(12),
)  # fmt: skip
def test_json_with_more_than_one_reading_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="JSON"):
        read_object(document)


def test_strict_json_reads_what_everyone_reads_alike() -> None:
    assert read_object(b' {"a": [1, -2.5e3, "\\u00e9", null, true]} ') == {
        "a": [1, -2500.0, "é", None, True]
    }
