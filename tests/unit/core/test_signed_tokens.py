"""The judge of JWTs: group J of the hostile suite, and the rules that cases can't list."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from functools import cache

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.account_claims import SUBJECT, AccountClaim
from sidecar.core.jws import MAX_HEADER_BYTES, JwtRefused, read_token
from sidecar.core.key_documents import load_key
from sidecar.core.keys import ALGORITHMS, Key, KeyRing, generate_key
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.numeric_dates import LAST_SECOND
from sidecar.core.signed_tokens import (
    NeedsKeys,
    SignedTokens,
    TrustedIssuer,
    VerifiedToken,
)
from sidecar.core.tokens import MAX_JWT_CHARS
from sidecar.core.unclaimed_jwts import UnclaimedJwt
from tests.conformance.jwt_cases import (
    JWT_CASES,
    PUBLIC_ALGORITHMS,
    Bench,
    JwtCase,
    Party,
    make_party,
    part,
)

NOW = 1_800_000_000
OWN = make_party("sidecar", "listener", is_own=True)
FOREIGN = make_party("https://login.example.com/", "listener", is_own=False)
RECORD = TokenRecord(
    id="k3v9z1xq7m2abc",
    account="acme",
    name="shop",
    kind=TokenKind.JWT,
    digest="0" * 64,
    created_at=NOW - 0.5,
    expires_at=NOW + 3600.9,
)


def own_keys() -> tuple[Key, ...]:
    return tuple(OWN.key(algorithm) for algorithm in PUBLIC_ALGORITHMS)


def make_judge(account_claim: AccountClaim = SUBJECT) -> SignedTokens:
    ring = KeyRing(FOREIGN.key(algorithm) for algorithm in PUBLIC_ALGORITHMS)
    trusted = TrustedIssuer(
        FOREIGN.issuer, FOREIGN.audience, PUBLIC_ALGORITHMS, ring, account_claim
    )
    return SignedTokens("sidecar", "listener", 10, own_keys(), (trusted,))


@cache
def judge() -> SignedTokens:
    """Return the one that most tests ask, made when the first does."""
    return make_judge()


def bench_of(party: Party) -> Bench:
    return Bench(party, account="acme", jti=RECORD.id, now=NOW, leeway_seconds=10)


def judge_with(algorithm: str) -> SignedTokens:
    return SignedTokens(
        "sidecar", "listener", 10, (load_key("k1", algorithm, generate_key(algorithm)),)
    )


@pytest.mark.parametrize("party", [OWN, FOREIGN], ids=["own", "foreign"])
@pytest.mark.parametrize("case", JWT_CASES, ids=lambda case: case.id)
def test_each_hostile_jwt_gets_its_verdict_and_a_denial_holds_no_part_of_it(
    case: JwtCase, party: Party
) -> None:
    token = case.make(bench_of(party))
    verdict = judge().verify_now(token, NOW)
    assert isinstance(verdict, VerifiedToken) is case.is_accepted(party)
    if isinstance(verdict, VerifiedToken):
        assert verdict.account == "acme"
    if isinstance(verdict, Denial):
        assert verdict.code == "invalid_token"
        assert not any(p[:8] in verdict.detail for p in token.split(".") if len(p) >= 8)


def test_no_two_cases_have_one_name() -> None:
    doubled = [name for name, n in Counter(case.id for case in JWT_CASES).items() if n > 1]
    assert doubled == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_that_we_sign_is_verified_here_and_by_pyjwt(algorithm: str) -> None:
    key = load_key("k1", algorithm, generate_key(algorithm))
    judge = SignedTokens("sidecar", "listener", 10, (key,))
    token = judge.sign(RECORD)
    assert judge.verify_now(token, NOW) == VerifiedToken(
        account="acme",
        jti=RECORD.id,
        expires_at=NOW + 3600,
        is_foreign=False,
        issuer="sidecar",
    )
    claims = jwt.decode(
        token,
        key._verifying,
        algorithms=[algorithm],
        audience="listener",
        issuer="sidecar",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": "sidecar",
        "aud": "listener",
        "sub": "acme",
        "jti": RECORD.id,
        "iat": NOW - 1,
        "exp": NOW + 3600,
    }
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_that_pyjwt_signs_is_verified_here(algorithm: str) -> None:
    key = load_key("k1", algorithm, generate_key(algorithm))
    judge = SignedTokens("sidecar", "listener", 10, (key,))
    claims = bench_of(OWN).claims()
    token = jwt.encode(claims, key._signing, algorithm, headers={"kid": "k1"})
    assert isinstance(judge.verify_now(token, NOW), VerifiedToken)


def test_an_unlimited_token_has_no_exp_and_never_ends_by_itself() -> None:
    record = TokenRecord("id1", "acme", "n", TokenKind.JWT, "0" * 64, NOW, None)
    verdict = judge().verify_now(judge().sign(record), NOW + 10**9)
    assert isinstance(verdict, VerifiedToken)
    assert verdict.expires_at is None


def test_an_old_key_verifies_until_it_is_dropped() -> None:
    old, new = OWN.key("EdDSA"), OWN.key("ES256")
    token = SignedTokens("sidecar", "listener", 10, (old,)).sign(RECORD)
    both = SignedTokens("sidecar", "listener", 10, (new, old))
    dropped = SignedTokens("sidecar", "listener", 10, (new,))
    assert isinstance(both.verify_now(token, NOW), VerifiedToken)
    assert isinstance(dropped.verify_now(token, NOW), Denial)


@pytest.mark.parametrize(
    ("seconds_after_exp", "own_is_good", "foreign_is_good"),
    [(-1, True, True), (0, False, True), (9, False, True), (10, False, False)],
)
def test_the_leeway_is_for_foreign_clocks_and_never_lengthens_our_own_tokens(
    seconds_after_exp: int, own_is_good: bool, foreign_is_good: bool
) -> None:
    for party, is_good in ((OWN, own_is_good), (FOREIGN, foreign_is_good)):
        token = bench_of(party).with_claims(exp=NOW - seconds_after_exp)
        assert isinstance(judge().verify_now(token, NOW), VerifiedToken) is is_good


def test_a_foreign_token_stops_being_taken_when_its_verdict_says() -> None:
    token = bench_of(FOREIGN).with_claims(exp=NOW + 60)
    verdict = judge().verify_now(token, NOW)
    assert isinstance(verdict, VerifiedToken)
    assert verdict.expires_at == NOW + 70
    assert isinstance(judge().verify_now(token, verdict.expires_at - 0.01), VerifiedToken)
    assert isinstance(judge().verify_now(token, verdict.expires_at), Denial)


def test_an_unknown_kid_of_a_foreign_issuer_asks_for_keys_and_of_our_own_is_refused() -> None:
    assert judge().verify_now(bench_of(FOREIGN).with_header(kid="new"), NOW) == NeedsKeys(
        FOREIGN.issuer, "new"
    )
    assert isinstance(judge().verify_now(bench_of(OWN).with_header(kid="new"), NOW), Denial)


def test_a_token_without_kid_is_verified_with_the_only_key() -> None:
    judge = SignedTokens("sidecar", "listener", 10, (OWN.key(),))
    token = bench_of(OWN)
    header = token.header()
    del header["kid"]
    signed = token.sign(json.dumps(header).encode(), json.dumps(token.claims()).encode())
    assert isinstance(judge.verify_now(signed, NOW), VerifiedToken)


def test_an_algorithm_outside_the_issuers_list_never_asks_for_keys() -> None:
    verdict = judge().verify_now(bench_of(FOREIGN).with_header(alg="HS256", kid="new"), NOW)
    assert isinstance(verdict, Denial)


def test_one_issuers_key_signs_nothing_for_another() -> None:
    """The cross-issuer confusion of RFC 8725 section 3.8."""
    token = bench_of(FOREIGN).with_claims(iss="sidecar")
    assert isinstance(judge().verify_now(token, NOW), Denial)


def test_the_account_comes_from_the_claim_that_is_configured() -> None:
    judge = make_judge(AccountClaim(("client_id",)))
    token = bench_of(FOREIGN).with_claims(sub="someone else", client_id="acme")
    verdict = judge.verify_now(token, NOW)
    assert isinstance(verdict, VerifiedToken)
    assert verdict.account == "acme"
    assert isinstance(judge.verify_now(bench_of(FOREIGN).good(), NOW), Denial)


@pytest.mark.parametrize("party", [OWN, FOREIGN], ids=["own", "foreign"])
@pytest.mark.parametrize("exp", [NOW + 60, NOW + 60.0, NOW + 60.25, NOW + 60.999999])
def test_a_fraction_of_exp_lengthens_no_life(party: Party, exp: float) -> None:
    token, end = bench_of(party).with_claims(exp=exp), NOW + (60 if party.is_own else 70)
    verdict = judge().verify_now(token, NOW)
    assert isinstance(verdict, VerifiedToken)
    assert verdict.expires_at == end
    assert isinstance(judge().verify_now(token, end - 0.001), VerifiedToken)
    assert judge().verify_now(token, end) == Denial("invalid_token", "The token has expired.")


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_fraction_of_nbf_and_iat_is_waited_for(name: str) -> None:
    token = bench_of(FOREIGN).with_claims(**{name: NOW + 10.5})
    assert isinstance(judge().verify_now(token, NOW + 0.499), Denial)
    assert isinstance(judge().verify_now(token, NOW + 0.5), VerifiedToken)


def test_no_end_lies_after_the_last_year_that_can_be_written() -> None:
    verdict = judge().verify_now(bench_of(FOREIGN).with_claims(exp=LAST_SECOND), NOW)
    assert isinstance(verdict, VerifiedToken)
    assert verdict.expires_at == LAST_SECOND


def test_an_issuer_named_twice_is_refused_at_start() -> None:
    ours = TrustedIssuer("sidecar", "listener", ("EdDSA",), KeyRing(()))
    with pytest.raises(ValueError, match="named twice"):
        SignedTokens("sidecar", "listener", 10, own_keys(), (ours,))


def test_without_keys_nothing_is_signed_and_nothing_of_ours_verified() -> None:
    judge = SignedTokens("sidecar", "listener", 10, ())
    with pytest.raises(ValueError, match=r"jwt\.keys is empty"):
        judge.sign(RECORD)
    assert isinstance(judge.verify_now(bench_of(OWN).good(), NOW), UnclaimedJwt)


def test_a_token_of_exactly_the_longest_length_is_read_and_one_more_is_not() -> None:
    bench = bench_of(OWN)
    token = bench.good()
    widest = max(
        (bench.with_claims(pad="x" * n) for n in range(11_900, 12_200)),
        key=lambda t: len(t) if len(t) <= MAX_JWT_CHARS else 0,
    )
    assert isinstance(judge().verify_now(widest, NOW), VerifiedToken)
    assert isinstance(
        judge().verify_now(token + "A" * (MAX_JWT_CHARS - len(token) + 1), NOW), Denial
    )


def test_a_header_of_exactly_the_longest_length_is_read_and_one_more_is_not() -> None:
    bench = bench_of(OWN)
    spare = MAX_HEADER_BYTES - len(json.dumps(bench.header(pad=""), separators=(",", ":")))
    assert isinstance(judge().verify_now(bench.with_header(pad="x" * spare), NOW), VerifiedToken)
    assert isinstance(judge().verify_now(bench.with_header(pad="x" * (spare + 1)), NOW), Denial)


def test_the_repr_of_a_token_shows_no_part_of_it() -> None:
    token = bench_of(OWN).good()
    assert repr(read_token(token)) == "SignedToken()"


@given(
    st.text(max_size=300) | st.from_regex(r"[\w-]{0,80}\.[\w-]{0,80}\.[\w-]{0,80}", fullmatch=True)
)
@example("e30.e30.AA")
def test_no_string_raises_and_none_is_verified(text: str) -> None:
    assert isinstance(judge().verify_now(text, NOW), Denial)


@given(st.integers(0, 400), st.sampled_from("ABab01-_.+/= \n\0é"))
def test_a_good_token_with_any_character_changed_is_never_verified(
    position: int, character: str
) -> None:
    token = _GOOD[: position % len(_GOOD)] + character + _GOOD[position % len(_GOOD) + 1 :]
    if token != _GOOD:
        assert not isinstance(judge().verify_now(token, NOW), VerifiedToken)


_GOOD = bench_of(OWN).good()


@given(st.binary(min_size=1, max_size=64))
def test_the_canonical_spelling_of_any_bytes_is_read_and_every_other_refused(
    content: bytes,
) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelling = part(content)
    assert read_token(f"{_HEAD}.{spelling}").signature == content
    for last in alphabet:
        if last != spelling[-1] and len(spelling) % 4:
            other = spelling[:-1] + last
            with contextlib.suppress(JwtRefused):
                assert read_token(f"{_HEAD}.{other}").signature != content


_HEAD = _GOOD.rpartition(".")[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_claim_of_any_type_raises(value: object) -> None:
    for name in ("iss", "aud", "sub", "exp", "nbf", "iat", "jti"):
        verdict = judge().verify_now(bench_of(FOREIGN).with_claims(**{name: value}), NOW)
        assert isinstance(verdict, VerifiedToken | Denial)


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_time_before_1970_is_called_that(name: str) -> None:
    verdict = judge().verify_now(bench_of(FOREIGN).with_claims(**{name: -1}), NOW)
    assert verdict == Denial("invalid_token", f"The token's {name} is before 1970.")
