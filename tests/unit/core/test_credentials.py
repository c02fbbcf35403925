"""Credentials: one documented reading of every spelling, and nothing left of them in the query."""

from __future__ import annotations

import base64
import os
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.credentials import CredentialRules, Extracted
from sidecar.core.headers import HeaderRules, PasswordFields
from sidecar.core.model import (
    ALL_FORMS,
    Credential,
    Denial,
    Form,
    PasswordCredential,
    TokenCredential,
)
from sidecar.core.policy import accept
from sidecar.core.tokens import generate

PAIR = PasswordFields("username", "password")
RULES = CredentialRules(
    ("access_token", "jwt_token"),
    ("access_token", "token", "jwt_token"),
    ("Bearer", "Token", "access_token", "jwt_token", ""),
    PAIR,
    "sct_",
)
HEADERS = HeaderRules(["X-Account"], RULES.headers, PAIR)
T = "sct_" + "t" * 60
X = "sct_" + "x" * 60
OWN = generate("sct_", os.urandom)
OTHER = generate("sct_", os.urandom)
FOREIGN = generate("foreign_", os.urandom)  # another system's prefix
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
IMPORTED = "legacy-token-of-the-old-system"


def basic(text: str | bytes, scheme: str = "Basic") -> str:
    raw = text.encode() if isinstance(text, str) else text
    return f"{scheme} {base64.b64encode(raw).decode()}"


def extract(*headers: tuple[str, str], query: str | None = None) -> Extracted:
    raw = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]
    return RULES.extract(HEADERS.scan(raw), query)


def outcome(credential: Credential | Denial | None) -> object:
    """Reduce to what a table can hold: a form and secret, an account and password, or a code."""
    match credential:
        case TokenCredential(form=form, secret=secret, account=account) if account:
            return form.value, secret, account
        case TokenCredential(form=form, secret=secret):
            return form.value, secret
        case PasswordCredential(account=account, password=password):
            return account, password
        case Denial(code=code):
            return code
    return None


def pair(account: str, password: str) -> list[tuple[str, str]]:
    return [("username", account), ("password", password)]


def authorization(*values: str) -> list[tuple[str, str]]:
    return [("Authorization", value) for value in values]


