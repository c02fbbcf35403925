"""Which JWTs may be imported: those that no key and no issuer of the configuration claims."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.jws import JwtRefused
from sidecar.core.model import Denial
from sidecar.core.numeric_dates import LAST_SECOND
from sidecar.core.signed_tokens import SignedTokens, TrustedIssuer
from sidecar.core.unclaimed_jwts import NO_CLAIMANTS, Claimants, UnclaimedJwt
from tests.conformance.jwt_cases import make_party
from tests.old_jwts import jwt_of

NOW = 1_800_000_000.5
OWN = make_party("sidecar", "listener", is_own=True)
THEIRS = make_party("https://login.example.com/", "listener", is_own=False)
CLAIMANTS = Claimants("sidecar", ["k1"], [THEIRS.issuer])


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": "acme"},
        {"iss": "old", "aud": "x", "sub": "acme", "iat": 1},
        {"iss": ["sidecar"]},
        {"iss": None},
        {"exp": None},
    ],
    ids=str,
)
def test_a_jwt_of_nobody_known_may_be_imported_and_is_unlimited_without_exp(claims: object) -> None:
    for header in ({}, {"kid": "1"}, {"alg": "RS512"}):
        found = CLAIMANTS.read_importable(jwt_of(claims, **header), NOW)
        assert found == UnclaimedJwt(None)


@pytest.mark.parametrize(
    ("claims", "header", "claimant"),
    [
        ({"iss": "sidecar"}, {}, "issuer 'sidecar'"),
        ({"iss": THEIRS.issuer}, {}, f"issuer '{THEIRS.issuer}'"),
        ({"iss": "old"}, {"kid": "k1"}, "key 'k1'"),
        ({}, {"kid": "k1"}, "key 'k1'"),
    ],
    ids=["own issuer", "trusted issuer", "own key", "own key, no issuer"],
)
def test_what_a_configured_key_or_issuer_claims_is_judged_by_it_alone(
    claims: object, header: dict[str, object], claimant: str
) -> None:
    with pytest.raises(JwtRefused, match=claimant):
        CLAIMANTS.read_importable(jwt_of(claims, **header), NOW)


def test_without_keys_nothing_is_of_our_own_issuer() -> None:
    claimants = Claimants("sidecar", [], [THEIRS.issuer])
    assert claimants.read_importable(jwt_of({"iss": "sidecar"}, kid="k1"), NOW) == UnclaimedJwt(
        None
    )


@pytest.mark.parametrize(
    ("exp", "end"),
    [(NOW + 1, 1_800_000_001), (NOW + 0.5, 1_800_000_001), (LAST_SECOND, LAST_SECOND)],
)
def test_an_end_of_its_own_counts_without_leeway_and_rounded_down(exp: float, end: float) -> None:
    assert CLAIMANTS.read_importable(jwt_of({"exp": exp}), NOW) == UnclaimedJwt(end)


@pytest.mark.parametrize(
    ("exp", "why"),
    [
        (NOW - 0.5, "has expired"),
        (0, "has expired"),
        (-1, "before 1970"),
        ("1900000000", "not a number"),
        (True, "not a number"),
        ([1_900_000_000], "not a number"),
        (1_900_000_000_000, "after the year 9999"),
    ],
)
def test_an_end_that_has_come_or_can_not_be_read_is_a_refusal(exp: object, why: str) -> None:
    with pytest.raises(JwtRefused, match=why):
        CLAIMANTS.read_importable(jwt_of({"exp": exp}), NOW)


UNREADABLE: list[tuple[str, str]] = [
    (jwt_of({}, alg="none"), "not signed"),
    (jwt_of({}, alg="NonE"), "not signed"),
    (jwt_of({}, crit=["x"]), "critical extensions"),
    (jwt_of({}, jwk={"kty": "oct"}), "its own key"),
    (jwt_of([]), "not an object"),
    (jwt_of({}) + "=", "without padding"),
    (jwt_of({})[:-1] + "B", "canonical"),
    (jwt_of({"exp": nan}), "NaN"),
]


@pytest.mark.parametrize(("token", "why"), UNREADABLE, ids=[why for _, why in UNREADABLE])
def test_what_could_be_spelled_in_two_ways_or_made_by_anybody_is_not_imported(
    token: str, why: str
) -> None:
    with pytest.raises(JwtRefused):
        NO_CLAIMANTS.read_importable(token, NOW)
    assert isinstance(SignedTokens("sidecar", "x", 0, ()).verify_now(token, NOW), Denial)


issuers = st.sampled_from(["sidecar", THEIRS.issuer, "old", "", None])
key_ids = st.sampled_from(["k1", "EdDSA-1", "1", None])


@given(issuer=issuers, key_id=key_ids, has_keys=st.booleans(), is_trusted=st.booleans())
def test_what_may_be_imported_is_exactly_what_is_judged_as_unclaimed(
    issuer: str | None, key_id: str | None, has_keys: bool, is_trusted: bool
) -> None:
    """The command that imports and the proxy that judges see the same configuration."""
    keys = (OWN.key(),) if has_keys else ()
    trusted: list[Any] = []
    if is_trusted:
        trusted = [TrustedIssuer(THEIRS.issuer, "listener", ("EdDSA",), _NoKeys())]
    judge = SignedTokens("sidecar", "listener", 10, keys, trusted)
    claimants = Claimants("sidecar", [key.id for key in keys], [t.issuer for t in trusted])
    header = {} if key_id is None else {"kid": key_id}
    token = jwt_of({} if issuer is None else {"iss": issuer}, **header)
    try:
        expected: object = claimants.read_importable(token, NOW)
    except JwtRefused:
        expected = None
    verdict = judge.verify_now(token, NOW)
    assert (verdict if isinstance(verdict, UnclaimedJwt) else None) == expected


class _NoKeys:
    def find(self, key_id: str | None) -> tuple[()]:
        return ()

    def find_unnamed(self) -> tuple[()]:
        return ()
