"""A header section is read once, and what follows from it is worked out once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from sidecar.config.settings import Settings
from sidecar.core.credentials import MALFORMED
from sidecar.core.model import Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import digest
from sidecar.proxy.reading import BAD_EXPECT, BAD_HOST, Claim, Claims, Reading
from sidecar.proxy.rules import Rules
from sidecar.runtime.build import build_rules

TOKEN = "legacy-token-of-the-old-system"
Header = tuple[bytes, bytes]
HOST: Header = (b"Host", b"shop.example")
BEARER: Header = (b"Authorization", b"Bearer " + TOKEN.encode())


@pytest.fixture
async def rules() -> Rules:
    upstreams = {
        "plain": {"url": "http://127.0.0.1:1"},
        "forwarding": {"url": "http://127.0.0.1:1", "forward_credentials": True},
    }
    routes = [{"path": f"/{name}", "upstream": name} for name in upstreams]
    settings = Settings.model_validate(
        {"upstreams": upstreams, "routes": routes}, context={"directory": Path()}
    )
    return build_rules(settings, asyncio.get_running_loop())


@pytest.mark.parametrize(
    ("headers", "denial"),
    [
        ([HOST], None),
        ([], None),
        ([(b"Host", b"a/b")], BAD_HOST),
        ([(b"Host", b"user@a")], BAD_HOST),
        ([(b"Host", b"")], BAD_HOST),
        ([HOST, (b"Expect", b"100-continue")], None),
        ([HOST, (b"Expect", b"100-Continue")], None),
        ([HOST, (b"Expect", b"200-ok")], BAD_EXPECT),
        ([HOST, (b"Expect", b"100-continue"), (b"Expect", b"x")], BAD_EXPECT),
    ],
)
def test_what_no_request_may_say_is_known_from_its_headers(
    headers: Sequence[Header], denial: Denial | None, rules: Rules
) -> None:
    assert Reading(rules, headers).denial is denial


@pytest.mark.parametrize(
    ("header", "credential"),
    [
        (BEARER, TokenCredential(Form.BEARER, TOKEN)),
        ((b"access_token", TOKEN.encode()), TokenCredential(Form.HEADER, TOKEN)),
        ((b"Authorization", b"Basic YTpi"), PasswordCredential("a", "b")),
        ((b"X-Other", b"x"), None),
    ],
)
def test_the_credential_of_the_headers_is_extracted(
    header: Header, credential: object, rules: Rules
) -> None:
    assert Reading(rules, [HOST, header]).claim.credential == credential


def test_the_digest_is_the_tokens(rules: Rules) -> None:
    """A password, and what can't be read, have none."""
    assert Reading(rules, [HOST, BEARER]).claim.digest == digest(TOKEN)
    assert Claim(PasswordCredential("a", "b")).digest == ""
    assert Claim(Denial("malformed_credentials", "")).digest == ""


OTHER = b"another-token-of-another-shop"
CUT: dict[str, tuple[list[Header], int, bytes, object]] = {
    "bearer": ([HOST, (b"Authorization", b"Bearer \0")], 1, OTHER, Form.BEARER),
    "in any case": ([(b"aUTHORIZATION", b"bEARER \0"), HOST], 0, OTHER, Form.BEARER),
    "header": ([HOST, (b"Access_Token", b"\0")], 1, OTHER, Form.HEADER),
    "basic": (
        [HOST, (b"Authorization", b"Basic \0")],
        1,
        b"YWNtZTpwYXNzd29yZA==",
        PasswordCredential("acme", "password"),
    ),
    "no base64": ([HOST, (b"Authorization", b"Basic \0")], 1, b"no~base64~no~base64", MALFORMED),
}


@pytest.mark.parametrize(("headers", "cut", "secret", "found"), CUT.values(), ids=CUT.keys())
def test_a_secret_that_was_cut_out_is_read_as_in_its_place(
    headers: list[Header], cut: int, secret: bytes, found: object, rules: Rules
) -> None:
    """As if the headers had come with it; the claim is made once."""
    reading, claims = Reading(rules, headers, cut), Claims()
    assert reading.is_shared
    claim = claims.read(reading, secret)
    expected = TokenCredential(found, secret.decode()) if isinstance(found, Form) else found
    assert claim.credential == expected
    whole = [(name, value.replace(b"\0", secret)) for name, value in headers]
    assert Reading(rules, whole).claim.credential == expected
    claims.keep(claim)
    assert claims.read(reading, secret) is claim
    assert secret.decode() not in repr(claims) + repr(claim) + repr(reading)