MALFORMED, AMBIGUOUS = "malformed_credentials", "ambiguous_credentials"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"Bearer {T}", ("bearer", T)),
        (f"bEARER   {T}", ("bearer", T)),
        (f"Bearer {T} ", ("bearer", T)),
        ("Bearer " + "x" * 16, ("bearer", "x" * 16)),
        ("Bearer " + "x" * 16384, ("bearer", "x" * 16384)),
        ("Bearer a.b-c_d~e+f/g==:*,{}", ("bearer", "a.b-c_d~e+f/g==:*,{}")),
        ("Bearer sidecar:token:*[a-z]?", ("bearer", "sidecar:token:*[a-z]?")),
        (f"Bearer\t{T}", ("bearer", T)),
        (f"Bearer \t  {T}\t ", ("bearer", T)),
        (f" \tBearer {T}", ("bearer", T)),
        (T, ("bearer", T)),
        (f"  {T}\t", ("bearer", T)),
        ("Bearersct_" + "t" * 60, ("bearer", "Bearersct_" + "t" * 60)),
        *[
            (f"{scheme}{space}{secret}", ("bearer", secret))
            for scheme in (
                "Token",
                "TOKEN",
                "access_token",
                "Access_Token",
                "jwt_token",
                "JWT_TOKEN",
            )
            for space in (" ", "  ", "\t")
            for secret in (T, JWT, IMPORTED)
        ],
        *[(secret, ("bearer", secret)) for secret in (OWN, JWT, IMPORTED, "x" * 16)],
        *[(value, MALFORMED) for value in ("", "Bearer", "bearer ", "Basic", "Basic  ")],
        *[(value, MALFORMED) for value in (" ", "Token", "token\t", "access_token", "jwt_token ")],
        ("Bearer " + "x" * 15, MALFORMED),
        ("Bearer " + "x" * 16385, MALFORMED),
        ("Bearer " + "x" * 65536, MALFORMED),
        (f"Bearer {T} {X}", MALFORMED),
        (f"Bearer {T}, Bearer {X}", MALFORMED),
        (f"Bearer {T}\0", MALFORMED),
        (f"{T} {X}", MALFORMED),
        (f"{T}\0", MALFORMED),
        (f"Token {T} {X}", MALFORMED),
        (f"Token Token {T}", MALFORMED),
        (f"access_token: {T}", MALFORMED),
        ("x" * 15, MALFORMED),
        ("x" * 16385, MALFORMED),
        ("Bearer " + "é" * 20, MALFORMED),
        (f"Bearer= {T}", MALFORMED),
        (f"JWT {T}", MALFORMED),
        (f"ApiKey {T}", MALFORMED),
        (f"Digest username={T}", MALFORMED),
        (f"Negotiate {T}", MALFORMED),
    ],
)
def test_a_token_follows_a_scheme_in_any_case_or_none(value: str, expected: object) -> None:
    assert outcome(extract(("Authorization", value)).credential) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (basic("acme:secret"), ("acme", "secret")),
        (basic("acme:secret", scheme="bAsIC "), ("acme", "secret")),
        (basic("acme:a:b::c:"), ("acme", "a:b::c:")),
        (basic("acme:"), ("acme", "")),
        (basic("acme: päß wörd €"), ("acme", " päß wörd €")),
        (basic("acme:e\u0301"), ("acme", "e\u0301")),
        (basic("acme:\u00e9"), ("acme", "\u00e9")),
        (basic(f"acme:{T}"), ("acme", T)),  # a wrong checksum
        (basic(f"acme:{IMPORTED}"), ("acme", IMPORTED)),
        (basic(f"acme:{FOREIGN}"), ("acme", FOREIGN)),
        (basic("acme:correct.horse.battery"), ("acme", "correct.horse.battery")),
        (basic("acme:eyJhbGc.correct.horse-battery"), ("acme", "eyJhbGc.correct.horse-battery")),
        (basic("acme:short"), ("acme", "short")),
        (basic("short:"), ("short", "")),
        (basic("acme:s\u00e9cret".encode("latin-1")), ("acme", "s\u00e9cret")),
        (basic("acm\u00e9:s\u00e9cret".encode("latin-1")), ("acm\u00e9", "s\u00e9cret")),
        (basic("acme:\u00c3\u00a9".encode("latin-1")), ("acme", "\u00e9")),  # it is UTF-8, too
        ("Basic YWNtZTpzZWNyZXQ", ("acme", "secret")),
        ("Basic\tYWNtZTpzZWNyZXQ= ", ("acme", "secret")),
        ("basic \t YWNtZTpzZWNyZXQ", ("acme", "secret")),
        ("Basic YWNtZTo_Pj8-", ("acme", "?>?>")),
        ("Basic YWNtZTo/Pj8+", ("acme", "?>?>")),
        ("Basic YWNtZTo-Pg", ("acme", ">>")),
        *[(basic(f"{secret}:"), ("basic", secret)) for secret in (T, OWN, JWT, IMPORTED)],
        *[(basic(f":{secret}"), ("basic", secret)) for secret in (T, OWN, JWT, IMPORTED)],
        (basic(f"acme:{OWN}"), ("basic", OWN, "acme")),
        (basic(f"jane+orders@example.com:{JWT}"), ("basic", JWT, "jane+orders@example.com")),
        (basic(f" {OWN} : "), ("basic", OWN)),
        (basic(f"{OWN}:\n"), ("basic", OWN)),
        (basic(f":{OWN}\r\n"), ("basic", OWN)),
        (basic(f"acme:{OWN}\n"), ("basic", OWN, "acme")),
        (basic(f"acme: {OWN}").rstrip("="), ("basic", OWN, "acme")),
        (basic(":" + "x" * 16384), ("basic", "x" * 16384)),
        (basic(":" + "x" * 16385), MALFORMED),
        (basic("acme:" + "x" * 3067), ("acme", "x" * 3067)),
        (basic("acme:" + "x" * 3068), MALFORMED),
        (basic("\u00ff\u00feacme:secret".encode("latin-1")), MALFORMED),
        (basic(f"a\0:{IMPORTED}"), MALFORMED),
        (basic(":secret"), MALFORMED),
        (basic(":"), MALFORMED),
        (basic("acme"), MALFORMED),
        (basic(T), MALFORMED),
        (basic("ac\0me:secret"), MALFORMED),
        (basic("acme:sec\0ret"), MALFORMED),
        (basic("acme:sec\r\nret"), MALFORMED),
        (basic("acme:\x7f"), MALFORMED),
        (basic("acme:secret".encode("utf-16")), MALFORMED),
        (basic("acme:" + "x" * 1_000_000), MALFORMED),
        ("Basic YWNtZTpzZWNyZXQ==", MALFORMED),
        ("Basic YWNt ZTpzZWNyZXQ=", MALFORMED),
        ("Basic YWNtZTpzZWNyZXQ*", MALFORMED),
        ("Basic YWNtZTpzZWNyZ", MALFORMED),
        ("Basic YWNtZTpzZWNyZXQ=YQ==", MALFORMED),
        ("Basic acme:secret", MALFORMED),
        ("Basic =", MALFORMED),
    ],
)
def test_basic_holds_an_account_and_a_password_or_a_token_in_place(
    value: str, expected: object
) -> None:
    assert outcome(extract(("Authorization", value)).credential) == expected


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([], None, None),
        ([], "", None),
        ([], "a=b", None),
        ([("access_token", T)], None, ("header", T)),
        ([("JWT_Token", T)], None, ("header", T)),
        ([], f"access_token={T}", ("query", T)),
        ([], f"a=1&token={T}&b=2", ("query", T)),
        ([], f"jwt_token={T}", ("query", T)),
        ([("access_token", f" \t{T} ")], None, ("header", T)),
        *[
            ([], f"token={around}{T}{around}", ("query", T))
            for around in ("%20", "%09", "%0A", "%0d%0a", "%20%0b%0c%20")
        ],
        *[
            (pair("acme", password), None, ("acme", password))
            for password in ("p", "a:b", "\u20ac")
        ],
        (pair("acme", ""), None, ("acme", "")),
        ([("PASSWORD", "p"), ("UserName", "acme")], None, ("acme", "p")),
        (pair("acme", OWN), None, ("basic", OWN, "acme")),
        (pair("acme", JWT), None, ("basic", JWT, "acme")),
        (pair("acme", IMPORTED), None, ("acme", IMPORTED)),
        (pair("", IMPORTED), None, ("basic", IMPORTED)),
        (pair(IMPORTED, ""), None, ("basic", IMPORTED)),
        (pair("a:b", "c"), None, ("a:b", "c")),
        ([("username", "acme")], None, None),
        ([("username", "acme"), ("username", "other")], None, None),
    ],
)
def test_every_slot_is_read(
    headers: list[tuple[str, str]], query: str | None, expected: object
) -> None:
    assert outcome(extract(*headers, query=query).credential) == expected


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([*authorization(f"Bearer {T}", f"Bearer {T}")], None, ("bearer", T)),
        ([*authorization(f"Bearer {T}"), ("access_token", T)], f"token={T}", ("bearer", T)),
        ([("access_token", T), ("jwt_token", T)], None, ("header", T)),
        ([("access_token", T)], f"token={T}", ("header", T)),
        ([], f"token={T}&access_token={quote(T)}&token=%73{T[1:]}", ("query", T)),
        (authorization(basic("a:b"), basic("a:b")), None, ("a", "b")),
        ([*authorization(basic("a:b")), *pair("a", "b")], None, ("a", "b")),
        ([*pair("a", "b"), *pair("a", "b")], None, ("a", "b")),
        ([*authorization(f"token {T}"), ("access_token", T)], f"token=%20{T}", ("bearer", T)),
        ([*authorization(T), ("access_token", T)], None, ("bearer", T)),
        ([*authorization(basic(f"{T}:")), ("access_token", T)], None, ("header", T)),
        ([*authorization(basic(f":{T}"))], f"token={T}", ("query", T)),
        ([*authorization(basic(f":{T}")), *pair(T, "")], None, ("basic", T)),
        ([*authorization(OWN), *pair("acme", OWN)], None, ("bearer", OWN, "acme")),
        ([*authorization(basic(f"{OWN}:")), *pair("acme", OWN)], None, ("basic", OWN, "acme")),
        ([*pair("acme", OWN)], f"token={OWN}%0A", ("query", OWN, "acme")),
        ([("username", "acme"), *authorization(f"Bearer {T}")], None, ("bearer", T)),
    ],
)
def test_the_same_credential_twice_is_one_in_the_first_form(
    headers: list[tuple[str, str]], query: str | None, expected: object
) -> None:
    assert outcome(extract(*headers, query=query).credential) == expected


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (authorization(f"Bearer {T}", f"Bearer {X}"), None),
        (authorization(f"Bearer {X}", f"Bearer {T}"), None),
        (authorization(f"Bearer {T}", "Bearer"), None),
        (authorization("", f"Bearer {T}"), None),
        (authorization(f"Bearer {T}", f"bearer {T}"), None),
        (authorization(f"Bearer {T}", basic("a:b")), None),
        (authorization("Digest a", "Digest b"), None),
        ([*authorization(f"Bearer {T}"), ("access_token", X)], None),
        (authorization(f"Bearer {T}"), f"token={X}"),
        ([("access_token", T), ("access_token", X)], None),
        ([("access_token", T), ("jwt_token", X)], None),
        ([], f"access_token={T}&access_token={X}"),
        ([], f"access_token={T}&token={X}"),
        ([("access_token", T)], f"jwt_token={X}"),
        ([*authorization(basic("a:b")), ("access_token", T)], None),
        ([*authorization(basic(f"a:{T}")), ("access_token", T)], None),
        (authorization(basic("a:b")), f"token={T}"),
        (authorization(f"Bearer {T}"), "token=short"),
        (authorization(f"Bearer {T}"), "token=%00"),
        ([*authorization("Digest x"), ("access_token", T)], None),
        ([("access_token", "a b"), ("access_token", T)], None),
        ([("access_token", T)], "token=" + "x" * 100_000),
        ([*authorization(T), ("access_token", X)], None),
        ([*authorization(f"access_token {T}")], f"token={X}"),
        (authorization(T, f"Bearer {T}"), None),
        ([*pair("a", "b"), ("access_token", T)], None),
        ([*pair("a", "b"), *authorization(f"Bearer {T}")], None),
        ([*pair("a", "b"), *authorization(T)], None),
        (pair("a", "b"), f"token={T}"),
        ([*pair("a", "b"), *authorization(basic("a:c"))], None),
        ([*pair("a", "b"), *authorization(basic("c:b"))], None),
        ([*pair("a", "b"), *pair("a", "c")], None),
        ([*pair("a", "b"), *pair("c", "b")], None),
        ([*pair("a", "b"), ("username", "")], None),
        ([*pair("a", ""), *authorization(f"Bearer {T}")], None),
        ([("password", "b"), ("access_token", T)], None),
        ([*pair("acme", OWN), ("access_token", OTHER)], None),
        ([*pair("acme", OWN), *authorization(basic(f"other:{OWN}"))], None),
        ([*authorization(basic(f"{OWN}:")), ("access_token", OTHER)], None),
        ([*authorization(basic(f":{OWN}"))], f"token={OTHER}"),
        ([*authorization(basic(f"acme:{OWN}")), *pair("acme", "secret")], None),
    ],
)
def test_credentials_that_differ_are_ambiguous(
    headers: list[tuple[str, str]], query: str | None
) -> None:
    assert outcome(extract(*headers, query=query).credential) == AMBIGUOUS


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([("access_token", "")], None, MALFORMED),
        ([], "token=", MALFORMED),
        ([], "token", MALFORMED),
        ([], "token=&access_token", MALFORMED),
        ([*authorization("Bearer"), ("access_token", "")], "token=", MALFORMED),
        ([*authorization("Bearer"), ("access_token", T)], "token=", ("header", T)),
        ([*authorization("Basic"), ("jwt_token", "")], f"token={T}", ("query", T)),
        ([*authorization(f"Bearer {T}"), ("access_token", "")], "token", ("bearer", T)),
        ([], "token=%20%0a", MALFORMED),
        (pair("", ""), None, MALFORMED),
        ([("password", "")], None, MALFORMED),
        ([*pair("", ""), ("access_token", T)], "token=%20", ("header", T)),
        ([("password", ""), *authorization(f"Token {T}")], None, ("bearer", T)),
        ([*authorization("Token"), *pair("a", "b")], None, ("a", "b")),
    ],
)
def test_an_empty_slot_counts_only_without_another_credential(
    headers: list[tuple[str, str]], query: str | None, expected: object
) -> None:
    assert outcome(extract(*headers, query=query).credential) == expected


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([("access_token", "short")], None),
        ([("access_token", "with space in the middle")], None),
        ([("access_token", "é" * 20)], None),
        ([], "token=short"),
        ([], "token=" + "x" * 16385),
        ([], f"token={T}%00"),
        ([], f"token={T}%0d%0aX-Account:admin"),
        ([], f"token={T}%20x"),
        ([], f"token={T}%c2%a0"),
        ([("password", "secret")], None),
        ([("password", OWN)], None),
        (pair("", "secret"), None),
        (pair("${ACCOUNT}", "secret"), None),
        (pair('"acme"', '"secret"'), None),
        (pair("acme", "x" * 3069), None),
        ([], "token=%ff" + T),
        ([*authorization("Digest x")], "token=short"),
    ],
)
def test_what_cannot_be_read_is_malformed(
    headers: list[tuple[str, str]], query: str | None
) -> None:
    assert outcome(extract(*headers, query=query).credential) == MALFORMED


