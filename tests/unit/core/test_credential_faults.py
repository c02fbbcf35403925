"""A credential that can't be read: the answer says where it stands, what is wrong, and no byte."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.credential_faults import find, find_slip, is_slip, spell_out
from sidecar.core.credentials import AMBIGUOUS, MALFORMED, CredentialRules
from sidecar.core.headers import HeaderRules, Headers, PasswordFields
from sidecar.core.model import ALL_FORMS, Denial, Form, TokenCredential
from sidecar.core.problems import problem_document
from sidecar.core.tokens import MAX_JWT_CHARS
from sidecar.observability.access_log import LineFormatter, RequestLog
from sidecar.proxy.answers import Challenges

PAIR = PasswordFields("username", "password")
SCHEMES = ("Bearer", "Token", "access_token", "jwt_token")
RULES = CredentialRules(("access_token", "X-Key"), ("token", "a key"), (*SCHEMES, ""), PAIR, "sct_")
NO_BARE = CredentialRules(("access_token", "X-Key"), ("token", "a key"), SCHEMES, PAIR, "sct_")
HEADERS = HeaderRules([], RULES.headers, PAIR)
T = "sct_" + "t" * 60
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def in_authorization(value: str) -> Headers:
    return [(b"aUTHORIZATION", value.encode())]


def spelled(headers: Headers, target: str = "/", forms: frozenset[Form] = ALL_FORMS) -> str:
    return spell_out(MALFORMED, RULES, headers, target, forms).detail


# Slips in a token, wherever it stands: they are found in each of the three places.

SLIPS = {
    "quotation mark": [
        f'"{T}"',
        f"'{T}'",
        f"`{T}`",
        f'"{T}',
        f'{T}"',
        f'\\"{T}\\"',
        f"\u201c{T}\u201d",
        f"\u00ab{T}\u00bb",
        f"\u2018{T}",
    ],
    "begins with the name of a scheme": [
        f"Bearer {T}",
        f"bearer: {T}",
        f"BEARER={T}",
        f"Bearer%20{T}",
        f"Bearer+{T}",
        f"Basic {T}",
        f"Token {T}",
        f"Bearer Bearer {T}",
    ],
    "byte order mark": [
        f"\ufeff{T}",
        f"\u00ef\u00bb\u00bf{T}",
        f'\ufeff"{T}"',
        f"\ufeffBearer {T}",
    ],
    "a placeholder": [
        "${TOKEN}",
        "${ACCESS_TOKEN_OF_ACME}",
        "${TOKEN:-default}",
        f"sct_${{REST_OF_TOKEN}}{T}",
        "{{token}}",
        "{{access_token_of_acme}}",
        "{{ access_token_of_acme }}",
        "{access_token_of_acme}",
        "$ACCESS_TOKEN_OF_ACME",
        '"$ACCESS_TOKEN_OF_ACME"',
        "$env:ACCESS_TOKEN",
        "%ACCESS_TOKEN%",
        "$(cat /run/secrets/token)",
        "${{ secrets.TOKEN }}",
        "<token>",
        "<your access token>",
        "<YOUR_ACCESS_TOKEN>",
        "YOUR_ACCESS_TOKEN",
        "your-token-here",
        "__ACCESS_TOKEN__",
    ],
    "word for a missing value": [
        *("null", "undefined", "None", "nil", "NaN", "NULL", "(null)", "[object Object]", "true"),
    ],
    "in brackets": [f"<{T}>", f"[{T}]", f"({T})"],
    "a name and a sign before it": [
        f'token="{T}"',
        f"token={T}",
        f"access_token={T}",
        f"access_token: {T}",
        f"api-key={T}",
        f"jwt:{JWT}",
    ],
    "JSON": [f'{{"access_token":"{T}"}}', f'{{ "token": "{T}" }}'],
    "name of a header field": [f"Authorization: Bearer {T}", f"authorization={T}"],
    "a comma or a semicolon": [f"{T},", f"{T};", f"{T},,", f"{T}; ;"],
    "a line break": [f"{T}\\n", f"{T}\\r\\n"],
    "shortened for display": [
        f"{T[:20]}...",
        f"{T[:20]}\u2026",
        f"{T[:9]}...{T[-4:]}",
        "sct_[masked]",
    ],
    "percent-encoded": [f"sct%5F{T}", f"{T}%0A", f"%22{T}%22", "a%2Fb%2Bc%3D%3Dabcdefgh"],
    "a JWT has three parts": [JWT.rpartition(".")[0], f"{JWT}.a.b", f"{JWT}.x", f"{JWT}.{JWT}"],
    "a character that no JWT has": [f"{JWT}+/", f"{JWT}!", f"{JWT}="[:-1] + "~"],
    "an invisible character": [f"{T}\u00a0", f"\u200b{T}", f"sct_\u00ad{T}", f"{T}\u2060"],
    "a character in it that no token has": ["\u00e9" * 20, f"sct\u2013{T}", f"{T}\U0001f511"],
    "white space in it": [f"{T} {T}", f"{T}\t{T}", "with blanks in the middle"],
    "is shorter than 16 characters": ["x", "sct_", "fifteen-letters"],
    "is longer than 4096 characters": ["x" * 4097, "x" * MAX_JWT_CHARS],
    f"is longer than {MAX_JWT_CHARS} characters": ["x" * (MAX_JWT_CHARS + 1), "." * 20_000],
}
EACH_SLIP = [(says, sent) for says, all_sent in SLIPS.items() for sent in all_sent]


@pytest.mark.parametrize(("says", "sent"), EACH_SLIP)
def test_a_slip_is_named_in_a_header_field_and_in_the_query(says: str, sent: str) -> None:
    in_field = spelled([(b"x-key", sent.encode())])
    in_query = spelled([], f"/?a=1&%74oken={quote(sent)}")
    assert says in in_field
    assert "the header field X-Key" in in_field
    assert in_query == in_field.replace("the header field X-Key", "the query parameter token")


@pytest.mark.parametrize(
    ("says", "sent"), [(says, sent) for says, sent in EACH_SLIP if "scheme" not in says]
)
def test_a_slip_is_named_behind_a_scheme(says: str, sent: str) -> None:
    told = spelled(in_authorization(f"Bearer {sent}"))
    assert says in told
    assert "Authorization" in told
    assert is_slip(sent) or not sent.isascii() or len(sent) < 16 or " " in sent


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("", "Authorization is empty."),
        (" \t", "Authorization is empty."),
        *[
            (text, "a scheme and no credential")
            for text in ("Bearer", "basic ", "Bearer:", "BASIC")
        ],
        *[
            (text, "a space and nothing else")
            for text in (f"Bearer: {T}", f"Bearer={T}", f"Bearer{T}", f"Bearer,{T}", f"Token: {T}")
        ],
        ("Token", "a scheme and no credential"),
        (f"token Token {T}", "names the scheme twice"),
        (f"access_token Bearer {T}", "names the scheme twice"),
        ("Token short", "is shorter than 16 characters"),
        *[(f"Bearer {scheme}{T}", "names the scheme twice") for scheme in ("Bearer ", "bearer: ")],
        ("Bearer Basic YWNtZTp4", "names the scheme twice"),
        (f"Bearer {T}, Bearer {T}", "more than one credential in one field"),
        (f"Basic YTpi, Bearer {T}", "more than one credential in one field"),
        (f'Token token="{T}"', "holds parameters (name=value)"),
        (f'OAuth oauth_token="{T}"', "holds parameters (name=value)"),
        (f"JWT {T}", "the scheme JWT is not accepted here; use Bearer or Basic."),
        ('dIGEST username="a"', "the scheme Digest is not accepted here"),
        ("Negotiate YII", "the scheme Negotiate is not accepted here"),
        ("AWS4-HMAC-SHA256 Credential=a", "the scheme AWS4-HMAC-SHA256 is not accepted here"),
        (f"Unheard-Of {T}", "this scheme is not accepted here; use Bearer or Basic."),
        (f"{T} {T}", "this scheme is not accepted here"),
        ("acme:secret", "is shorter than 16 characters"),
        (f'"{T}"', "quotation mark"),
        (f"{T},", "a comma or a semicolon"),
        ("${AUTHORIZATION}", "a placeholder"),
        ("undefined", "word for a missing value"),
        (f'"Bearer {T}"', "quotation mark"),
        (f"\ufeffBearer {T}", "byte order mark"),
        (f"Authorization: Bearer {T}", "name of a header field"),
    ],
)
def test_a_slip_of_authorization_is_named(sent: str, says: str) -> None:
    assert says in spelled(in_authorization(sent))


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("Basic !!!", "base64 of Basic in Authorization can't be decoded"),
        ("Basic YWNtZTp4e", "can't be decoded"),
        ("Basic YWNt ZTp4eA==", "can't be decoded"),
        ("Basic acme:secret", "a colon outside of the base64"),
        ("Basic ${CREDENTIALS}", "a placeholder"),
        ("Basic null", "word for a missing value"),
        (basic("acme"), "no colon between account and password"),
        (basic(T), "no colon between account and password"),
        (basic("ac\0me"), "no colon between account and password"),
        (basic(":secret"), "no account before the colon"),
        (basic("acme:secret\n"), "end with a line break"),
        (basic("acme:secret\r\n"), "end with a line break"),
        (basic("acme:sec\0ret"), "a control character"),
        (basic("acme:sec\nret"), "a control character"),
        (basic("\ufeffacme:secret"), "begin with a byte order mark"),
        (basic('"acme:secret"'), "quotation marks around them"),
        (basic("'acme:secret'"), "quotation marks around them"),
        (basic("${ACME_USER}:${ACME_PASSWORD}"), "a placeholder"),
        (basic("{{user}}:{{password}}"), "a placeholder"),
        (basic("$USER:$PASSWORD"), "a placeholder"),
        (basic("<account>:<password>"), "a placeholder"),
        (basic("acme:secret".encode("utf-16")), "in UTF-16"),
        (basic("acme:secret".encode("utf-16-le")), "in UTF-16"),
        (basic("acme:secret".encode("utf-16-be")), "in UTF-16"),
        (basic("acme:" + "x" * 5000), "longer than 3072 bytes"),
        (basic("acme:" + "x" * 50000), "longer than 3072 bytes"),
    ],
)
def test_a_slip_of_basic_is_named(sent: str, says: str) -> None:
    headers = in_authorization(sent)
    assert RULES.extract(HEADERS.scan(headers), None).credential == MALFORMED
    assert says in spelled(headers)


@pytest.mark.parametrize(
    ("forms", "says"),
    [
        ({Form.BEARER, Form.QUERY}, "use Bearer."),
        ({Form.BASIC}, "use Basic."),
        ({Form.HEADER, Form.QUERY}, "this route reads no Authorization."),
    ],
)
def test_a_foreign_scheme_is_answered_with_those_that_the_route_accepts(
    forms: set[Form], says: str
) -> None:
    for sent in ("Digest a", "Foo a"):
        assert spelled(in_authorization(sent), forms=frozenset(forms)).endswith(says)
    told = spell_out(MALFORMED, NO_BARE, in_authorization(T), "/", frozenset(forms)).detail
    assert told.startswith("Authorization holds no scheme")
    assert told.endswith(says)


@pytest.mark.parametrize(
    ("account", "password", "says"),
    [
        (None, "secret", "field password came without the header field username."),
        (None, T, "field password came without the header field username."),
        (None, "", "The header field password is empty."),
        ("", "", "The header fields username and password is empty."),
        ("", "secret", "In the header fields username and password, the account is empty."),
        ("${USER}", "secret", "a placeholder stands in place of the account"),
        ('"acme"', '"secret"', "quotation marks around them"),
        ("\ufeffacme", "secret", "byte order mark"),
        ("acme", "x" * 4000, "longer than 3072 bytes"),
        ("acme", "a\tb", "a control character"),
    ],
)
def test_a_slip_of_the_pair_is_named(account: str | None, password: str, says: str) -> None:
    headers: list[tuple[bytes, bytes]] = [(b"Password", password.encode())]
    if account is not None:
        headers.append((b"USERNAME", account.encode()))
    extracted = RULES.extract(HEADERS.scan(headers), None).credential
    assert isinstance(extracted, Denial)
    assert says in spelled(headers)
    assert password not in spelled(headers) or not password


@pytest.mark.parametrize(
    "headers",
    [
        in_authorization(f"Bearer  {T}"),
        in_authorization(f"Bearer\t{T} "),
        in_authorization(f"Token {T}"),
        in_authorization(f"access_token {JWT}"),
        in_authorization(T),
        in_authorization(JWT),
        in_authorization("Basic YWNtZTp4eA"),
        in_authorization("Basic\tYWNtZTo_Pj8-"),
        in_authorization(basic("acme:s\u00e9cret".encode("latin-1"))),
        in_authorization(basic(f"{T}:\n")),
        in_authorization(basic(f":{T}")),
        [(b"X-Key", f" {T}\t".encode())],
        [(b"username", b"acme"), (b"password", b"secret")],
        [(b"username", b""), (b"password", T.encode())],
        [(b"username", b"acme")],
    ],
)
def test_what_is_tolerated_is_no_slip(headers: Headers) -> None:
    assert not isinstance(RULES.extract(HEADERS.scan(headers), None).credential, Denial)
    assert find(RULES, headers, f"/?token=%20{T}%0a") is None


def test_an_empty_place_is_named_only_if_nothing_else_is_wrong() -> None:
    empty: Headers = [(b"access_token", b"")]
    assert spelled(empty) == "The header field access_token is empty."
    assert spelled([], "/?a%20key") == "The query parameter a key is empty."
    assert "X-Key is shorter" in spelled([*empty, (b"X-Key", b"short")], "/?token=")


def test_other_denials_stay_what_they_are() -> None:
    headers = in_authorization("Digest a")
    for denial in (AMBIGUOUS, Denial("invalid_token", "The token is unknown.")):
        assert spell_out(denial, RULES, headers, "/") is denial
    assert spell_out(MALFORMED, RULES, [], "/") is MALFORMED


@pytest.mark.parametrize(
    "secret",
    [
        "legacy-token-of-the-old-system",
        T,
        JWT,
        "a.b-c_d~e+f/g==:*,{}",
        "sidecar:token:*[a-z]?",
        "%s%n{0.__class__}%(x)s",
        "********************",
        "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}",
        "eyJpdiI6IkFBQUFBQUFBQUFBIn0",
        "eyJ1c2VyIjo3fQ.c2lnbmF0dXJl",
        "YWJjZGVmZ2hpamtsbW5vcA==",
        "user@example.com/2026-11-28",
    ],
)
def test_tokens_of_other_systems_are_no_slips(secret: str) -> None:
    assert not is_slip(secret)
    assert find(RULES, [(b"X-Key", secret.encode())], "/") is None


# Whatever is sent.

ANYTHING = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
WRAPPED = st.sampled_from(
    [
        *("{}", '"{}"', "Bearer {}", "Bearer: {}", "Basic {}", "{},", "<{}>", "Token {}", "{}="),
        *("jwt_token\t{}", "access_token={}", "Token: {}", " {} ", 'Token token="{}"', "Bearer{}"),
    ]
)


@given(ANYTHING, WRAPPED)
@example("", "{}")
def test_authorization_has_a_fault_exactly_if_it_cannot_be_read_or_is_a_slip(
    text: str, wrapped: str
) -> None:
    headers = in_authorization(wrapped.replace("{}", text))
    credential = RULES.extract(HEADERS.scan(headers), None).credential
    is_faulty = isinstance(credential, Denial) or (
        isinstance(credential, TokenCredential) and is_slip(credential.secret)
    )
    assert (find(RULES, headers, "/") is not None) == is_faulty


@given(st.binary(max_size=40))
def test_basic_has_a_fault_exactly_if_it_cannot_be_read(raw: bytes) -> None:
    headers = in_authorization(basic(raw))
    credential = RULES.extract(HEADERS.scan(headers), None).credential
    is_faulty = isinstance(credential, Denial) or (
        isinstance(credential, TokenCredential) and is_slip(credential.secret)
    )
    assert (find(RULES, headers, "/") is not None) == is_faulty


ACCOUNTS = st.sampled_from(["", "acme", " ", "${A}", '"a', "a:b", T, "x" * 20, "\u00e9"])


@given(ACCOUNTS | ANYTHING, ACCOUNTS | ANYTHING, st.sampled_from(["utf-8", "latin-1"]))
def test_the_pair_has_a_fault_exactly_if_it_cannot_be_read_or_is_a_slip(
    account: str, password: str, encoding: str
) -> None:
    sent = [text.encode(encoding, "replace") for text in (account, password)]
    headers = [*zip((b"username", b"password"), sent, strict=True)]
    credential = RULES.extract(HEADERS.scan(headers), None).credential
    is_faulty = isinstance(credential, Denial) or (
        isinstance(credential, TokenCredential) and is_slip(credential.secret)
    )
    assert (find(RULES, headers, "/") is not None) == is_faulty


@given(st.text("QZXJ0178_~@", min_size=6), WRAPPED)
def test_no_six_characters_of_a_credential_are_in_the_body_the_challenge_or_the_log(
    secret: str, wrapped: str
) -> None:
    sent = wrapped.replace("{}", secret)
    for denial in (
        spell_out(MALFORMED, RULES, in_authorization(sent), "/"),
        spell_out(MALFORMED, RULES, [(b"X-Key", sent.encode())], "/"),
        spell_out(MALFORMED, RULES, [], f"/?token={quote(sent)}"),
        spell_out(MALFORMED, RULES, in_authorization(basic(sent)), "/"),
        spell_out(MALFORMED, RULES, [(b"password", sent.encode())], "/"),
        spell_out(MALFORMED, RULES, [(b"username", sent.encode()), (b"password", b"")], "/"),
        spell_out(MALFORMED, RULES, [(b"username", b""), (b"password", sent.encode())], "/"),
    ):
        assert denial.detail.isascii()
        entry = RequestLog(0.0, "192.0.2.1")
        entry.code, entry.detail = denial.code, denial.detail
        line = LineFormatter("sct_").line(entry, 0.0)
        assert json.loads(line)["detail"] == denial.detail
        told = problem_document(denial, "id") + Challenges("r").fields(denial, ALL_FORMS)
        texts = told.decode() + line
        assert not [at for at in range(len(secret) - 5) if secret[at : at + 6] in texts]


@given(
    st.from_regex(
        r"(?i:bearer|your-|my_|the-|insert_|enter-|paste-|__|eyJhbGciOiJIUzI1NiJ9|sct_|)"
        r"[0-9A-Za-z_-]{10,60}(?:token|key|jwt|password|__)?",
        fullmatch=True,
    )
)
def test_what_is_told_first_is_what_every_check_would_tell(secret: str) -> None:
    if len(secret) >= 16:
        assert is_slip(secret) == (find_slip(secret) is not None)
