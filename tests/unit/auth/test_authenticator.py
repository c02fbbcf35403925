"""Who is calling: nobody passes but by a credential of the right kind, known or asked about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from sidecar.auth.authenticator import (
    BAD_CHECKSUM,
    INVALID_TOKEN,
    OTHER_ACCOUNT,
    Authenticator,
)
from sidecar.auth.credential_cache import CachedCredential
from sidecar.auth.issuers import IssuerUnavailable
from sidecar.auth.jwt_verifier import foreign_denial_key
from sidecar.auth.password_auth import INVALID_PASSWORD, PasswordAuth, too_many_failures
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.config.settings import Settings
from sidecar.core.credentials import MALFORMED
from sidecar.core.errors import Overloaded, StoreUnavailable
from sidecar.core.model import (
    Credential,
    Denial,
    Form,
    PasswordCredential,
    TokenCredential,
    TokenKind,
    TokenRecord,
)
from sidecar.core.policy import Principal
from sidecar.core.tokens import digest, generate
from sidecar.core.unclaimed_jwts import NOT_TRUSTED
from sidecar.runtime.build import build_rules
from tests.conformance.jwt_cases import GONE, Bench, dump, make_party

CLIENT = "192.0.2.1"
NOW = 1_800_000_000
OWN = make_party("sidecar", "listener", is_own=True)
ISSUER = "https://login.example.com/"
FOREIGN = make_party(ISSUER, "shop", is_own=False)
JTI = "k3v9z1xq7m2abc"
OPAQUE = "legacy-token-of-the-old-system"
ACCESS = generate("sct_", lambda count: bytes(range(count)))
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43


def record(secret: str, kind: TokenKind = TokenKind.ACCESS, **changes: Any) -> TokenRecord:
    made = TokenRecord("token000001", "acme", "a token", kind, digest(secret), NOW, None)
    return made.replace(**changes)


class Tokens:
    """What a store has, what of it is known here, and whether it can be asked."""

    def __init__(self) -> None:
        self.records: dict[str, TokenRecord] = {}
        self.known: set[str] = set()
        self.absent: set[str] = set()
        self.is_away = False
        self.asked: list[str] = []
        self.askers: list[str] = []
        self.familiar: set[str] = set()

    def add(self, made: TokenRecord) -> None:
        self.records[made.digest] = made

    def get(self, key: str) -> TokenRecord | None:
        return self.records.get(key) if key in self.known else None

    def is_absent(self, key: str) -> bool:
        return key in self.absent

    def is_familiar(self, key: str) -> bool:
        return key in self.familiar

    async def look_up(self, key: str, asker: str = "") -> TokenRecord | None:
        self.asked.append(key)
        self.askers.append(asker)
        if self.is_away:
            raise StoreUnavailable("away")
        self.known |= {key} & self.records.keys()
        return self.records.get(key)


class Gate:
    """Bans whom it is told to, and writes down what fails and who signs in."""

    def __init__(self) -> None:
        self.ban_seconds: int | None = None
        self.ration: float = inf
        self.slips_ration: float = inf
        self.failures: list[tuple[str, str | None]] = []
        self.sign_ins: list[tuple[str, str]] = []

    def check(self, client: str, account: str | None = None) -> int | None:
        return self.ban_seconds

    def may_look_up(self, client: str, digest: str, is_limited: bool = False) -> bool:
        self.ration -= 1
        self.slips_ration -= is_limited
        return self.ration >= 0 and (self.slips_ration >= 0 or not is_limited)

    def failures_of(self, client: str, key: str) -> int:
        return len(self.failures)

    def note_failure(self, client: str, account: str | None = None) -> None:
        self.failures.append((client, account))

    def note_sign_in(self, client: str, account: str) -> None:
        self.sign_ins.append((client, account))


async def is_right(password: str, phc: str) -> bool:
    return password == "right"


class World:
    """An authenticator with its store, its clock and the headers that a credential came in."""

    def __init__(self, settings: Settings, sign_in: PasswordVerifier) -> None:
        self.tokens = Tokens()
        self.now = float(NOW)
        self.gate = Gate()
        self.authenticator = Authenticator(
            self.tokens, PasswordAuth(sign_in, self.gate), lambda: self.now
        )
        self.rules = build_rules(settings, asyncio.get_running_loop())

    def recall(self, credential: Credential) -> Principal | Denial | None:
        return self.authenticator.cached_principal(
            self.rules, CachedCredential(credential), credential, CLIENT
        )

    async def identify(self, credential: Credential) -> Principal | Denial:
        return await self.authenticator.identify(
            self.rules, CachedCredential(credential), credential, CLIENT
        )

    async def ask(self, secret: str) -> Principal | Denial:
        return await self.identify(TokenCredential(Form.BEARER, secret))


def jwks(party_keys: list[dict[str, str]]) -> bytes:
    return dump({"keys": party_keys})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "jwks.json").write_bytes(jwks([FOREIGN.key().publish()]))
    settings = Settings.model_validate(
        {
            "upstreams": {"service": {"url": "http://127.0.0.1:1"}},
            "routes": [{"path": "/**"}],
            "accounts": {"acme": {"password_hash": HASH}, "globex": {}},
            "jwt": {
                "keys": [{"id": "EdDSA-1", "private_key": OWN.pems["EdDSA"]}],
                "trusted_issuers": [
                    {
                        "issuer": ISSUER,
                        "audience": "shop",
                        "jwks_file": "jwks.json",
                        "algorithms": ["EdDSA"],
                    },
                    {
                        "issuer": "https://away.example.com/",
                        "audience": "shop",
                        "jwks_url": "http://127.0.0.1:1/",
                        "algorithms": ["EdDSA"],
                    },
                ],
            },
        },
        context={"directory": tmp_path},
    )
    sign_in = PasswordVerifier(is_right)
    yield World(settings, sign_in)
    sign_in.close()


def own_jwt(**claims: object) -> str:
    return Bench(OWN, "acme", JTI, NOW, 10).with_claims(**claims)


def foreign_jwt(**claims: object) -> str:
    return Bench(FOREIGN, "acme", "their-id", NOW, 10).with_claims(**claims)


@pytest.mark.parametrize("form", [Form.BEARER, Form.HEADER, Form.QUERY])
@pytest.mark.parametrize("secret", [ACCESS, OPAQUE], ids=["access", "imported"])
async def test_a_token_is_asked_about_once_and_then_known(
    secret: str, form: Form, world: World
) -> None:
    kept = record(secret)
    world.tokens.add(kept)
    credential = TokenCredential(form, secret)
    assert world.recall(credential) is None
    assert await world.identify(credential) == Principal("acme", form, kept)
    assert world.recall(credential) == Principal("acme", form, kept)
    assert world.tokens.asked == [digest(secret)]


@pytest.mark.parametrize(
    ("secret", "denial"),
    [
        (ACCESS[:-1] + ("0" if ACCESS[-1] != "0" else "1"), BAD_CHECKSUM),
        ("short", MALFORMED),
        ("x" * 4097, MALFORMED),
    ],
    ids=["bad checksum", "short", "long"],
)
async def test_what_can_be_no_token_is_refused_without_asking(
    secret: str, denial: Denial, world: World
) -> None:
    assert await world.ask(secret) == denial
    assert world.tokens.asked == []


SLIPS = [
    f'"{ACCESS}"',
    f"'{OPAQUE}'",
    f"<{ACCESS}>",
    f"{OPAQUE},",
    "${ACCESS_TOKEN_OF_ACME}",
    "{{access_token}}",
    f"Bearer:{OPAQUE}",
    f"token={ACCESS}",
    f"{OPAQUE};",
]


@pytest.mark.parametrize("secret", SLIPS)
async def test_an_unknown_token_in_quotes_or_the_like_is_a_slip_and_no_guess(
    secret: str, world: World
) -> None:
    assert await world.ask(secret) == MALFORMED
    world.tokens.absent.add(digest(secret))
    assert world.recall(TokenCredential(Form.BEARER, secret)) == MALFORMED
    world.gate.ban_seconds = 7
    assert await world.ask(secret) == MALFORMED
    assert world.gate.failures == []


@pytest.mark.parametrize("secret", SLIPS)
async def test_what_looks_like_a_slip_passes_if_the_store_knows_it(
    secret: str, world: World
) -> None:
    """A token of another system is any visible text."""
    kept = record(secret, TokenKind.IMPORTED)
    world.tokens.add(kept)
    assert await world.ask(secret) == Principal("acme", Form.BEARER, kept)


async def test_slips_cause_no_more_look_ups_than_a_banned_client_may(world: World) -> None:
    world.gate.slips_ration = 1
    assert await world.ask(SLIPS[0]) == MALFORMED
    with pytest.raises(Overloaded):
        await world.ask(SLIPS[1])
    assert await world.ask(OPAQUE) == INVALID_TOKEN
    assert world.tokens.asked == [digest(SLIPS[0]), digest(OPAQUE)]


@pytest.mark.parametrize("secret", [ACCESS, OPAQUE])
async def test_a_token_that_the_store_does_not_know_is_invalid(secret: str, world: World) -> None:
    assert await world.ask(secret) == INVALID_TOKEN


async def test_a_token_that_is_known_to_be_unknown_is_refused_at_once_and_counts(
    world: World,
) -> None:
    world.tokens.absent.add(digest(ACCESS))
    credential = TokenCredential(Form.BEARER, ACCESS)
    assert world.recall(credential) == INVALID_TOKEN
    assert world.gate.failures == [(CLIENT, None)]
    world.gate.ban_seconds = 7
    assert world.recall(credential) == too_many_failures(7)
    assert world.tokens.asked == []


async def test_a_jwt_is_not_refused_for_a_jti_that_the_store_does_not_know(world: World) -> None:
    """A jti may be any text, that of another JWT included."""
    token = own_jwt()
    world.tokens.absent.add(digest(token))
    assert world.recall(TokenCredential(Form.BEARER, token)) is None


@pytest.mark.parametrize("jti", ["an-id-long-enough-for-a-token", JTI], ids=["long", "ours"])
async def test_the_id_of_a_jwt_opens_nothing(jti: str, world: World) -> None:
    """Its digest is a key in the store, and the id is in every listing and log."""
    world.tokens.add(record(jti, TokenKind.JWT, id=jti))
    world.tokens.known.add(digest(jti))
    assert world.recall(TokenCredential(Form.BEARER, jti)) is None
    assert await world.ask(jti) in (INVALID_TOKEN, MALFORMED)


async def test_our_jwt_needs_its_signature_and_its_record(world: World) -> None:
    token = own_jwt()
    assert await world.ask(token) == INVALID_TOKEN
    kept = record(JTI, TokenKind.JWT, id=JTI)
    world.tokens.add(kept)
    credential = TokenCredential(Form.QUERY, token)
    assert world.recall(credential) is None
    expected = Principal("acme", Form.QUERY, kept)
    assert await world.identify(credential) == expected
    assert world.recall(credential) == expected
    forged = own_jwt(sub="globex").rpartition(".")[0] + token[token.rindex(".") :]
    assert isinstance(await world.ask(forged), Denial)


@pytest.mark.parametrize("change", ["revoked", "forgotten", "another's", "of another kind"])
async def test_our_jwt_is_known_no_longer_than_its_record(change: str, world: World) -> None:
    token, kept = own_jwt(), record(JTI, TokenKind.JWT, id=JTI)
    world.tokens.add(kept)
    credential = TokenCredential(Form.BEARER, token)
    await world.identify(credential)
    changes: dict[str, Callable[[], object]] = {
        "revoked": world.tokens.records.clear,
        "forgotten": world.tokens.known.clear,
        "another's": lambda: world.tokens.add(kept.replace(account="globex")),
        "of another kind": lambda: world.tokens.add(kept.replace(kind=TokenKind.ACCESS)),
    }
    changes[change]()
    assert world.recall(credential) is None
    verdict = await world.identify(credential)
    assert isinstance(verdict, Principal) is (change == "forgotten")


async def test_a_verdict_that_is_kept_ends_with_the_jwt(world: World) -> None:
    world.tokens.add(record(JTI, TokenKind.JWT, id=JTI))
    credential = TokenCredential(Form.BEARER, own_jwt(exp=NOW + 5))
    assert isinstance(await world.identify(credential), Principal)
    world.now = NOW + 4.9
    assert world.recall(credential) is not None
    world.now = float(NOW + 5)
    assert world.recall(credential) is None
    denial = await world.identify(credential)
    assert isinstance(denial, Denial)
    assert denial.detail == "The token has expired."


async def test_a_record_for_the_string_of_a_jwt_lets_no_forgery_in(world: World) -> None:
    """A key of ours claims it, so its signature is asked for."""
    forged = own_jwt()[:-6] + "AAAAAA"
    world.tokens.add(record(forged, TokenKind.IMPORTED))
    assert isinstance(await world.ask(forged), Denial)


OLD = make_party("old-system", "old", is_own=False)


def old_jwt(**claims: object) -> str:
    """Return a JWT of the system that is replaced: its key is not known here."""
    unnamed = {"iss": GONE, "aud": GONE, "jti": GONE, "exp": GONE} | claims
    bench = Bench(OLD, "someone", "", NOW, 10)
    return bench.sign(dump(bench.header(kid=GONE)), dump(bench.claims(**unnamed)))


@pytest.mark.parametrize("form", [Form.BEARER, Form.HEADER, Form.QUERY])
@pytest.mark.parametrize("claims", [{}, {"iss": "old-system"}, {"exp": NOW + 9}], ids=str)
async def test_an_imported_jwt_is_whom_its_record_names(
    claims: dict[str, object], form: Form, world: World
) -> None:
    token = old_jwt(**claims)
    kept = record(token, TokenKind.IMPORTED, expires_at=NOW + 5)
    credential = TokenCredential(form, token)
    assert await world.identify(credential) == NOT_TRUSTED
    world.tokens.add(kept)
    cached = CachedCredential(credential)
    found = await world.authenticator.identify(world.rules, cached, credential, CLIENT)
    assert found == Principal("acme", form, kept)
    assert cached.is_cacheable
    asked = len(world.tokens.asked)
    again = world.authenticator.cached_principal(world.rules, cached, credential, CLIENT)
    assert again is found
    assert len(world.tokens.asked) == asked


async def test_an_imported_jwt_is_asked_about_under_every_set_of_rules(world: World) -> None:
    """What was read under other rules is another entry: these may trust its issuer."""
    token = old_jwt()
    world.tokens.add(record(token, TokenKind.IMPORTED))
    await world.ask(token)
    assert world.recall(TokenCredential(Form.BEARER, token)) is None


async def test_an_imported_jwt_is_no_other_string(world: World) -> None:
    token = old_jwt()
    world.tokens.add(record(token, TokenKind.IMPORTED))
    forged = old_jwt(sub="globex").rpartition(".")[0] + token[token.rindex(".") :]
    assert await world.ask(forged) == NOT_TRUSTED


@pytest.mark.parametrize("kind", [TokenKind.JWT, TokenKind.ACCESS])
async def test_a_record_of_another_kind_lets_no_unclaimed_jwt_in(
    kind: TokenKind, world: World
) -> None:
    token = old_jwt()
    world.tokens.add(record(token, kind))
    assert await world.ask(token) == NOT_TRUSTED


@pytest.mark.parametrize(
    "make", [lambda: own_jwt(exp=NOW - 9), lambda: foreign_jwt(aud="x"), lambda: own_jwt(iss="old")]
)
async def test_a_record_opens_nothing_to_a_jwt_that_a_key_or_an_issuer_claims(
    make: Callable[[], str], world: World
) -> None:
    token = make()
    world.tokens.add(record(token, TokenKind.IMPORTED))
    assert isinstance(await world.ask(token), Denial)
    assert digest(token) not in world.tokens.asked


async def test_the_exp_of_an_imported_jwt_ends_it_whatever_its_record_says(world: World) -> None:
    token = old_jwt(exp=NOW + 5)
    credential = TokenCredential(Form.BEARER, token)
    world.tokens.add(record(token, TokenKind.IMPORTED, expires_at=None))
    found = await world.identify(credential)
    assert isinstance(found, Principal)
    assert found.record is not None
    assert found.record.expires_at == NOW + 5
    world.now = float(NOW + 5)
    assert world.recall(credential) is None
    denial = await world.identify(credential)
    assert isinstance(denial, Denial)
    assert denial.detail == "The token has expired."


async def test_an_imported_jwt_beside_a_user_name_must_be_its_accounts(world: World) -> None:
    token = old_jwt()
    world.tokens.add(record(token, TokenKind.IMPORTED))
    for name, expected in (("acme", "acme"), ("globex", OTHER_ACCOUNT), ("", "acme")):
        found = await world.identify(TokenCredential(Form.BASIC, token, name))
        assert (found.account if isinstance(found, Principal) else found) == expected


async def test_whether_a_jwt_was_imported_is_not_guessed(world: World) -> None:
    world.tokens.is_away = True
    with pytest.raises(StoreUnavailable):
        await world.ask(old_jwt())


async def test_made_up_jwts_are_looked_up_no_more_than_a_client_may(world: World) -> None:
    world.gate.ration = 1
    assert await world.ask(old_jwt()) == NOT_TRUSTED
    with pytest.raises(Overloaded):
        await world.ask(old_jwt(sub="another"))
    assert len(world.tokens.asked) == 1
    assert world.gate.failures == [(CLIENT, None)]


@pytest.mark.parametrize("jti", ["their-id", None])
async def test_a_foreign_jwt_passes_by_its_signature_and_may_have_an_id(
    jti: str | None, world: World
) -> None:
    claims = foreign_jwt() if jti else foreign_jwt(jti=GONE)
    credential = TokenCredential(Form.HEADER, claims)
    principal = await world.identify(credential)
    assert isinstance(principal, Principal)
    assert (principal.account, principal.form) == ("acme", Form.HEADER)
    assert principal.record is not None
    assert principal.record.digest == ""
    assert len(world.tokens.asked) == (1 if jti else 0)
    assert world.recall(credential) is None  # a denial must be asked about each time


async def test_a_denied_foreign_jwt_is_invalid_from_then_on(world: World) -> None:
    token = foreign_jwt()
    assert isinstance(await world.ask(token), Principal)
    key = foreign_denial_key(ISSUER, "their-id")
    world.tokens.add(record("", TokenKind.JWT, digest=key, account="@denied"))
    assert await world.ask(token) == INVALID_TOKEN


async def test_the_id_of_ours_in_a_foreign_jwt_is_not_ours(world: World) -> None:
    """An issuer chooses its ids: it neither borrows our record nor is denied by it."""
    world.tokens.add(record(JTI, TokenKind.JWT, id=JTI, account="globex"))
    principal = await world.ask(foreign_jwt(jti=JTI))
    assert isinstance(principal, Principal)
    assert principal.account == "acme"


@pytest.mark.parametrize("make", [own_jwt, foreign_jwt], ids=["own", "foreign"])
async def test_whether_a_jwt_is_revoked_is_not_guessed(
    make: Callable[[], str], world: World
) -> None:
    world.tokens.is_away = True
    with pytest.raises(StoreUnavailable):
        await world.ask(make())


async def test_a_bad_signature_is_refused_while_the_store_is_away(world: World) -> None:
    world.tokens.is_away = True
    assert isinstance(await world.ask(own_jwt()[:-6] + "AAAAAA"), Denial)


async def test_an_issuer_that_can_not_be_asked_is_not_a_refusal(world: World) -> None:
    with pytest.raises(IssuerUnavailable):
        await world.ask(foreign_jwt(iss="https://away.example.com/"))


async def test_a_password_is_known_once_it_was_found_right(world: World) -> None:
    right = PasswordCredential("acme", "right")
    assert world.recall(right) is None
    assert await world.identify(right) == Principal("acme", Form.BASIC, None)
    assert world.recall(right) == Principal("acme", Form.BASIC, None)


@pytest.mark.parametrize(
    ("account", "password"), [("acme", "wrong"), ("nobody", "right"), ("globex", "right")]
)
async def test_a_wrong_password_and_an_unknown_account_are_one_answer(
    account: str, password: str, world: World
) -> None:
    credential = PasswordCredential(account, password)
    assert world.recall(credential) is None
    assert await world.identify(credential) is INVALID_PASSWORD


async def test_no_denial_holds_a_part_of_the_token(world: World) -> None:
    for secret in (ACCESS, OPAQUE, own_jwt(), foreign_jwt(aud="x"), own_jwt()[:-4] + "AAAA"):
        denial = await world.ask(secret)
        assert isinstance(denial, Denial)
        assert not any(part[:8] in denial.detail for part in secret.split("."))


@pytest.mark.parametrize(
    ("secret", "counts"),
    [
        (OPAQUE, True),
        (ACCESS[:-1] + ("A" if ACCESS[-1] != "A" else "B"), True),
        (own_jwt(), True),
        (own_jwt()[:-6] + "AAAAAA", True),
        (foreign_jwt(aud="x"), True),
        ("not\x7freadable-at-all", False),
    ],
    ids=["unknown", "checksum", "without a record", "signature", "claims", "unreadable"],
)
async def test_a_bad_token_counts_against_its_client_and_an_unreadable_one_does_not(
    secret: str, counts: bool, world: World
) -> None:
    await world.ask(secret)
    assert world.gate.failures == ([(CLIENT, None)] if counts else [])


async def test_a_banned_client_gets_429_for_what_is_bad_and_passes_with_what_is_good(
    world: World,
) -> None:
    world.gate.ban_seconds = 17
    banned = await world.ask(OPAQUE)
    assert isinstance(banned, Denial)
    assert (banned.code, banned.retry_after_seconds) == ("too_many_failures", 17)
    assert await world.identify(PasswordCredential("acme", "right")) == banned
    world.tokens.add(record(OPAQUE, TokenKind.IMPORTED))
    assert isinstance(await world.ask(OPAQUE), Principal)
    assert world.gate.failures == []


async def test_a_token_beyond_the_ration_of_a_banned_client_is_not_known_and_never_refused(
    world: World,
) -> None:
    world.gate.ban_seconds = 17
    world.gate.ration = 1
    assert isinstance(await world.ask(OPAQUE), Denial)
    with pytest.raises(Overloaded):
        await world.ask(OPAQUE)
    assert world.tokens.asked == [digest(OPAQUE)]
    assert world.gate.failures == []


async def test_a_token_that_was_good_lately_and_a_signed_one_draw_on_no_ration(
    world: World,
) -> None:
    world.gate.ration = 0
    world.tokens.add(record(OPAQUE, TokenKind.IMPORTED))
    world.tokens.familiar.add(digest(OPAQUE))
    assert isinstance(await world.ask(OPAQUE), Principal)
    assert await world.ask(own_jwt()) is INVALID_TOKEN
    assert world.gate.ration == 0


@pytest.mark.parametrize(
    ("client", "asker"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("2001:db8::5", "2001:db8::/64"),
        ("unix:", "unix:"),
        ("", "?"),
    ],
)
async def test_a_token_is_looked_up_in_the_name_of_its_callers_network(
    client: str, asker: str, world: World
) -> None:
    """An empty one would be the sidecar's own."""
    for secret in (OPAQUE, own_jwt()):
        credential = TokenCredential(Form.BEARER, secret)
        await world.authenticator.identify(
            world.rules, CachedCredential(credential), credential, client
        )
    assert world.tokens.askers == [asker, asker]


