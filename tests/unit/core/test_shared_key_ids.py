"""Which key of an issuer verifies a JWT: the one that fits its ``kid`` and algorithm, of several.

The tokens are PyJWT's, so that no code of ours made them.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jwt
import pytest

from sidecar.core.key_documents import load_key, load_key_set
from sidecar.core.keys import KeyRing, generate_key
from sidecar.core.model import Denial
from sidecar.core.signed_tokens import (
    MAX_CANDIDATES,
    NeedsKeys,
    SignedTokens,
    TrustedIssuer,
    VerifiedToken,
)

NOW = 1_800_000_000
ISSUER = "https://login.example.com/"
ALGORITHMS = ("RS256", "ES256", "EdDSA", "PS256")


@cache
def pem(algorithm: str, number: int = 0) -> str:
    return generate_key(algorithm)


def published(algorithm: str, kid: str | None, number: int = 0) -> dict[str, str]:
    jwk = load_key("any", algorithm, pem(algorithm, number)).publish()
    del jwk["kid"]
    return jwk if kid is None else jwk | {"kid": kid}


def signed(algorithm: str, kid: str | None, number: int = 0) -> str:
    claims = {"iss": ISSUER, "aud": "listener", "sub": "acme", "exp": NOW + 60}
    headers: dict[str, Any] = {} if kid is None else {"kid": kid}
    return jwt.encode(claims, pem(algorithm, number), algorithm, headers)


def judge_of(*jwks: object) -> SignedTokens:
    document = json.dumps({"keys": jwks}).encode()
    ring = KeyRing(load_key_set(document, ALGORITHMS, is_local=False).keys)
    trusted = TrustedIssuer(ISSUER, "listener", ALGORITHMS, ring)
    return SignedTokens("sidecar", "listener", 10, (), (trusted,))


RSA, CURVE, EDWARDS = (published(name, "k1") for name in ("RS256", "ES256", "EdDSA"))
BARE = [published(name, None) for name in ("RS256", "ES256", "EdDSA")]
BROKEN: dict[str, object] = {"kty": "EC", "kid": "k1", "crv": "P-521", "x": "AA", "y": "AA"}
SETS: dict[str, list[object]] = {
    "two types under one kid": [RSA, CURVE],
    "the same, the other way round": [CURVE, RSA],
    "three types under one kid": [RSA, CURVE, EDWARDS],
    "the same key twice": [RSA, RSA, CURVE],
    "a broken key under the same kid": [BROKEN, RSA, CURVE],
    "an unknown type under the same kid": [{"kty": "AKP", "kid": "k1"}, RSA, CURVE],
    "an encryption key under the same kid": [{**RSA, "use": "enc"}, RSA, CURVE],
    "a shared secret under the same kid": [{"kty": "oct", "kid": "k1", "k": "A" * 43}, RSA, CURVE],
    "a replaced key before its successor": [published("RS256", "k1", 1), RSA, CURVE],
    "a key without a kid beside them": [BARE[2], RSA, CURVE],
}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("jwks", SETS.values(), ids=SETS)
def test_each_key_of_a_kid_verifies_its_own_tokens(jwks: list[object], algorithm: str) -> None:
    judge = judge_of(*jwks)
    assert isinstance(judge.verify_now(signed(algorithm, "k1"), NOW), VerifiedToken)
    assert isinstance(judge.verify_now(signed(algorithm, "other"), NOW), NeedsKeys)
    stranger = judge.verify_now(signed(algorithm, "k1", 2), NOW)
    assert stranger == Denial("invalid_token", "The token's signature is not valid.")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("jwks", [BARE, BARE[::-1], [RSA, CURVE, EDWARDS], [*BARE, *BARE]])
def test_a_token_without_a_kid_is_verified_by_whichever_key_signed_it(
    jwks: list[object], algorithm: str
) -> None:
    judge = judge_of(*jwks)
    assert isinstance(judge.verify_now(signed(algorithm, None), NOW), VerifiedToken)
    assert isinstance(judge.verify_now(signed(algorithm, None, 2), NOW), Denial)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("jwks", [BARE, [RSA, *BARE], [BARE[0], BARE[1], BARE[2], CURVE]])
def test_a_token_whose_kid_no_key_has_may_be_of_a_key_without_one(
    jwks: list[object], algorithm: str
) -> None:
    judge = judge_of(*jwks)
    assert isinstance(judge.verify_now(signed(algorithm, "new"), NOW), VerifiedToken)
    assert isinstance(judge.verify_now(signed(algorithm, "new", 2), NOW), NeedsKeys)


def test_where_a_key_has_the_kid_no_other_is_tried() -> None:
    judge = judge_of(published("RS256", "k1", 1), BARE[0])
    assert isinstance(judge.verify_now(signed("RS256", "k1", 1), NOW), VerifiedToken)
    assert isinstance(judge.verify_now(signed("RS256", "k1"), NOW), Denial)


def test_no_more_keys_are_tried_than_a_bound_and_the_denial_says_so() -> None:
    numbers = range(MAX_CANDIDATES + 1)
    judge = judge_of(*(published("ES256", "k1", number) for number in numbers))
    for number in numbers[:-1]:
        assert isinstance(judge.verify_now(signed("ES256", "k1", number), NOW), VerifiedToken)
    verdict = judge.verify_now(signed("ES256", "k1", numbers[-1]), NOW)
    assert isinstance(verdict, Denial)
    assert "the first 8 of 9 keys" in verdict.detail


def test_an_algorithm_that_no_key_of_a_kid_has_is_refused_without_another_look() -> None:
    verdict = judge_of(RSA, CURVE).verify_now(signed("EdDSA", "k1"), NOW)
    assert verdict == Denial("invalid_token", "The token's signing key is unknown.")
