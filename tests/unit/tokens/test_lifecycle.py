"""The life of a token, by the rules that hold for command line, page and API alike."""

from __future__ import annotations

import asyncio
import os

import pytest

from sidecar.core import tokens
from sidecar.core.errors import NameTaken, Overloaded, UsageError
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.policy import Account
from sidecar.core.token_rules import TooManyTokens
from sidecar.core.tokens import Shape
from sidecar.core.unclaimed_jwts import Claimants
from sidecar.store.memory import MemoryStore
from sidecar.tokens.lifecycle import (
    MOST_WAITING,
    AlreadyRotated,
    Lifecycle,
    TokenDetails,
    UnknownToken,
)
from tests.old_jwts import jwt_of

DAY_SECONDS = 86400
ACCOUNTS = {
    "acme": Account("acme"),
    "brief": Account("brief", max_token_days=30),
    "off": Account("off", disabled=True),
    "few": Account("few", max_tokens=3),
}
FOREIGN = "legacy-token-of-24-chars"


class Bench:
    """A lifecycle over a memory store, at a time that tests set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.75
        self.store = MemoryStore(lambda: self.now)
        self.lifecycle = self.made()

    def made(self, *, signs: bool = False, prefix: str = "sct_") -> Lifecycle:
        signer = (lambda record: f"signed.{record.id}.jwt") if signs else None
        claimants = Claimants("sidecar", ["k1"], ["https://login.example.com/"])
        return Lifecycle(
            self.store, ACCOUNTS, prefix, lambda: self.now, os.urandom, signer, claimants
        )

    async def found(self, secret: str) -> TokenRecord | None:
        return await self.store.look_up(tokens.digest(secret))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_created_token_is_known_by_its_digest_and_has_the_right_shape(bench: Bench) -> None:
    record, secret = await bench.lifecycle.create("acme", "Shop", 30, paths=["/v1/a*"])
    assert tokens.classify(secret, "sct_") is Shape.ACCESS
    assert await bench.found(secret) == record
    assert (record.account, record.name, record.kind) == ("acme", "Shop", TokenKind.ACCESS)
    assert record.paths == ("/v1/a*",)
    assert record.created_at == 1_800_000_000
    assert record.expires_at == 1_800_000_000 + 30 * DAY_SECONDS


async def test_zero_days_is_unlimited(bench: Bench) -> None:
    record, _ = await bench.lifecycle.create("acme", "Shop", 0)
    assert record.expires_at is None


async def test_a_name_is_taken_once(bench: Bench) -> None:
    await bench.lifecycle.create("acme", "Shop", 1)
    with pytest.raises(NameTaken):
        await bench.lifecycle.create("acme", "Shop", 1)
    with pytest.raises(NameTaken):
        await bench.lifecycle.import_token("acme", "Shop", 1, FOREIGN)


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"account": "acmee"}, r"no account 'acmee' \(did you mean acme\?\)"),
    ({"account": "zzz"}, "no account 'zzz'$"),
    ({"account": "off"}, "account off is disabled"),
    ({"name": ""}, "give the token a name"),
    ({"name": "   "}, "give the token a name"),
    ({"name": "n" * 101}, "to 100 characters"),
    ({"name": "a\nb"}, "remove control"),
    ({"name": "a\x1b[31m"}, "remove control"),
    ({"name": "\u202eevil"}, "remove control"),
    ({"name": "\ud800"}, "remove control"),
    ({"days": -1}, "whole number of days from 0"),
    ({"days": 1.5}, "whole number"),
    ({"days": True}, "whole number"),
    ({"days": "30"}, "whole number"),
    ({"days": 10**9}, "whole number of days from 0"),
    ({"account": "brief", "days": 31}, "from 1 to 30: no token of account brief"),
    ({"account": "brief", "days": 0}, "from 1 to 30: no token of account brief"),
    ({"paths": ["v1"]}, "does not start with a slash"),
    ({"paths": ["/a", "/{x}y"]}, "whole segment"),
    ({"paths": ["/" + "a" * 3000]}, "at most 2048 bytes"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED, ids=str)
async def test_what_cannot_be_is_refused_with_the_reason_when_created_and_when_imported(
    bench: Bench, change: dict[str, object], why: str
) -> None:
    arguments: dict[str, object] = {"account": "acme", "name": "Shop", "days": 30} | change
    with pytest.raises(UsageError, match=why):
        await bench.lifecycle.create(**arguments)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=why):
        await bench.lifecycle.import_token(secret=FOREIGN, **arguments)  # type: ignore[arg-type]
    assert await bench.lifecycle.list() == []


async def test_an_accounts_longest_lifetime_is_itself_allowed(bench: Bench) -> None:
    record, _ = await bench.lifecycle.create("brief", "Shop", 30)
    assert record.expires_at == record.created_at + 30 * DAY_SECONDS


async def test_an_imported_token_works_as_it_is(bench: Bench) -> None:
    record = await bench.lifecycle.import_token("acme", "Old shop", 0, FOREIGN, paths=["/v1/**"])
    assert record.kind is TokenKind.IMPORTED
    assert await bench.found(FOREIGN) == record


NOT_IMPORTED = [
    (jwt_of({"iss": "sidecar"}), "has issuer 'sidecar'"),
    (jwt_of({"iss": "https://login.example.com/"}), "has issuer 'https://login.example.com/'"),
    (jwt_of({}, kid="k1"), "has key 'k1'"),
    (jwt_of({"exp": 1_800_000_000}), "has expired"),
    (jwt_of({"exp": "soon"}), "exp is not a number"),
    (jwt_of({}, alg="none"), "not signed"),
    (jwt_of({}, alg="none").rpartition(".")[0] + ".", "not signed, so anybody can make it"),
    (jwt_of({}) + "=", "without padding"),
    ("fifteen-chars-x", "16 to 4096 visible"),
    ("x" * 4097, "16 to 4096 visible"),
    ("sixteen chars xx", "16 to 4096 visible"),
    ("sixteen-chars-é-", "16 to 4096 visible"),
    ("sixteen-chars-x\n", "16 to 4096 visible"),
    ("sct_" + "a" * 60, "begins with sct_"),
    ("sct_and-something-else", "begins with sct_"),
]


@pytest.mark.parametrize(("secret", "why"), NOT_IMPORTED, ids=lambda value: repr(value)[:24])
async def test_what_is_not_importable_is_refused_without_being_repeated(
    bench: Bench, secret: str, why: str
) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        await bench.lifecycle.import_token("acme", "Shop", 1, secret)
    assert secret not in str(caught.value)
    assert await bench.lifecycle.list() == []


async def test_without_a_prefix_foreign_tokens_are_still_imported(bench: Bench) -> None:
    lifecycle = bench.made(prefix="")
    assert (await lifecycle.import_token("acme", "Shop", 1, FOREIGN)).kind is TokenKind.IMPORTED


@pytest.mark.parametrize(
    ("days", "exp", "lives"),
    [
        (0, None, None),
        (0, 1_800_000_100, 100),
        (30, None, 30 * DAY_SECONDS),
        (30, 1_800_000_100, 100),
        (1, 1_900_000_000, DAY_SECONDS),
    ],
)
async def test_an_imported_jwt_lives_as_long_as_is_asked_and_no_longer_than_its_exp(
    bench: Bench, days: int, exp: int | None, lives: int | None
) -> None:
    token = jwt_of({} if exp is None else {"exp": exp})
    record = await bench.lifecycle.import_token("acme", "Shop", days, token)
    assert record.kind is TokenKind.IMPORTED
    assert record.digest == tokens.digest(token)
    assert record.expires_at == (None if lives is None else 1_800_000_000 + lives)
    assert await bench.found(token) == record


async def test_the_successor_of_an_imported_jwt_is_an_access_token(bench: Bench) -> None:
    old = await bench.lifecycle.import_token("acme", "Shop", 30, jwt_of({}))
    _, secret = await bench.lifecycle.rotate(old.id, 0)
    assert tokens.classify(secret, "sct_") is Shape.ACCESS
    assert await bench.found(jwt_of({})) is None


async def test_a_token_is_imported_once(bench: Bench) -> None:
    await bench.lifecycle.import_token("acme", "Shop", 1, FOREIGN)
    with pytest.raises(UsageError, match="already"):
        await bench.lifecycle.import_token("brief", "Other", 1, FOREIGN)


async def test_lists_and_single_tokens_are_shown_with_their_last_use(bench: Bench) -> None:
    used, _ = await bench.lifecycle.create("acme", "Used", 1)
    unused, _ = await bench.lifecycle.create("brief", "Unused", 1)
    use = LastUse(1_800_000_000.0, "192.0.2.1")
    await bench.store.record_use([(use, [used.digest])])
    assert await bench.lifecycle.show(used.id) == TokenDetails(used, use)
    assert await bench.lifecycle.list("brief") == [TokenDetails(unused, None)]
    assert len(await bench.lifecycle.list()) == 2


async def test_a_revoked_token_is_gone(bench: Bench) -> None:
    record, secret = await bench.lifecycle.create("acme", "Shop", 1)
    assert await bench.lifecycle.revoke(record.id) == record
    assert await bench.found(secret) is None
    with pytest.raises(UnknownToken):
        await bench.lifecycle.revoke(record.id)


async def test_all_tokens_of_an_account_are_revoked_and_no_others(bench: Bench) -> None:
    ours = [(await bench.lifecycle.create("acme", name, 1))[0] for name in ("a", "b")]
    await bench.lifecycle.create("brief", "a", 1)
    assert await bench.lifecycle.revoke_all("acme") == sorted(ours, key=lambda record: record.id)
    assert await bench.lifecycle.revoke_all("acme") == []
    assert len(await bench.lifecycle.list()) == 1


async def test_no_method_reaches_another_accounts_token(bench: Bench) -> None:
    theirs, secret = await bench.lifecycle.create("brief", "Shop", 1)
    for method in (bench.lifecycle.show, bench.lifecycle.revoke):
        with pytest.raises(UnknownToken):
            await method(theirs.id, "acme")
    with pytest.raises(UnknownToken):
        await bench.lifecycle.rotate(theirs.id, 60, "acme")
    assert await bench.found(secret) == theirs


@pytest.mark.parametrize("days", [0, 7])
async def test_a_successor_is_like_the_old_one_which_lives_for_the_overlap(
    bench: Bench, days: int
) -> None:
    old, old_secret = await bench.lifecycle.create("acme", "Shop", days, paths=["/v1/**"])
    bench.now += DAY_SECONDS
    new, new_secret = await bench.lifecycle.rotate(old.id, 3600)
    assert (new.account, new.name, new.paths) == (old.account, old.name, old.paths)
    assert new.created_at == old.created_at + DAY_SECONDS
    assert new.expires_at == (new.created_at + days * DAY_SECONDS if days else None)
    assert await bench.found(old_secret) is not None
    bench.now += 3601
    assert await bench.found(old_secret) is None
    assert await bench.found(new_secret) == new


@pytest.mark.parametrize("days", [0, 7])
@pytest.mark.parametrize("kind", [TokenKind.ACCESS, TokenKind.JWT])
async def test_a_token_whose_successor_was_lost_is_rotated_for_the_lifetime_that_it_was_given(
    bench: Bench, days: int, kind: TokenKind
) -> None:
    lifecycle = bench.made(signs=True)
    old, _ = await lifecycle.create("acme", "Shop", days, kind=kind)
    for overlap_seconds in (7200, 3600, 1800):
        bench.now += 60
        successor, _ = await lifecycle.rotate(old.id, overlap_seconds)
        assert successor.lifetime_seconds == old.lifetime_seconds
        assert successor.expires_at == (successor.created_at + 7 * DAY_SECONDS if days else None)
        retiring = (await lifecycle.show(old.id)).record
        assert retiring.expires_at == int(bench.now) + overlap_seconds
        await lifecycle.revoke(successor.id)
    bench.now += 1800
    with pytest.raises(UnknownToken):
        await lifecycle.rotate(old.id, 60)


async def test_an_imported_token_keeps_its_lifetime_through_a_lost_successor(bench: Bench) -> None:
    old = await bench.lifecycle.import_token("acme", "Shop", 30, FOREIGN)
    lost, _ = await bench.lifecycle.rotate(old.id, 3600)
    await bench.lifecycle.revoke(lost.id)
    successor, _ = await bench.lifecycle.rotate(old.id, 3600)
    assert successor.expires_at == successor.created_at + 30 * DAY_SECONDS


async def test_an_imported_token_is_succeeded_by_an_access_token(bench: Bench) -> None:
    old = await bench.lifecycle.import_token("acme", "Shop", 0, FOREIGN)
    new, secret = await bench.lifecycle.rotate(old.id, 0)
    assert new.kind is TokenKind.ACCESS
    assert tokens.classify(secret, "sct_") is Shape.ACCESS
    assert await bench.found(FOREIGN) is None


async def test_a_token_is_rotated_once(bench: Bench) -> None:
    old, _ = await bench.lifecycle.create("acme", "Shop", 1)
    await bench.lifecycle.rotate(old.id, 60)
    with pytest.raises(AlreadyRotated):
        await bench.lifecycle.rotate(old.id, 60)


@pytest.mark.parametrize("overlap_seconds", [-1, 31 * DAY_SECONDS, float("nan"), float("inf")])
async def test_an_overlap_has_bounds(bench: Bench, overlap_seconds: float) -> None:
    old, _ = await bench.lifecycle.create("acme", "Shop", 1)
    with pytest.raises(UsageError, match="from 0s to 30d"):
        await bench.lifecycle.rotate(old.id, overlap_seconds)


async def test_a_lifetime_that_is_no_longer_allowed_is_not_renewed(bench: Bench) -> None:
    strict = Lifecycle(
        bench.store,
        {"acme": Account("acme", max_token_days=5)},
        "sct_",
        lambda: bench.now,
        os.urandom,
    )
    old, _ = await bench.lifecycle.create("acme", "Shop", 0)
    with pytest.raises(UsageError, match="may live at most 5 days"):
        await strict.rotate(old.id, 60)


async def fill(bench: Bench) -> list[TokenRecord]:
    """Make as many tokens as the account may have."""
    return [(await bench.lifecycle.create("few", f"Shop {number}", 30))[0] for number in range(3)]


async def test_an_account_has_at_most_its_number_of_tokens_however_made(
    bench: Bench,
) -> None:
    first, *_ = await fill(bench)
    why = "account few has 3 tokens, and may have 3: revoke one .* accounts.few.max_tokens raised"
    with pytest.raises(TooManyTokens, match=why):
        await bench.lifecycle.create("few", "Shop 4", 30)
    with pytest.raises(TooManyTokens, match=why):
        await bench.lifecycle.import_token("few", "Shop 4", 30, FOREIGN)
    await bench.lifecycle.create("acme", "Shop 4", 30)
    await bench.lifecycle.revoke(first.id)
    await bench.lifecycle.create("few", "Shop 4", 30)
    bench.now += 31 * DAY_SECONDS
    await fill(bench)


async def test_a_token_is_rotated_at_the_limit_which_the_old_one_does_not_count_for(
    bench: Bench,
) -> None:
    for old in await fill(bench):
        successor, _ = await bench.lifecycle.rotate(old.id, 3600)
    await bench.lifecycle.revoke(successor.id)
    await bench.lifecycle.create("few", "Shop 4", 30)
    with pytest.raises(TooManyTokens):
        await bench.lifecycle.create("few", "Shop 5", 30)


@pytest.mark.parametrize("days", [1, 30, 0])
async def test_rotating_again_and_again_makes_no_more_than_twice_as_many(
    bench: Bench, days: int
) -> None:
    token, _ = await bench.lifecycle.create("few", "Shop", days)
    for _ in range(5):
        token, _ = await bench.lifecycle.rotate(token.id, 30 * DAY_SECONDS)
    with pytest.raises(TooManyTokens, match="has 6 tokens with those that were rotated"):
        await bench.lifecycle.rotate(token.id, 3600)
    with pytest.raises(TooManyTokens):
        await bench.lifecycle.create("few", "Another", 30)
    await bench.lifecycle.rotate(token.id, 0)
    assert len(await bench.lifecycle.list("few")) == 6


async def test_of_many_asked_for_at_once_no_more_are_made_than_there_is_room_for(
    bench: Bench,
) -> None:
    asked = [bench.lifecycle.create("few", f"Shop {number}", 30) for number in range(50)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(outcome, TooManyTokens) for outcome in outcomes) == 47
    assert len(await bench.lifecycle.list("few")) == 3


async def test_a_few_creations_wait_and_more_are_refused_as_overload(bench: Bench) -> None:
    stopped = asyncio.Event()

    async def count_late(_account: str) -> int:
        await stopped.wait()
        return 0

    bench.store.count_at_most = count_late  # type: ignore[assignment, method-assign]
    asked = [
        asyncio.create_task(bench.lifecycle.create("few", f"Shop {number}", 30))
        for number in range(MOST_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await bench.lifecycle.create("few", "One more", 30)
    await bench.lifecycle.create("acme", "Shop", 30)
    for task in asked[:-1]:
        task.cancel()
    stopped.set()
    await asked[-1]
    await bench.lifecycle.create("few", "One more", 30)


async def test_without_a_limit_nothing_is_counted(bench: Bench) -> None:
    bench.store.count_at_most = None  # type: ignore[assignment, method-assign]
    await bench.lifecycle.create("acme", "Shop", 30)


async def test_a_jwt_needs_a_signer(bench: Bench) -> None:
    with pytest.raises(UsageError, match="have a key added"):
        await bench.lifecycle.create("acme", "Shop", 1, kind=TokenKind.JWT)
    with pytest.raises(UsageError, match="access token or a JWT"):
        await bench.lifecycle.create("acme", "Shop", 1, kind=TokenKind.IMPORTED)


async def test_a_jwts_id_is_its_jti_whose_digest_is_stored(bench: Bench) -> None:
    lifecycle = bench.made(signs=True)
    record, jwt = await lifecycle.create("acme", "Shop", 1, kind=TokenKind.JWT)
    assert jwt == f"signed.{record.id}.jwt"
    assert await bench.found(record.id) == record
    successor, _ = await lifecycle.rotate(record.id, 60)
    assert successor.kind is TokenKind.JWT


@pytest.mark.parametrize(
    ("secret", "shape"),
    [
        ("sct_" + "a" * 60, Shape.BAD_CHECKSUM),
        (jwt_of({}), Shape.JWT),
        ("an-unknown-foreign-token", Shape.OTHER),
        ("", Shape.UNREADABLE),
        ("\ud800" * 20, Shape.UNREADABLE),
    ],
)
async def test_an_unknown_string_is_described_by_its_shape(
    bench: Bench, secret: str, shape: Shape
) -> None:
    found = await bench.lifecycle.inspect(secret)
    assert found.shape is shape
    assert found.record is None


async def test_a_known_token_is_described_by_its_record(bench: Bench) -> None:
    record, secret = await bench.lifecycle.create("acme", "Shop", 1)
    imported = await bench.lifecycle.import_token("acme", "Old", 1, FOREIGN)
    found = await bench.lifecycle.inspect(secret)
    assert (found.shape, found.record) == (Shape.ACCESS, record)
    assert (await bench.lifecycle.inspect(FOREIGN)).record == imported
    assert secret not in repr(found)
