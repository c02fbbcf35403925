"""A JWT is verified once in a while; its cached proof never outlives it."""

from __future__ import annotations

import pytest

from sidecar.auth import jwt_verifier as module
from sidecar.auth.issuers import Issuers, IssuerUnavailable
from sidecar.auth.jwt_verifier import JwtProof, JwtVerifier, foreign_denial_key
from sidecar.core.model import Denial, TokenKind
from sidecar.core.signed_tokens import VerifiedToken
from sidecar.core.tokens import digest
from sidecar.core.unclaimed_jwts import UnclaimedJwt

NOW = 1_800_000_000.0
TOKEN = "header.payload.signature"
REFUSED = Denial("invalid_token", "The token's signature is not valid.")


class Judge(Issuers):
    """Gives the verdict that a test sets, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(None, {})  # type: ignore[arg-type]  # its verify is replaced
        self.verdict: VerifiedToken | Denial | IssuerUnavailable = own()
        self.asked = 0

    async def verify(self, token: str, now: float) -> VerifiedToken | Denial:
        self.asked += 1
        if isinstance(self.verdict, IssuerUnavailable):
            raise self.verdict
        return self.verdict


def own(expires_at: float | None = None, jti: str = "k3v9z1xq7m2abc") -> VerifiedToken:
    return VerifiedToken("acme", jti, expires_at, False, "sidecar")


def foreign(jti: str | None = "id-1", expires_at: float = NOW + 3600) -> VerifiedToken:
    return VerifiedToken("acme", jti, expires_at, True, "https://login.example.com/")


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def verifier(judge: Judge) -> JwtVerifier:
    return JwtVerifier(judge)


async def verify(verifier: JwtVerifier, now: float = NOW, token: str = TOKEN) -> JwtProof | Denial:
    verdict = await verifier.verify(token, digest(token), now)
    assert not isinstance(verdict, UnclaimedJwt)
    return verdict


async def prove(verifier: JwtVerifier) -> JwtProof:
    proof = await verify(verifier)
    assert isinstance(proof, JwtProof)
    return proof


async def test_of_our_own_the_store_has_the_record_at_the_digest_of_its_id(
    verifier: JwtVerifier,
) -> None:
    proof = await prove(verifier)
    assert proof == JwtProof("acme", digest("k3v9z1xq7m2abc"), NOW + 60, None)


@pytest.mark.parametrize("chars", [100, 9_000, 16_384])
async def test_what_is_kept_of_a_jwt_does_not_grow_with_it(
    verifier: JwtVerifier, judge: Judge, chars: int
) -> None:
    judge.verdict = foreign()
    await verify(verifier, token="x" * chars)
    await verify(verifier, token="x" * chars)
    assert judge.asked == 1
    assert len(repr(verifier._proofs)) < 1000


async def test_a_foreign_one_brings_its_own_record_and_can_be_denied(
    verifier: JwtVerifier, judge: Judge
) -> None:
    judge.verdict = foreign()
    proof = await prove(verifier)
    assert proof.key == foreign_denial_key("https://login.example.com/", "id-1")
    record = proof.record
    assert record is not None
    assert (record.id, record.account, record.name) == ("id-1", "acme", judge.verdict.issuer)
    assert (record.kind, record.digest, record.denied_at) == (TokenKind.JWT, "", proof.key)
    assert (record.expires_at, record.paths) == (NOW + 3600, ())


async def test_a_foreign_one_without_an_id_has_no_denial(
    verifier: JwtVerifier, judge: Judge
) -> None:
    judge.verdict = foreign(jti=None)
    proof = await prove(verifier)
    assert proof.record is not None
    assert (proof.key, proof.record.denied_at) == ("", "")
    assert proof.record.id == digest(TOKEN)[:14]


@pytest.mark.parametrize("jti", ["a b", "a\r\nX-Admin: 1", "a/b", '"', "j" * 65, "{}"])
async def test_an_id_that_could_not_stand_in_a_header_is_replaced(
    jti: str, verifier: JwtVerifier, judge: Judge
) -> None:
    judge.verdict = foreign(jti=jti)
    record = (await prove(verifier)).record
    assert record is not None
    assert record.id == digest(TOKEN)[:14]


async def test_two_issuers_with_one_id_have_two_denials() -> None:
    assert foreign_denial_key("a", "b") != foreign_denial_key("a\nb", "")
    assert foreign_denial_key("a", "b") != digest("b")
    assert len({foreign_denial_key(issuer, "1") for issuer in ("a", "b", "ab")}) == 3


async def test_a_good_one_is_verified_once_and_anew_after_a_minute(
    verifier: JwtVerifier, judge: Judge
) -> None:
    for now in (NOW, NOW + 30, NOW + 59.9):
        assert isinstance(await verify(verifier, now), JwtProof)
    assert judge.asked == 1
    judge.verdict = REFUSED  # the issuer has withdrawn its key
    assert await verify(verifier, NOW + 60) == REFUSED
    assert judge.asked == 2


@pytest.mark.parametrize("verified", [own(NOW + 5), foreign(expires_at=NOW + 5)])
async def test_what_is_kept_ends_with_the_token(
    verified: VerifiedToken, verifier: JwtVerifier, judge: Judge
) -> None:
    judge.verdict = verified
    await prove(verifier)
    assert verifier.cached_proof(digest(TOKEN), NOW + 4.999) is not None
    assert verifier.cached_proof(digest(TOKEN), NOW + 5) is None
    judge.verdict = REFUSED
    assert await verify(verifier, NOW + 5) == REFUSED


@pytest.mark.parametrize("verdict", [REFUSED, IssuerUnavailable("away")])
async def test_a_refusal_and_not_knowing_are_never_kept(
    verdict: Denial | IssuerUnavailable, verifier: JwtVerifier, judge: Judge
) -> None:
    judge.verdict = verdict
    for _ in range(2):
        if isinstance(verdict, Denial):
            assert await verify(verifier) == verdict
        else:
            with pytest.raises(IssuerUnavailable):
                await verify(verifier)
    judge.verdict = own()
    assert isinstance(await verify(verifier), JwtProof)
    assert judge.asked == 3


async def test_what_is_kept_is_bounded_and_the_first_goes_first(
    verifier: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    for token in "abcd":
        await verify(verifier, token=token)
    known = [token for token in "abcd" if verifier.cached_proof(digest(token), NOW)]
    assert known == ["b", "c", "d"]
    assert len(verifier._proofs) == 3


async def test_verifying_anew_displaces_nobody(
    verifier: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT", 2)
    for now, token in ((NOW, "a"), (NOW + 30, "b"), (NOW + 95, "b")):
        await verify(verifier, now, token)
    assert {*verifier._proofs} == {digest("a"), digest("b")}