@pytest.mark.parametrize(
    ("query", "rest", "is_found"),
    [
        (f"token={T}", None, True),
        (f"?token={T}", f"?token={T}", False),
        ("", "", False),
        ("&", "&", False),
        (f"token={T}&a=1", "a=1", True),
        (f"a=1&token={T}", "a=1", True),
        (f"a=1&token={T}&a=2&&b", "a=1&a=2&&b", True),
        (f"z=%2F+%2f&token={T}&a=+&%zz&=&a[]=1;b", "z=%2F+%2f&a=+&%zz&=&a[]=1;b", True),
        (f"%61ccess_token={T}", None, True),
        (f"%74%6F%6B%65%6e={T}&x", "x", True),
        (f"ACCESS_TOKEN={T}", f"ACCESS_TOKEN={T}", False),
        (f"access_token[]={T}", f"access_token[]={T}", False),
        (f"access_token%5B%5D={T}", f"access_token%5B%5D={T}", False),
        (f"a=1;access_token={T}", f"a=1;access_token={T}", False),
        (f"access%5ftoken={T}", None, True),
        (f"access-token={T}", f"access-token={T}", False),
        (f"+token={T}", f"+token={T}", False),
        (f"xtoken={T}", f"xtoken={T}", False),
        (f"tokens={T}", f"tokens={T}", False),
        (f"%2574oken={T}", f"%2574oken={T}", False),
        (f"a=token={T}", f"a=token={T}", False),
        ("token", None, True),
        ("a=%41&b=%42", "a=%41&b=%42", False),
    ],
)
def test_one_reading_of_each_spelling_in_a_query(
    query: str, rest: str | None, is_found: bool
) -> None:
    extracted = extract(query=query)
    assert extracted.query == rest
    assert (extracted.credential is not None) is is_found
    if not is_found:
        assert extracted.query is query