async def test_what_can_not_be_known_is_no_failure(world: World) -> None:
    world.tokens.is_away = True
    with pytest.raises(StoreUnavailable):
        await world.ask(OPAQUE)
    assert world.gate.failures == []


@pytest.mark.parametrize("kind", ["access", "imported", "own JWT", "foreign JWT"])
async def test_the_user_name_that_came_with_a_token_must_be_its_accounts(
    kind: str, world: World
) -> None:
    """Whether the token is new here, known, or cached with the user name that was right."""
    secret = {"access": ACCESS, "imported": OPAQUE, "own JWT": own_jwt()}.get(kind) or foreign_jwt()
    world.tokens.add(record(JTI, TokenKind.JWT, id=JTI) if kind == "own JWT" else record(secret))
    rules, authenticator = world.rules, world.authenticator

    async def ask(cached: CachedCredential) -> Principal | Denial:
        credential = cached.credential
        assert isinstance(credential, TokenCredential)
        found = authenticator.cached_principal(rules, cached, credential, CLIENT)
        return found or await authenticator.identify(rules, cached, credential, CLIENT)

    cached = {
        name: CachedCredential(TokenCredential(Form.BASIC, secret, name))
        for name in ("globex", "", "acme", "Acme", "nobody")
    }
    for _ in range(3):
        for name, one in cached.items():
            caller = await ask(one)
            if name in ("", "acme"):
                assert isinstance(caller, Principal)
                assert (caller.account, caller.form) == ("acme", Form.BASIC)
            else:
                assert caller is OTHER_ACCOUNT
    assert world.gate.failures == [(CLIENT, None)] * 9
    world.gate.ban_seconds = 7
    assert await ask(cached["globex"]) == too_many_failures(7)
    assert isinstance(await ask(cached["acme"]), Principal)