async def test_what_is_read_and_not_kept_displaces_nothing(rules: Rules) -> None:
    """However much of it there is."""
    reading, claims = Reading(rules, [HOST, (b"Authorization", b"Bearer \0")], 1), Claims()
    known = claims.read(reading, OTHER)
    claims.keep(known)
    for number in range(20_000):
        claims.read(reading, b"a-token-that-comes-once-%d" % number)
    assert repr(claims) == "<Claims 1>"
    assert claims.read(reading, OTHER) is known


async def test_as_many_claims_are_remembered_as_there_is_room_for(rules: Rules) -> None:
    reading, claims = Reading(rules, [HOST, (b"Authorization", b"Bearer \0")], 1), Claims()
    for number in range(20_000):
        claims.keep(claims.read(reading, b"a-token-that-is-kept-%d" % number))
    assert repr(claims) in {f"<Claims {kept}>" for kept in range(1, 4097)}


async def test_a_token_in_a_header_and_the_same_as_a_bearers_are_two_claims(rules: Rules) -> None:
    bearer = Reading(rules, [HOST, (b"Authorization", b"Bearer \0")], 1)
    header, claims = Reading(rules, [HOST, (b"access_token", b"\0")], 1), Claims()
    for reading in (bearer, header):
        claims.keep(claims.read(reading, OTHER))
    forms = [claims.read(reading, OTHER).credential for reading in (bearer, header)]
    text = OTHER.decode()
    assert forms == [TokenCredential(Form.BEARER, text), TokenCredential(Form.HEADER, text)]
    assert repr(claims) == "<Claims 2>"


async def test_a_claim_of_more_than_two_kibibytes_is_not_kept(rules: Rules) -> None:
    reading, claims = Reading(rules, [HOST, (b"Authorization", b"Bearer \0")], 1), Claims()
    claims.keep(claims.read(reading, b"t" * 2049))
    assert repr(claims) == "<Claims 0>"


@pytest.mark.parametrize(
    ("headers", "cut"),
    [
        ([HOST, (b"X-Other", b"\0")], 1),
        ([HOST, (b"Access-Token", b"\0")], 1),
        ([HOST, (b"Authorization", b"Bearer \0"), (b"access_token", OTHER)], 1),
        ([HOST, (b"access_token", b"\0"), (b"jwt_token", OTHER)], 1),
        ([HOST, (b"Authorization", b"Bearer \0"), (b"Authorization", b"Bearer x")], 1),
    ],
)
def test_a_section_is_shared_only_if_its_one_credential_was_cut_out(
    headers: list[Header], cut: int, rules: Rules
) -> None:
    """Not one whose header these rules do not read, nor one with a second credential."""
    assert not Reading(rules, headers, cut).is_shared


def test_kept_lines_are_made_once_for_each_upstream_and_each_kind_of_peer(rules: Rules) -> None:
    reading = Reading(rules, [HOST, BEARER, (b"X-Forwarded-For", b"192.0.2.1"), (b"X-A", b"1")])
    plain, forwarding = rules.upstreams["plain"].heads, rules.upstreams["forwarding"].heads
    lines = reading.kept_lines(plain, False)
    assert reading.kept_lines(plain, False) is lines
    assert b"X-A: 1\r\n" in lines
    assert TOKEN.encode() not in lines
    assert TOKEN.encode() in reading.kept_lines(forwarding, False)
    assert b"192.0.2.1" not in lines
    assert reading.kept_lines(plain, True) is not lines
    assert reading.kept_lines(plain, False) is lines


def test_nothing_of_a_credential_shows_in_a_repr(rules: Rules) -> None:
    reading = Reading(rules, [HOST, BEARER])
    assert TOKEN not in repr(reading) + repr(reading.scan) + repr(reading.claim)