def test_a_plus_in_a_query_token_is_a_plus() -> None:
    extracted = extract(query="token=abcdefgh+ijklmnop%2Bq")
    assert outcome(extracted.credential) == ("query", "abcdefgh+ijklmnop+q")


PAIRS = st.text(alphabet="ato%6bken=+;2F[]", max_size=12)
CREDENTIAL_PAIRS = st.sampled_from(
    [f"token={T}", f"access_token={X}", "%74oken=", "jwt_token", "access%5Ftoken=a=b"]
)


@given(st.lists(PAIRS | CREDENTIAL_PAIRS, max_size=8))
def test_stripping_leaves_the_rest_byte_for_byte_and_in_order(pairs: list[str]) -> None:
    names = {"access_token", "token", "jwt_token"}
    kept = [pair for pair in pairs if unquote(pair.partition("=")[0]) not in names]
    query = "&".join(pairs)
    if kept == pairs or not pairs:
        assert extract(query=query).query is query
    else:
        assert extract(query=query).query == ("&".join(kept) or None)


@given(st.text(max_size=30))
def test_any_query_at_all_is_read_without_an_error(query: str) -> None:
    assert isinstance(extract(query=query).query, str | None)


@given(st.binary(max_size=60))
def test_any_header_value_at_all_is_read_without_an_error(value: bytes) -> None:
    for name in (b"Authorization", b"access_token"):
        for start in (b"", b"Bearer ", b"Basic "):
            extracted = RULES.extract(HEADERS.scan([(name, start + value)]), None)
            assert extracted.credential is not None


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_every_account_and_password_without_controls_comes_back(
    account: str, password: str
) -> None:
    text = f"{account}:{password}"
    is_plain = not any(ord(c) < 32 or ord(c) == 127 or "\ud800" <= c <= "\udfff" for c in text)
    is_plain = is_plain and (password != "" or len(account) < 16)  # else it may be a token
    is_plain = is_plain and account[0] not in "\"'$%<{\ufeffÿþï"  # else it may be a slip
    if is_plain and ":" not in account:
        credential = extract(("Authorization", basic(text))).credential
        assert credential == PasswordCredential(account, password)


