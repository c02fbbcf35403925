"""Long exchanges: each ends with what let it begin, and with nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.auth.issuers import Issuers, IssuerUnavailable
from sidecar.auth.jwt_verifier import JwtVerifier
from sidecar.config.settings import Settings
from sidecar.core.errors import Fault, StoreUnavailable
from sidecar.core.model import (
    Denial,
    Form,
    PasswordCredential,
    TokenCredential,
    TokenKind,
    TokenRecord,
)
from sidecar.core.policy import Principal
from sidecar.core.problems import PROXY_CODES
from sidecar.core.signed_tokens import SignedTokens, VerifiedToken
from sidecar.core.unclaimed_jwts import UnclaimedJwt
from sidecar.proxy import streams as module
from sidecar.proxy.rules import Rules
from sidecar.proxy.streams import LiveStreams, Stream
from sidecar.runtime.build import build_rules
from tests.old_jwts import jwt_of

NOW = 1_800_000_000.0
PATIENCE_SECONDS = 10.0
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43
OTHER_HASH = HASH[:-1] + "E"
RECORD = TokenRecord(
    id="token000001",
    account="acme",
    name="a token",
    kind=TokenKind.ACCESS,
    digest="d" * 64,
    created_at=NOW,
    expires_at=None,
)
FOREIGN = RECORD.replace(kind=TokenKind.JWT, digest="", denied_at="f" * 64)
UNDENIABLE = RECORD.replace(kind=TokenKind.JWT, digest="")


class Tokens:
    """A store whose records, outages and changes a test sets; it can tell what it knows or not."""

    def __init__(self) -> None:
        self.records: dict[str, TokenRecord] = {RECORD.digest: RECORD}
        self.is_away = False
        self.is_known = True
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def get(self, digest: str) -> TokenRecord | None:
        return self.records.get(digest) if self.is_known else None

    def is_absent(self, digest: str) -> bool:
        return self.is_known and digest not in self.records

    def is_familiar(self, digest: str) -> bool:
        return digest in self.records

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        self.asked += 1
        await self.gate.wait()
        if self.is_away:
            raise StoreUnavailable("away")
        return self.records.get(digest)


def rules_with(
    accounts: Mapping[str, Any] | None = None, routes: list[dict[str, Any]] | None = None
) -> Rules:
    settings = {
        "upstreams": {"service": {"url": "http://127.0.0.1:1"}},
        "routes": routes or [{"path": "/**"}],
        "accounts": {"acme": {"password_hash": HASH}} if accounts is None else accounts,
    }
    parsed = Settings.model_validate(settings, context={"directory": Path()})
    return build_rules(parsed, asyncio.get_running_loop())


class Exchange:
    """A long answer under way."""

    def __init__(
        self,
        streams: LiveStreams,
        record: TokenRecord | None = RECORD,
        form: Form = Form.BEARER,
        rules: Rules | None = None,
        path: str = "/a",
        secret: str = "a.b.c",
    ) -> None:
        self.reasons: list[str] = []
        principal = Principal("acme", form if record else Form.BASIC, record)
        credential = TokenCredential(form, secret) if record else PasswordCredential("acme", "x")
        self.stream = Stream(principal, credential, rules or rules_with(), "GET", path, self._cut)
        self._streams = streams
        streams.enter(self.stream)

    @property
    def cuts(self) -> int:
        return len(self.reasons)

    def _cut(self, denial: Denial) -> None:
        self.reasons.append(denial.code)
        self._streams.leave(self.stream)  # as the gateway does when its coroutine ends


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def streams(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> LiveStreams:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    return LiveStreams(tokens, now=lambda: NOW)


async def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "this never came true"
        await asyncio.sleep(0.005)


async def settle() -> None:
    """Let everything that was started come to rest."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_exchanges_of_a_token_end_when_it_is_revoked_and_no_other(
    tokens: Tokens, streams: LiveStreams
) -> None:
    other = RECORD.replace(digest="e" * 64)
    tokens.records[other.digest] = other
    ended = [Exchange(streams), Exchange(streams)]
    going_on = Exchange(streams, other)
    del tokens.records[RECORD.digest]
    streams.on_tokens_changed([RECORD.digest, "0" * 64])
    await settle()
    assert [exchange.cuts for exchange in ended] == [1, 1]
    assert going_on.cuts == 0
    assert len(streams) == 1


