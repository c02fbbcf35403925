"""Group J of the hostile suite, end to end: each JWT through a real process, and its verdict."""

from __future__ import annotations

import json
import time

import pytest

from sidecar.core.model import TokenKind
from tests.conformance.jwt_cases import JWT_CASES, JwtCase
from tests.conformance.jwt_stage import (
    JTI,
    PATIENT_TRIES,
    SLOTS,
    TARGET,
    JwtStage,
    Reply,
    put_record,
)
from tests.patience import PATIENCE_SECONDS

# Of each item the first case.
SAMPLE = tuple({case.id.split(" ")[0]: case for case in reversed(JWT_CASES)}.values())
MOST_CHARS_IN_HEADERS = 32 * 1024 - 200


def judge(token: str, slot: str, is_accepted: bool, reply: Reply, stage: JwtStage) -> None:
    """Judge an answer, what the upstream saw, and that nothing of the token leaked."""
    answer = reply.answer
    if is_accepted:
        assert answer.status == 200, answer.body
        (exchange,) = reply.exchanges
        assert exchange.values("x-account") == [b"acme"]
        assert exchange.target == (TARGET + b"?a=1&b=2" if slot == "query" else TARGET)
        assert shown(token, exchange.head) == []
    else:
        assert answer.status in statuses_of(token, slot), (answer.status, answer.body)
        assert reply.exchanges == []
        code = json.loads(answer.body)["code"]
        if answer.status == 401:
            assert code in ("invalid_token", "malformed_credentials")
            assert answer.values("www-authenticate")
    assert shown(token, answer.head + answer.body) == []


def statuses_of(token: str, slot: str) -> set[int]:
    """Return the answers that a refusal may have: 401, unless HTTP itself forbids such a field."""
    if slot == "query":
        return {401} if len(token) < 5000 else {401, 414, 431}
    if len(token) > MOST_CHARS_IN_HEADERS:
        return {431}
    return {400} if any(mark in token for mark in "\r\n\0") else {401}


def shown(token: str, text: bytes) -> list[str]:
    """Return the parts of the token that show in ``text``; what is short or known is no secret."""
    return [part for part in token.split(".") if len(part) > 20 and part.encode() in text]


def is_changed_by_http(token: str) -> bool:
    """Tell whether a field value would arrive as another string: white space around it is none."""
    return token != token.strip(" \t")


@pytest.mark.parametrize("case", JWT_CASES, ids=lambda case: case.id)
def test_each_hostile_jwt_gets_its_verdict(case: JwtCase, jwts: JwtStage) -> None:
    """As a bearer token: of ourselves, of an issuer by file, and of one by URL."""
    for party in jwts.parties.values():
        token = case.make(jwts.bench(party))
        if is_changed_by_http(token):
            continue
        before = len(jwts.logs())
        reply = jwts.ask(token, tries=PATIENT_TRIES)
        judge(token, "bearer", case.is_accepted(party), reply, jwts)
        assert jwts.ask_honest().startswith(b"account=globex ")
        assert shown(token, jwts.logs()[before:].encode()) == []


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
def test_a_sample_gets_its_verdict_in_every_slot(case: JwtCase, slot: str, jwts: JwtStage) -> None:
    for party in jwts.parties.values():
        token = case.make(jwts.bench(party))
        reply = jwts.ask(token, slot)
        judge(token, slot, case.is_accepted(party), reply, jwts)


@pytest.mark.parametrize("party", ["own", "file", "url"])
def test_the_same_token_is_judged_anew_on_each_route(party: str, jwts: JwtStage) -> None:
    """J15: what is cached is who calls, never that it may pass."""
    token = jwts.bench(jwts.parties[party]).good()
    for _ in range(2):
        assert jwts.ask(token).answer.status == 200
        refused = jwts.ask(token, target=b"/globex-only")
        assert (refused.answer.status, refused.exchanges) == (403, [])
        assert jwts.ask(token, "header").answer.status == 200
        other_form = jwts.ask(token, "header", b"/bearer-only")
        assert (other_form.answer.status, other_form.exchanges) == (401, [])
        assert jwts.ask(token, target=b"/bearer-only").answer.status == 200