def test_an_alias_of_a_credential_header_is_not_read() -> None:
    assert extract(("access-token", T)).credential is None
    assert extract(("Access.Token", T)).credential is None
    assert extract(("Proxy-Authorization", f"Bearer {T}")).credential is None


@pytest.mark.parametrize(
    ("schemes", "read", "not_read"),
    [
        (("Bearer",), [f"bearer {T}"], [T, f"Token {T}", f"access_token {T}"]),
        (("",), [T], [f"Bearer {T}", f"Token {T}"]),
        (("X-Key", "a.b"), [f"x-key {T}", f"A.B\t{T}"], [T, f"Bearer {T}", f"axb {T}"]),
        ((), [], [T, f"Bearer {T}"]),
    ],
)
def test_only_the_configured_schemes_precede_a_token(
    schemes: tuple[str, ...], read: list[str], not_read: list[str]
) -> None:
    rules = CredentialRules((), (), schemes)
    for value in read:
        assert outcome(rules.read_authorization(value.encode())) == ("bearer", T)
    for value in not_read:
        assert outcome(rules.read_authorization(value.encode())) == MALFORMED
    assert outcome(rules.read_authorization(basic("a:b").encode())) == ("a", "b")


def test_without_a_prefix_basic_is_an_account_and_a_password_whatever_it_looks_like() -> None:
    rules = CredentialRules((), ())
    assert outcome(rules.read_authorization(basic(f"acme:{OWN}").encode())) == ("acme", OWN)
    assert outcome(rules.read_authorization(basic(f"{OWN}:").encode())) == (OWN, "")
    assert outcome(rules.read_authorization(basic(f":{OWN}").encode())) == MALFORMED


