"""A header section is parsed once, and what follows from it is worked out once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sidecar.auth.credential_cache import CachedCredential
from sidecar.core.credentials import MALFORMED
from sidecar.core.model import Denial, Form, PasswordCredential, TokenCredential
from sidecar.core.tokens import digest
from sidecar.proxy.header_cache import BAD_EXPECT, BAD_HOST, ParsedHeaders
from sidecar.proxy.rules import Rules

TOKEN = "legacy-token-of-the-old-system"
Header = tuple[bytes, bytes]
HOST: Header = (b"Host", b"shop.example")
BEARER: Header = (b"Authorization", b"Bearer " + TOKEN.encode())


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
        ([HOST, (b"Expect", b"100-continue, x")], BAD_EXPECT),
        ([HOST, (b"Expect", b"x ,100-Continue")], BAD_EXPECT),
        ([HOST, (b"Expect", b"100-continue;a=b")], BAD_EXPECT),
        ([HOST, (b"Expect", b"100 -continue")], BAD_EXPECT),
        ([HOST, (b"Expect", b'"100-continue"')], BAD_EXPECT),
        ([HOST, (b"Expect", b"100-continue,\t100-CONTINUE")], None),
        ([HOST, (b"Expect", b"100-continue"), (b"expect", b"100-continue")], None),
        ([HOST, (b"Expect", b"")], None),
        ([HOST, (b"Expect", b" , ,")], None),
    ],
)
def test_what_no_request_may_say_is_known_from_its_headers(
    headers: Sequence[Header], denial: Denial | None, rules: Rules
) -> None:
    assert ParsedHeaders(rules, headers).denial is denial


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
    assert ParsedHeaders(rules, [HOST, header]).cached.credential == credential


def test_the_digest_is_the_tokens(rules: Rules) -> None:
    """A password, and what can't be read, have none."""
    assert ParsedHeaders(rules, [HOST, BEARER]).cached.digest == digest(TOKEN)
    assert CachedCredential(PasswordCredential("a", "b")).digest == ""
    assert CachedCredential(Denial("malformed_credentials", "")).digest == ""


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
    "access_token scheme": (
        [HOST, (b"Authorization", b"access_token \0")],
        1,
        OTHER,
        Form.BEARER,
    ),
    "a tab": ([HOST, (b"Authorization", b"Token\t\0")], 1, OTHER, Form.BEARER),
    "no scheme": ([HOST, (b"Authorization", b"\0")], 1, OTHER, Form.BEARER),
    "pair": (
        [(b"PassWord", b"\0"), HOST, (b"UserName", b"acme")],
        0,
        OTHER,
        PasswordCredential("acme", OTHER.decode()),
    ),
    "a token in the pair": ([(b"username", b""), (b"password", b"\0")], 1, OTHER, Form.BASIC),
    "a token in basic": (
        [HOST, (b"Authorization", b"Basic \0")],
        1,
        b"OmxlZ2FjeS10b2tlbi1vZi10aGUtb2xkLXN5c3RlbQ",
        TokenCredential(Form.BASIC, "legacy-token-of-the-old-system"),
    ),
    "no base64": ([HOST, (b"Authorization", b"Basic \0")], 1, b"no~base64~no~base64", MALFORMED),
}


@pytest.mark.parametrize(("headers", "cut", "secret", "found"), CUT.values(), ids=CUT.keys())
def test_a_secret_that_was_cut_out_is_read_as_in_its_place(
    headers: list[Header], cut: int, secret: bytes, found: object, rules: Rules
) -> None:
    """As if the headers had come with it; the credential is read once."""
    parsed, credentials = ParsedHeaders(rules, headers, cut), rules.seen
    assert parsed.slot is not None
    cached = credentials.get(parsed.slot, secret)
    expected = TokenCredential(found, secret.decode()) if isinstance(found, Form) else found
    assert cached.credential == expected
    whole = [(name, value.replace(b"\0", secret)) for name, value in headers]
    assert ParsedHeaders(rules, whole).cached.credential == expected
    credentials.put(cached)
    assert credentials.get(parsed.slot, secret) is cached
    assert secret.decode() not in repr(credentials) + repr(cached) + repr(parsed)


@pytest.mark.parametrize(
    ("headers", "cut"),
    [
        ([HOST, (b"X-Other", b"\0")], 1),
        ([HOST, (b"Access-Token", b"\0")], 1),
        ([HOST, (b"Authorization", b"Bearer \0"), (b"access_token", OTHER)], 1),
        ([HOST, (b"access_token", b"\0"), (b"jwt_token", OTHER)], 1),
        ([HOST, (b"Authorization", b"Bearer \0"), (b"Authorization", b"Bearer x")], 1),
        ([HOST, (b"Authorization", b"Digest \0")], 1),
        ([HOST, (b"Authorization", b"\0"), (b"password", b"x")], 1),
        ([HOST, (b"password", b"\0")], 1),
        ([HOST, (b"username", b"\0")], 1),
        ([(b"username", b"a"), (b"username", b"b"), (b"password", b"\0")], 2),
        ([(b"username", b"a"), (b"password", b"\0"), (b"password", b"x")], 1),
        ([(b"username", b"a"), (b"password", b"\0"), (b"access_token", OTHER)], 1),
    ],
)
def test_a_section_is_shared_only_if_its_one_credential_was_cut_out(
    headers: list[Header], cut: int, rules: Rules
) -> None:
    """Not one whose header these rules do not read, nor one with a second credential."""
    assert ParsedHeaders(rules, headers, cut).slot is None


def test_forwarded_lines_are_made_once_for_each_upstream_and_kind_of_peer(
    rules: Rules,
) -> None:
    parsed = ParsedHeaders(
        rules, [HOST, BEARER, (b"X-Forwarded-For", b"192.0.2.1"), (b"X-A", b"1")]
    )
    plain, forwarding = rules.upstreams["plain"].heads, rules.upstreams["forwarding"].heads
    lines = parsed.forwarded_lines(plain, False)
    assert parsed.forwarded_lines(plain, False) is lines
    assert b"X-A: 1\r\n" in lines
    assert TOKEN.encode() not in lines
    assert TOKEN.encode() in parsed.forwarded_lines(forwarding, False)
    assert b"192.0.2.1" not in lines
    assert parsed.forwarded_lines(plain, True) is not lines
    assert parsed.forwarded_lines(plain, False) is lines


def test_nothing_of_a_credential_shows_in_a_repr(rules: Rules) -> None:
    parsed = ParsedHeaders(rules, [HOST, BEARER])
    assert TOKEN not in repr(parsed) + repr(parsed.scan) + repr(parsed.cached)