@pytest.mark.parametrize("fraction", [0, 0.75])
def test_a_cached_verdict_ends_with_the_token(jwts: JwtStage, fraction: float) -> None:
    """J15: asked again and again on one connection, and refused from its last second on."""
    benches = {name: jwts.bench(party) for name, party in jwts.parties.items()}
    ends = int(time.time()) + 3
    tokens = {
        name: bench.with_claims(
            exp=ends - (0 if bench.party.is_own else bench.leeway_seconds) + fraction
        )
        for name, bench in benches.items()
    }
    seen: list[tuple[str, float, int, float]] = []
    while {name for name, asked_at, *_ in seen if asked_at >= ends} != {*tokens}:
        for name, token in tokens.items():
            asked_at, status = time.time(), jwts.ask(token).answer.status
            if status != 503:  # a busy machine's "I don't know"
                seen.append((name, asked_at, status, time.time()))
        time.sleep(0.02)
    before = {(name, status) for name, _, status, answered_at in seen if answered_at < ends}
    after = {(name, status) for name, asked_at, status, _ in seen if asked_at >= ends}
    assert before == {(name, 200) for name in tokens}
    assert after == {(name, 401) for name in tokens}


def test_a_jwt_of_ours_is_refused_once_its_record_is_gone(jwts: JwtStage) -> None:
    """J15: the signature stays good; the store has the last word, and it is not guessed."""
    put_record(jwts.redis, b"another-id-12", "acme", TokenKind.JWT)
    token = jwts.bench(jwts.own, "another-id-12").good()
    assert jwts.ask(token).answer.status == 200
    jwts.redis.command("FLUSHDB")
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while jwts.ask(token).answer.status != 401:
            assert time.monotonic() < deadline
    finally:
        put_record(jwts.redis, JTI.encode(), "acme", TokenKind.JWT)
        put_record(jwts.redis, b"legacy-token-of-the-honest-user", "globex", TokenKind.IMPORTED)


def test_a_record_of_another_kind_or_account_opens_nothing(jwts: JwtStage) -> None:
    """J13: the record under a JWT's id must say what the JWT says."""
    for jti, account, kind in (
        ("id-of-another", "globex", TokenKind.JWT),
        ("id-of-a-token", "acme", TokenKind.ACCESS),
    ):
        put_record(jwts.redis, jti.encode(), account, kind)
        reply = jwts.ask(jwts.bench(jwts.own, jti).good())
        assert (reply.answer.status, reply.exchanges) == (401, [])


def test_the_id_of_a_jwt_is_no_token(jwts: JwtStage) -> None:
    """J6: it shows in listings, logs and headers, and its digest is a key in the store."""
    put_record(jwts.redis, b"an-id-as-long-as-a-token", "acme", TokenKind.JWT)
    for slot in SLOTS:
        reply = jwts.ask("an-id-as-long-as-a-token", slot)
        assert (reply.answer.status, reply.exchanges) == (401, [])


def test_whoever_makes_up_key_ids_has_the_issuer_asked_a_few_times(jwts: JwtStage) -> None:
    """J6: and what can't be asked for any more is not known, which is no refusal."""
    before = jwts.jwks.asked
    for number in range(40):
        token = jwts.bench(jwts.parties["url"]).with_header(kid=f"made-up-{number}")
        reply = jwts.ask(token)
        assert (reply.answer.status, reply.exchanges) in ((401, []), (503, []))
    assert reply.answer.status == 503
    assert reply.answer.values("retry-after")
    assert jwts.jwks.asked - before <= 12
    known = jwts.ask(jwts.bench(jwts.parties["url"]).good())
    assert known.answer.status == 200