async def test_a_change_that_leaves_the_token_good_ends_nothing(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    streams.on_tokens_changed([RECORD.digest])
    await settle()
    assert (exchange.cuts, tokens.asked) == (0, 1)


async def test_a_record_that_names_another_account_ends_it(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    tokens.records[RECORD.digest] = RECORD.replace(account="globex")
    streams.on_tokens_changed([RECORD.digest])
    await settle()
    assert exchange.cuts == 1


async def test_after_words_were_missed_every_token_is_asked_about(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchanges = [Exchange(streams), Exchange(streams, FOREIGN), Exchange(streams, None)]
    tokens.records.clear()
    streams.on_tokens_changed(None)
    await settle()
    assert [exchange.cuts for exchange in exchanges] == [1, 0, 0]
    assert tokens.asked == 2


async def test_nothing_to_tell_asks_nothing(tokens: Tokens, streams: LiveStreams) -> None:
    Exchange(streams)
    streams.on_tokens_changed([])
    await settle()
    assert tokens.asked == 0


async def test_while_the_store_is_away_nothing_ends_and_what_is_gone_then_does(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    tokens.is_away = True
    streams.on_tokens_changed(None)
    await until(lambda: tokens.asked >= 3)
    assert exchange.cuts == 0
    tokens.records.clear()
    tokens.is_away = False
    await until(lambda: exchange.cuts == 1)


async def test_nobody_goes_on_asking_for_an_exchange_that_has_ended(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    tokens.is_away = True
    streams.on_tokens_changed(None)
    await until(lambda: tokens.asked >= 2)
    streams.leave(exchange.stream)
    await until(lambda: not streams._rejudging)
    assert exchange.cuts == 0


async def test_an_exchange_that_ends_while_the_store_is_asked_is_left_alone(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    tokens.records.clear()
    tokens.gate.clear()
    streams.on_tokens_changed([RECORD.digest])
    await settle()
    streams.leave(exchange.stream)
    tokens.gate.set()
    await settle()
    assert exchange.cuts == 0


async def test_the_denial_of_a_foreign_jwt_ends_it(tokens: Tokens, streams: LiveStreams) -> None:
    exchange = Exchange(streams, FOREIGN)
    streams.on_tokens_changed([FOREIGN.denied_at])
    await settle()
    assert exchange.cuts == 0
    tokens.records[FOREIGN.denied_at] = RECORD.replace(account="@denied", kind=TokenKind.JWT)
    streams.on_tokens_changed([FOREIGN.denied_at])
    await settle()
    assert exchange.cuts == 1


async def test_a_foreign_jwt_without_an_id_is_none_of_the_stores_business(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams, UNDENIABLE)
    streams.on_tokens_changed(None)
    streams.on_tokens_changed([""])
    streams._look_again()
    await settle()
    assert (exchange.cuts, tokens.asked) == (0, 0)


@pytest.mark.parametrize("record", [RECORD, FOREIGN, UNDENIABLE], ids=["own", "foreign", "no jti"])
async def test_it_ends_when_its_token_does(record: TokenRecord, tokens: Tokens) -> None:
    streams = LiveStreams(tokens)
    exchange = Exchange(streams, record.replace(expires_at=time.time() + 0.05))
    assert exchange.cuts == 0
    await until(lambda: exchange.cuts == 1)
    assert len(streams) == 0


async def test_a_timer_that_comes_early_by_the_clock_is_set_again(tokens: Tokens) -> None:
    readings = iter([NOW, NOW + 0.01, NOW + 0.01, NOW + 0.02])
    streams = LiveStreams(tokens, now=lambda: next(readings))
    exchange = Exchange(streams, RECORD.replace(expires_at=NOW + 0.02))
    await until(lambda: exchange.cuts == 1)
    assert next(readings, None) is None


async def test_a_far_end_waits_no_longer_than_a_timer_can(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams, RECORD.replace(expires_at=NOW + 1e10))
    assert exchange.stream.timer is not None
    loop = asyncio.get_running_loop()
    assert exchange.stream.timer.when() - loop.time() <= 86400.0


@pytest.mark.parametrize(
    ("begun_with", "found", "has_timer"),
    [(None, NOW + 60, True), (NOW + 60, None, False), (NOW + 60, NOW + 120, True)],
    ids=["sooner, as after a rotation", "unlimited now", "later"],
)
async def test_an_end_that_has_moved_holds(
    begun_with: float | None,
    found: float | None,
    has_timer: bool,
    tokens: Tokens,
    streams: LiveStreams,
) -> None:
    exchange = Exchange(streams, RECORD.replace(expires_at=begun_with))
    before = exchange.stream.timer
    tokens.records[RECORD.digest] = RECORD.replace(expires_at=found)
    streams.on_tokens_changed([RECORD.digest])
    await settle()
    assert exchange.cuts == 0
    assert (exchange.stream.timer is not None) is has_timer
    assert before is None or before.cancelled()


async def test_a_token_revoked_before_the_answer_began_ends_it_soon(
    tokens: Tokens, streams: LiveStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream took its time; the word of the change came when nothing was there to end."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)
    tokens.records.clear()
    streams.on_tokens_changed([RECORD.digest])
    exchange = Exchange(streams)
    await until(lambda: exchange.cuts == 1)


async def test_a_store_that_tells_of_no_changes_is_asked_again_and_again(
    tokens: Tokens, streams: LiveStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    tokens.is_known = False
    exchange = Exchange(streams)
    await until(lambda: tokens.asked >= 3)
    assert exchange.cuts == 0
    tokens.records.clear()
    await until(lambda: exchange.cuts == 1)
    await until(lambda: streams._look is None)


async def test_a_token_known_to_be_good_is_not_asked_about(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    streams._look_again()
    await settle()
    assert (exchange.cuts, tokens.asked) == (0, 0)


async def test_questions_do_not_pile_up_while_the_store_is_slow(
    tokens: Tokens, streams: LiveStreams
) -> None:
    tokens.is_known = False
    tokens.gate.clear()
    Exchange(streams)
    for _ in range(5):
        streams._look_again()
        await settle()
    assert tokens.asked == 1
    await streams.close()


async def test_many_tokens_are_asked_about_some_at_a_time(
    tokens: Tokens, streams: LiveStreams
) -> None:
    tokens.gate.clear()
    digests = [f"{number:064}" for number in range(500)]
    tokens.records |= {digest: RECORD.replace(digest=digest) for digest in digests}
    exchanges = [Exchange(streams, tokens.records[digest]) for digest in digests]
    streams.on_tokens_changed(None)
    await settle()
    assert 0 < tokens.asked <= 64
    del tokens.records[digests[-1]]
    tokens.gate.set()
    await until(lambda: exchanges[-1].cuts == 1)
    await until(lambda: tokens.asked == 500)
    assert sum(exchange.cuts for exchange in exchanges) == 1


ACCOUNT: dict[str, Any] = {"password_hash": HASH}
GOING_ON: dict[str, Any] = {
    "nothing that matters": {},
    "another account's": {"accounts": {"acme": ACCOUNT, "globex": {"disabled": True}}},
    "a route that is public now": {"routes": [{"path": "/**", "public": True}]},
}
ENDED: dict[str, Any] = {
    "disabled": {"accounts": {"acme": {**ACCOUNT, "disabled": True}}},
    "removed": {"accounts": {"globex": ACCOUNT}},
    "limited to other paths": {"accounts": {"acme": {**ACCOUNT, "paths": ["/b"]}}},
    "without a route": {"routes": [{"path": "/b"}]},
    "on a route for others": {"routes": [{"path": "/**", "accounts": ["globex"]}]},
    "by another method": {"routes": [{"path": "/**", "methods": ["POST"]}]},
    "on a route for other forms": {"routes": [{"path": "/**", "credentials": ["header"]}]},
}


@pytest.mark.parametrize("by_password", [False, True], ids=["token", "password"])
@pytest.mark.parametrize("changes", GOING_ON.values(), ids=GOING_ON)
async def test_another_configuration_that_lets_it_begin_lets_it_go_on(
    changes: dict[str, Any], by_password: bool, streams: LiveStreams
) -> None:
    exchange = Exchange(streams, None if by_password else RECORD)
    streams.on_rules_changed(rules_with(**changes))
    assert exchange.cuts == 0


@pytest.mark.parametrize("by_password", [False, True], ids=["token", "password"])
@pytest.mark.parametrize("changes", ENDED.values(), ids=ENDED)
async def test_another_configuration_that_would_not_let_it_begin_ends_it(
    changes: dict[str, Any], by_password: bool, streams: LiveStreams
) -> None:
    changes = {"accounts": {"acme": ACCOUNT, "globex": {}}, **changes}
    exchange = Exchange(streams, None if by_password else RECORD)
    streams.on_rules_changed(rules_with(**changes))
    assert exchange.cuts == 1
    assert exchange.reasons[0] in PROXY_CODES


async def test_another_password_ends_what_the_old_one_began_and_no_tokens(
    streams: LiveStreams,
) -> None:
    by_password, by_token = Exchange(streams, None), Exchange(streams)
    streams.on_rules_changed(rules_with({"acme": {"password_hash": OTHER_HASH}}))
    assert (by_password.cuts, by_token.cuts) == (1, 0)


async def test_what_was_judged_by_the_old_rules_ends_as_it_begins_under_the_new(
    streams: LiveStreams,
) -> None:
    streams.on_rules_changed(rules_with({"acme": {**ACCOUNT, "disabled": True}}))
    exchange = Exchange(streams)
    assert exchange.cuts == 1
    assert len(streams) == 0


async def test_a_token_limited_to_paths_is_held_to_them_when_the_rules_change(
    streams: LiveStreams,
) -> None:
    narrow, wide = (
        Exchange(streams, RECORD.replace(paths=("/b",))),
        Exchange(streams, RECORD.replace(paths=("/a",))),
    )
    streams.on_rules_changed(rules_with())
    assert (narrow.cuts, wide.cuts) == (1, 0)


async def test_a_path_that_can_be_read_as_one_of_another_rule_ends_when_that_rule_comes(
    streams: LiveStreams,
) -> None:
    exchanges = [Exchange(streams, path=path) for path in ("/a", "//b", "/b;x", "/%62%3bx")]
    streams.on_rules_changed(rules_with(routes=[{"path": "/**"}]))
    assert [exchange.cuts for exchange in exchanges] == [0, 0, 0, 0]
    streams.on_rules_changed(rules_with(routes=[{"path": "/b"}, {"path": "/**"}]))
    assert [exchange.cuts for exchange in exchanges] == [0, 1, 1, 1]


async def test_closing_ends_no_exchange_and_all_questions(
    tokens: Tokens, streams: LiveStreams
) -> None:
    exchange = Exchange(streams)
    tokens.gate.clear()
    streams.on_tokens_changed(None)
    await settle()
    await streams.close()
    assert exchange.cuts == 0
    assert not streams._rejudging


async def test_leaving_twice_is_leaving_once(streams: LiveStreams) -> None:
    exchange, other = Exchange(streams), Exchange(streams)
    streams.leave(exchange.stream)
    streams.leave(exchange.stream)
    assert len(streams) == 1
    streams.leave(other.stream)
    assert len(streams) == 0


JWT_RECORD = RECORD.replace(kind=TokenKind.JWT)


class Judge(Issuers):
    """Gives the verdict that a test sets; an exception is raised."""

    def __init__(self, verdict: VerifiedToken | UnclaimedJwt | Denial | Fault) -> None:
        super().__init__(SignedTokens("sidecar", "listener", 0.0, ()), {})
        self.verdict = verdict
        self.asked = 0

    async def verify(self, token: str, now: float) -> VerifiedToken | UnclaimedJwt | Denial:
        self.asked += 1
        if isinstance(self.verdict, Fault):
            raise self.verdict
        return self.verdict


GOOD = VerifiedToken("acme", "k3v9z1xq7m2abc", None, False, "sidecar")
BAD = Denial("invalid_token", "The token's signing key is unknown.")


@pytest.mark.parametrize("record", [JWT_RECORD, FOREIGN, UNDENIABLE], ids=["own", "foreign", "-"])
@pytest.mark.parametrize("verdict", [GOOD, BAD], ids=["still good", "refused"])
async def test_other_keys_end_what_a_jwt_began_that_they_refuse(
    verdict: VerifiedToken | Denial, record: TokenRecord, streams: LiveStreams
) -> None:
    exchange, by_token = Exchange(streams, record), Exchange(streams)
    judge = Judge(verdict)
    streams.on_rules_changed(replace(rules_with(), jwt=JwtVerifier(judge)))
    await settle()
    assert (exchange.cuts, by_token.cuts) == (int(verdict is BAD), 0)
    assert judge.asked == 1


IMPORTED = RECORD.replace(kind=TokenKind.IMPORTED)


@pytest.mark.parametrize(
    ("record", "verdict", "cuts"),
    [
        (IMPORTED, UnclaimedJwt(None), 0),
        (IMPORTED, GOOD, 1),
        (IMPORTED, BAD, 1),
        (JWT_RECORD, UnclaimedJwt(None), 1),
        (JWT_RECORD, replace(GOOD, account="globex"), 1),
    ],
    ids=["unclaimed", "claimed and good", "claimed and bad", "issuer gone", "of another account"],
)
async def test_what_an_imported_jwt_began_ends_once_something_claims_it_and_vice_versa(
    record: TokenRecord,
    verdict: VerifiedToken | UnclaimedJwt | Denial,
    cuts: int,
    streams: LiveStreams,
) -> None:
    exchange = Exchange(streams, record, secret=jwt_of({}))
    streams.on_rules_changed(replace(rules_with(), jwt=JwtVerifier(judge := Judge(verdict))))
    await settle()
    assert (exchange.cuts, judge.asked) == (cuts, 1)


async def test_other_keys_are_not_asked_about_an_imported_token_that_is_no_jwt(
    streams: LiveStreams,
) -> None:
    exchange = Exchange(streams, IMPORTED)
    streams.on_rules_changed(replace(rules_with(), jwt=JwtVerifier(judge := Judge(BAD))))
    await settle()
    assert (exchange.cuts, judge.asked) == (0, 0)


async def test_the_same_keys_verify_nothing_again(streams: LiveStreams) -> None:
    rules = replace(rules_with(), jwt=JwtVerifier(judge := Judge(BAD)))
    exchange = Exchange(streams, JWT_RECORD, rules=rules)
    streams.on_rules_changed(replace(rules_with(), jwt=rules.jwt))
    await settle()
    assert (exchange.cuts, judge.asked) == (0, 0)


async def test_an_issuer_that_is_away_ends_nothing_until_it_refuses(streams: LiveStreams) -> None:
    judge = Judge(IssuerUnavailable("away"))
    exchange = Exchange(streams, FOREIGN)
    streams.on_rules_changed(replace(rules_with(), jwt=JwtVerifier(judge)))
    await until(lambda: judge.asked >= 3)
    assert exchange.cuts == 0
    judge.verdict = BAD
    await until(lambda: exchange.cuts == 1)


async def test_only_the_newest_keys_are_asked(streams: LiveStreams) -> None:
    away, good = Judge(IssuerUnavailable("away")), Judge(GOOD)
    exchange = Exchange(streams, FOREIGN)
    for judge in (away, good):
        streams.on_rules_changed(replace(rules_with(), jwt=JwtVerifier(judge)))
        await until(lambda judge=judge: judge.asked >= 1)  # type: ignore[misc]
    await until(lambda: not streams._rejudging)
    assert exchange.cuts == 0


async def test_what_old_keys_let_in_is_verified_as_it_begins_under_new_ones(
    streams: LiveStreams,
) -> None:
    streams.on_rules_changed(replace(rules_with(), jwt=JwtVerifier(Judge(BAD))))
    exchange = Exchange(streams, JWT_RECORD)
    await settle()
    assert exchange.cuts == 1
