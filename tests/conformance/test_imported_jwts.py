"""JWTs of the replaced system, end to end: known by their exact characters, or refused."""

from __future__ import annotations

import base64
import time

import pytest

from sidecar.core.model import TokenKind
from sidecar.core.tokens import digest
from tests.conformance.jwt_stage import SLOTS, TARGET, JwtStage, put_record
from tests.old_jwts import jwt_of
from tests.patience import PATIENCE_SECONDS


def take_over(jwts: JwtStage, token: str) -> None:
    put_record(jwts.redis, token.encode(), "acme", TokenKind.IMPORTED)


def parts_in(token: str, text: bytes) -> list[str]:
    return [part for part in token.split(".") if len(part) > 20 and part.encode() in text]


GOOD = [
    jwt_of({}),
    jwt_of({"sub": "admin", "iss": "old-system", "aud": ["x"]}, kid="1"),
    jwt_of({"exp": int(time.time()) + 3600, "role": "shop"}, alg="RS512"),
    jwt_of({"exp": None}, alg="ES512"),
    jwt_of({"text": "x" * 6000}),
]


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("token", GOOD, ids=["bare", "kid", "exp", "null", "long"])
def test_an_imported_jwt_passes_in_every_slot_and_goes_no_further(
    token: str, slot: str, jwts: JwtStage
) -> None:
    take_over(jwts, token)
    mark = len(jwts.logs())
    for _ in range(3):
        reply = jwts.ask(token, slot, tries=5)
        assert reply.answer.status == 200
        (exchange,) = reply.exchanges
        assert exchange.values("x-account") == [b"acme"]
        assert parts_in(token, exchange.head + reply.answer.head + reply.answer.body) == []
    assert parts_in(token, jwts.logs()[mark:].encode()) == []


def test_one_character_more_or_less_is_another_jwt(jwts: JwtStage) -> None:
    token = jwt_of({"sub": "acme"})
    take_over(jwts, token)
    assert jwts.ask(token, tries=5).answer.status == 200
    head, body, signature = token.split(".")
    for changed in (
        f"{head}.{body}.{signature[::-1]}",
        f"{head}.{body}.{signature[:-4]}",
        f"{jwt_of({'sub': 'globex'}).rpartition('.')[0]}.{signature}",
        f"{token}=",
        f"{token}A",
        token.swapcase(),
    ):
        reply = jwts.ask(changed, tries=5)
        assert (reply.answer.status, reply.exchanges) == (401, [])


def test_a_jwt_in_basic_needs_its_own_account_beside_it(jwts: JwtStage) -> None:
    token = jwt_of({"sub": "basic"})
    take_over(jwts, token)
    for name, status in (("acme", 200), ("globex", 401), ("", 200)):
        pair = base64.b64encode(f"{name}:{token}".encode())
        answer = jwts._send("basic", TARGET, b"Authorization: Basic " + pair)
        assert answer.status == status


def test_what_a_configured_key_or_issuer_claims_is_judged_by_it_though_it_has_a_record(
    jwts: JwtStage,
) -> None:
    own, by_file = jwts.bench(jwts.own), jwts.bench(jwts.parties["file"])
    for token in (
        own.with_claims(aud="x"),
        own.with_claims(iss="old-system"),
        own.good()[:-8] + "AAAAAAAA",
        by_file.with_claims(exp=1),
        by_file.good()[:-8] + "AAAAAAAA",
        jwt_of({"iss": "sidecar"}),
        jwt_of({"iss": jwts.parties["file"].issuer}),
        jwt_of({}, kid="EdDSA-1"),
    ):
        take_over(jwts, token)
        reply = jwts.ask(token, tries=5)
        assert (reply.answer.status, reply.exchanges) == (401, [])


@pytest.mark.parametrize(
    "token",
    [
        jwt_of({"exp": 1}),
        jwt_of({"exp": "9999999999"}),
        jwt_of({}, alg="none"),
        jwt_of({}, crit=["exp"]),
        jwt_of({}, jku="http://127.0.0.1/"),
    ],
    ids=["expired", "text", "none", "crit", "jku"],
)
def test_a_record_opens_nothing_to_a_jwt_that_has_ended_or_can_not_be_read(
    token: str, jwts: JwtStage
) -> None:
    take_over(jwts, token)
    reply = jwts.ask(token, tries=5)
    assert (reply.answer.status, reply.exchanges) == (401, [])


def test_an_imported_jwt_ends_with_its_exp_though_its_record_lives(jwts: JwtStage) -> None:
    ends = int(time.time()) + 3
    token = jwt_of({"exp": ends})
    take_over(jwts, token)
    seen: list[tuple[float, int, float]] = []
    while not seen or seen[-1][0] < ends:
        asked_at, status = time.time(), jwts.ask(token).answer.status
        if status != 503:  # a busy machine's "I don't know"
            seen.append((asked_at, status, time.time()))
        time.sleep(0.02)
    assert {status for _, status, answered_at in seen if answered_at < ends} == {200}
    assert {status for asked_at, status, _ in seen if asked_at >= ends} == {401}


def test_an_imported_jwt_is_refused_once_its_record_is_gone(jwts: JwtStage) -> None:
    token = jwt_of({"sub": "revoked"})
    take_over(jwts, token)
    assert jwts.ask(token, tries=5).answer.status == 200
    jwts.redis.command("DEL", f"sidecar:token:{digest(token)}")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while jwts.ask(token).answer.status != 401:
        assert time.monotonic() < deadline