def test_the_pair_is_not_read_where_it_has_no_names() -> None:
    rules = CredentialRules((), (), token_prefix="sct_")
    headers = HeaderRules([], [])
    sent = [(name.encode(), value.encode()) for name, value in pair("acme", "secret")]
    assert rules.extract(headers.scan(sent), None).credential is None


def test_the_pair_has_the_names_that_are_configured() -> None:
    fields = PasswordFields("X-Shop", "X-Shop-Key")
    rules, headers = CredentialRules((), (), pair=fields), HeaderRules([], [], fields)
    for names, expected in (
        ((b"x-shop", b"X-SHOP-KEY"), ("acme", "secret")),
        ((b"X_Shop", b"X-Shop-Key"), MALFORMED),
        ((b"X-Shop", b"X_Shop_Key"), None),
        ((b"username", b"password"), None),
    ):
        sent = [*zip(names, (b"acme", b"secret"), strict=True)]
        assert outcome(rules.extract(headers.scan(sent), None).credential) == expected


def test_rules_without_names_read_authorization_alone() -> None:
    rules = CredentialRules((), ())
    query = f"token={T}&%74oken={T}"
    assert rules.extract(HEADERS.scan([]), query) == Extracted(None, query)


def test_a_parameter_may_have_any_name() -> None:
    rules = CredentialRules((), ("clé", "a.b", "a%c"))
    extracted = rules.extract(HEADERS.scan([]), "cl%c3%A9=1&axb=2&a.b=3&a%25c=4")
    assert extracted.query == "axb=2"


def test_nothing_extracted_shows_its_secret() -> None:
    assert T not in repr(extract(("access_token", T)))
    assert "secret" not in repr(extract(("Authorization", basic("acme:secret"))))
    assert T not in repr(extract(*authorization(f"Bearer {T} {X}")))


@pytest.mark.parametrize(
    ("credential", "forms", "expected"),
    [
        (TokenCredential(Form.QUERY, T), ALL_FORMS, ("query", T)),
        (PasswordCredential("a", "b"), frozenset({Form.BASIC}), ("a", "b")),
        (None, ALL_FORMS, "missing_credentials"),
        (Denial(AMBIGUOUS, ""), frozenset({Form.BASIC}), AMBIGUOUS),
        (TokenCredential(Form.QUERY, T), frozenset({Form.BEARER}), "missing_credentials"),
        (PasswordCredential("a", "b"), frozenset({Form.BEARER}), "missing_credentials"),
        (PasswordCredential("a", "b"), frozenset(), "missing_credentials"),
    ],
)
def test_a_route_accepts_the_forms_it_names(
    credential: Credential | Denial | None, forms: frozenset[Form], expected: object
) -> None:
    assert outcome(accept(credential, forms)) == expected


def test_the_detail_names_the_forms_that_are_accepted() -> None:
    denial = accept(TokenCredential(Form.QUERY, T), frozenset({Form.HEADER, Form.BEARER}))
    assert isinstance(denial, Denial)
    assert "query" in denial.detail
    assert "bearer, header" in denial.detail
