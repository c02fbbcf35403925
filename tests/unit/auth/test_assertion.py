"""Assertions: what an upstream can verify, and how rarely a new one is signed."""

from __future__ import annotations

import json

import jwt
import pytest

from sidecar.auth.assertion import AssertionSigner, AssertionSubject
from sidecar.core.key_documents import export_key_set, load_key
from sidecar.core.keys import generate_key
from sidecar.core.model import Denial
from sidecar.core.signed_tokens import SignedTokens

NOW = 1_800_000_000.75
KEY = load_key("k1", "EdDSA", generate_key("EdDSA"))
ACME = AssertionSubject(account="acme", method="bearer", token_id="t1", token_name="shop")


def make_signer(capacity: int = 10) -> AssertionSigner:
    return AssertionSigner("sidecar", KEY, lifetime_seconds=60, capacity=capacity)


def read_claims(assertion: str) -> dict[str, object]:
    """Verify as an upstream does that has nothing but the published key set."""
    published = jwt.PyJWKSet.from_json(json.dumps(export_key_set([KEY])))
    kid = jwt.get_unverified_header(assertion)["kid"]
    claims: dict[str, object] = jwt.decode(
        assertion,
        published[kid].key,
        algorithms=["EdDSA"],
        audience="listener",
        issuer="sidecar",
        options={"verify_exp": False, "verify_iat": False},
    )
    return claims


def test_an_upstream_verifies_it_with_the_published_keys() -> None:
    assert read_claims(make_signer().assertion(ACME, "listener", NOW)) == {
        "iss": "sidecar",
        "aud": "listener",
        "sub": "acme",
        "iat": 1_800_000_000,
        "exp": 1_800_000_060,
        "method": "bearer",
        "token_id": "t1",
        "token_name": "shop",
    }


def test_a_caller_with_a_password_has_no_token_claims() -> None:
    claims = read_claims(
        make_signer().assertion(AssertionSubject("acme", "basic"), "listener", NOW)
    )
    assert claims["method"] == "basic"
    assert not {"token_id", "token_name"} & claims.keys()


def test_it_is_reused_while_half_its_life_is_ahead_and_then_signed_anew() -> None:
    signer = make_signer()
    first = signer.assertion(ACME, "listener", NOW)
    assert signer.assertion(ACME, "listener", NOW + 29.9) == first
    assert signer.assertion(ACME, "listener", NOW + 30) != first


@pytest.mark.parametrize(
    ("subject", "audience"),
    [
        (AssertionSubject("other", "bearer", "t1", "shop"), "listener"),
        (AssertionSubject("acme", "query", "t1", "shop"), "listener"),
        (AssertionSubject("acme", "bearer", "t2", "shop"), "listener"),
        (AssertionSubject("acme", "bearer", "t1", "till"), "listener"),
        (AssertionSubject("acme", "bearer"), "listener"),
        (ACME, "another upstream"),
    ],
)
def test_no_caller_and_no_upstream_gets_anothers(subject: AssertionSubject, audience: str) -> None:
    signer = make_signer()
    signer.assertion(ACME, "listener", NOW)
    claims = jwt.decode(
        signer.assertion(subject, audience, NOW), options={"verify_signature": False}
    )
    assert (claims["sub"], claims["aud"], claims["method"], claims.get("token_id")) == (
        subject.account,
        audience,
        subject.method,
        subject.token_id,
    )
    assert claims.get("token_name") == subject.token_name


def test_only_so_many_are_kept_and_the_oldest_goes_first() -> None:
    signer = make_signer(capacity=2)
    subjects = [AssertionSubject(name, "basic") for name in ("a", "b", "c")]
    for subject in subjects:
        signer.assertion(subject, "listener", NOW)
    assert [subject.account for subject, _ in signer._kept] == ["b", "c"]


def test_it_is_never_taken_as_a_token_even_where_issuer_and_audience_agree() -> None:
    judge = SignedTokens("sidecar", "listener", 10, (KEY,))
    verdict = judge.verify_now(make_signer().assertion(ACME, "listener", NOW), NOW)
    assert isinstance(verdict, Denial)


def test_the_type_distinguishes_a_token_from_an_assertion() -> None:
    header = jwt.get_unverified_header(make_signer().assertion(ACME, "listener", NOW))
    assert header == {"alg": "EdDSA", "kid": "k1", "typ": "assertion+jwt"}


def test_a_shared_secret_or_a_public_key_cannot_sign_assertions() -> None:
    secret = load_key("k1", "HS256", generate_key("HS256"))
    public = load_key("k1", "EdDSA", json.dumps(KEY.publish()))
    for key in (secret, public):
        with pytest.raises(ValueError, match="private half"):
            AssertionSigner("sidecar", key, 60)


def test_a_life_too_short_to_be_of_use_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 seconds"):
        AssertionSigner("sidecar", KEY, 1)
