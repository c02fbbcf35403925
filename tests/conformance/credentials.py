"""Group C: one credential, read in one way, and never passed on."""

# ruff: noqa: E501  (a table reads best with a row a line)

from __future__ import annotations

import re
from itertools import permutations

from tests.conformance.case import BEARER, LISTENER, Case, authorized, request
from tests.conformance.oracle import Observation

HEADER = b"access_token: {token}"
SLOTS = {
    "bearer": (b"Authorization: Bearer %s", b""),
    "access_token header": (b"access_token: %s", b""),
    "jwt_token header": (b"jwt_token: %s", b""),
    "access_token query": (None, b"access_token=%s"),
    "token query": (None, b"token=%s"),
    "jwt_token query": (None, b"jwt_token=%s"),
}
BASIC = b"Authorization: Basic {basic}"


def carrying(*held: tuple[str, bytes], more: tuple[bytes, ...] = ()) -> bytes:
    """Return a request with these (slot, credential) pairs, in order."""
    lines = [line % value for slot, value in held if (line := SLOTS[slot][0])]
    query = b"&".join(pair % value for slot, value in held if (pair := SLOTS[slot][1]))
    return request(*lines, *more, target=LISTENER + (b"?" + query if query else b""))


def denied(
    name: str,
    send: bytes,
    code: str | tuple[str, ...],
    status: int | tuple[int, ...] = 401,
    asks_store: bool | None = None,
    secrets: tuple[bytes, ...] = (),
) -> Case:
    return Case(
        name=name,
        weight=5,
        send=(send,),
        answers=(status,),
        code=code,
        asks_store=asks_store,
        secrets=secrets,
        closes=None,
    )


def passed(
    name: str, send: bytes, target: bytes = LISTENER, secrets: tuple[bytes, ...] = ()
) -> Case:
    return Case(name=name, weight=5, send=(send,), answers=(200,), seen=(target,), secrets=secrets)


FORMS = [
    *(passed(f"C0 {slot}", carrying((slot, b"{token}"))) for slot in SLOTS),
    passed("C0 basic", request(BASIC)),
    passed("C0 bearer in another case", request(b"AUTHORIZATION: bEARER {token}")),
    passed("C0 basic in another case", request(b"authorization: BASIC {basic}")),
    passed("C0 header in another case", request(b"ACCESS_TOKEN: {token}")),
    passed("C0 two spaces after Bearer", request(b"Authorization: Bearer  {token}")),
    passed("C0 spaces around the value", request(b"Authorization:   Bearer {token}  ")),
    passed("C0 a token for ever", request(b"Authorization: Bearer {token2}")),
]

TWO = [
    *(
        denied(
            f"C1 {first} and {second}",
            carrying((first, b"{token}"), (second, b"{token2}")),
            "ambiguous_credentials",
            400,
        )
        for first, second in permutations(SLOTS, 2)
    ),
    *(
        passed(f"C1 {first} and {second}, the same token", carrying((first, b"{token}"), (second, b"{token}")))
        for first, second in permutations(SLOTS, 2)
    ),
    *(
        denied(
            f"C1 basic and {slot}",
            carrying((slot, b"{token}"), more=(BASIC,)),
            "ambiguous_credentials",
            400,
        )
        for slot in SLOTS
    ),
    passed(
        "C1 the same token in every slot",
        carrying(*((slot, b"{token}") for slot in SLOTS)),
    ),
    denied(
        "C1 two accounts", carrying(("bearer", b"{token}"), ("token query", b"{other}")),
        "ambiguous_credentials", 400,
    ),
    *(
        denied(f"C2 Authorization twice: {what}", request(*lines), "ambiguous_credentials", 400)
        for what, lines in (
            ("good, then bad", (BEARER, b"Authorization: Bearer {unknown}")),
            ("bad, then good", (b"Authorization: Bearer {unknown}", BEARER)),
            ("good, then unreadable", (BEARER, b"Authorization: Bearer x")),
            ("unreadable, then good", (b"Authorization: Bearer x", BEARER)),
            ("good, then another scheme", (BEARER, b"Authorization: Digest a=b")),
            ("good, then basic", (BEARER, BASIC)),
            ("basic, then good", (BASIC, BEARER)),
            ("good, then junk", (BEARER, b"Authorization: x")),
        )
    ),
    passed("C2 Authorization twice, the same", request(BEARER, BEARER)),
    *(
        denied(
            f"C3 {what}",
            request(b"Authorization: " + value),
            ("malformed_credentials", "ambiguous_credentials", "invalid_token"),
            (400, 401),
        )
        for what, value in (
            ("Bearer a, Bearer b", b"Bearer {token}, Bearer {token2}"),
            ("Bearer a, Bearer a", b"Bearer {token}, Bearer {token}"),
            ("Bearer a,b", b"Bearer {token},{token2}"),
            ("Bearer a b", b"Bearer {token} {token2}"),
            ("Bearer a b, the first unknown", b"Bearer {unknown} {token}"),
            ("a tab after the scheme", b"Bearer\t{token}"),
            ("a tab and a space", b"Bearer \t{token}"),
            ("a tab within", b"Bearer {token}\t{token2}"),
            ("a trailing comma", b"Bearer {token},"),
            ("quoted", b'Bearer "{token}"'),
            ("no scheme", b"{token}"),
            ("Bearer=", b"Bearer={token}"),
            ("Bearer:", b"Bearer: {token}"),
            ("Bearerx", b"Bearerx {token}"),
            ("Token", b"Token {token}"),
        )
    ),
    *(
        denied(f"C4 {what}", send, "ambiguous_credentials", 400)
        for what, send in (
            ("one parameter twice", request(target=LISTENER + b"?access_token={token}&access_token={token2}")),
            ("twice, unknown first", request(target=LISTENER + b"?access_token={unknown}&access_token={token}")),
            ("twice, short second", request(target=LISTENER + b"?access_token={token}&access_token=x")),
            ("one header twice", request(HEADER, b"access_token: {token2}")),
            ("one header twice, short first", request(b"access_token: x", HEADER)),
            ("a good header and an unknown query", carrying(("access_token header", b"{token}"), ("token query", b"{unknown}"))),
        )
    ),
    passed("C4 one parameter twice, the same", request(target=LISTENER + b"?token={token}&token={token}")),
    passed("C4 one header twice, the same", request(HEADER, HEADER)),
    *(
        denied(f"C5 {what}", send, "ambiguous_credentials", 400)
        for what, send in (
            ("a good header, a bad query", carrying(("bearer", b"{token}"), ("token query", b"{badsum}"))),
            ("a good header, a short query", carrying(("bearer", b"{token}"), ("token query", b"short"))),
            ("a good query, a short header", carrying(("access_token header", b"short"), ("token query", b"{token}"))),
            ("a good query, a short bearer", carrying(("bearer", b"short"), ("token query", b"{token}"))),
            ("a good bearer, a revoked header", carrying(("bearer", b"{token}"), ("jwt_token header", b"{revoked}"))),
        )
    ),
    passed("C5 a good header, an empty query", carrying(("bearer", b"{token}"), ("token query", b""))),
    passed("C5 a good query, an empty header", carrying(("access_token header", b""), ("token query", b"{token}"))),
]  # fmt: skip

READINGS = [
    passed("C6 ?%61ccess_token=", request(target=LISTENER + b"?%61ccess_token={token}")),
    passed("C6 ?access%5Ftoken=", request(target=LISTENER + b"?access%5Ftoken={token}")),
    passed("C6 an encoded value", request(target=LISTENER + b"?access_token={token_encoded}")),
    denied(
        "C6 %61ccess_token beside another",
        request(BEARER, target=LISTENER + b"?%61ccess_token={token2}"),
        "ambiguous_credentials",
        400,
    ),
    *(
        denied(f"C6 ?{name.decode()}=", request(target=LISTENER + b"?" + name + b"={token}"), "missing_credentials")
        for name in (
            b"ACCESS_TOKEN",
            b"Access_Token",
            b"access_token[]",
            b"access_token[0]",
            b"a=1;access_token",
            b";access_token",
            b"+access_token",
            b"access-token",
            b"%2561ccess_token",
            b"access_token%00",
        )
    ),
    denied("C6 no value", request(target=LISTENER + b"?access_token"), ("missing_credentials", "malformed_credentials")),
    denied("C6 in the fragment", request(target=LISTENER + b"#access_token={token}"), "bad_request", 400),
    denied("C6 a plus before it", request(target=LISTENER + b"?access_token=+{token}"), ("malformed_credentials", "invalid_token")),
    denied("C6 a form body holds none", request(
        b"Content-Type: application/x-www-form-urlencoded", b"Content-Length: 30",
        method=b"POST", body=b"access_token=0123456789abcdef0"), "missing_credentials"),
    denied("C6 a cookie holds none", request(b"Cookie: access_token={token}"), "missing_credentials"),
]  # fmt: skip

STRIPPED = [
    passed(f"C7 ?{query.decode()}", request(target=LISTENER + b"?" + query), LISTENER + rest)
    for query, rest in (
        (b"access_token={token}", b""),
        (b"a=1&access_token={token}", b"?a=1"),
        (b"access_token={token}&a=1", b"?a=1"),
        (b"a=1&access_token={token}&b=2", b"?a=1&b=2"),
        (b"a=1&token={token}&a=2&token={token}&a=1", b"?a=1&a=2&a=1"),
        (b"b=%2F&b=%2f&token={token}&c=a+b%20c", b"?b=%2F&b=%2f&c=a+b%20c"),
        (b"=&token={token}&&a", b"?=&&a"),
        (b"a=%zz&token={token}&b=%", b"?a=%zz&b=%"),
        (b"xtoken=1&token={token}&tokenx=2", b"?xtoken=1&tokenx=2"),
        (b"a=token={token_not}&token={token}", b"?a=token={token_not}"),
        (b"a=?&token={token}&b=/?", b"?a=?&b=/?"),
        (b"token=&a=1&jwt_token={token}", b"?a=1"),
        (b"q='()&token={token}", b"?q='()"),
    )
] + [
    passed(
        "C7 a token in the query of an absolute target",
        request(target=b"http://shop.example" + LISTENER + b"?a=1&token={token}"),
        LISTENER + b"?a=1",
    ),
    Case(
        name="C7 forwarded by configuration: as it was",
        send=(request(target=b"/forwarding/a?a=1&token={token}&b=2"),),
        answers=(200,),
        seen=(b"/forwarding/a?a=1&token={token}&b=2",),
        shows=("token",),
    ),
    Case(
        name="C7 forwarded by configuration: a header",
        send=(request(b"access_token: {token}", target=b"/forwarding/a"),),
        answers=(200,),
        seen=(b"/forwarding/a",),
        present={"access-token": [b"{token}"]},
        shows=("token",),
    ),
]

ALIASES = [
    *(
        case
        for name in (b"access-token", b"Access-Token", b"access.token", b"jwt-token", b"ACCESS-token")
        for case in (
            denied(f"C8 {name.decode()} is not read", request(name + b": {token}"), "missing_credentials"),
            passed(f"C8 {name.decode()} is stripped", authorized(name + b": {token2}")),
        )
    ),
    *(
        denied(f"C8 {name.decode()} is not read", request(name + b": {token}"), "missing_credentials")
        for name in (b"X-Access-Token", b"X-API-Key", b"Authorization-X")
    ),
    passed("C8 a password in access-token is stripped", authorized(b"access-token: {basic}")),
]  # fmt: skip


def basic(name: str, held: bytes, code: str | tuple[str, ...], status: int = 401) -> Case:
    """Return a denied case of Basic; ``held`` is what base64 holds, with secrets filled in."""
    return denied(name, request(b"Authorization: Basic {" + held + b"}"), code, status)


PASSWORDS = [
    basic("C9 a token as the password", b"b64_password_token", "invalid_password"),
    basic("C9 a token as the user", b"b64_user_token", "invalid_password"),
    basic("C9 a token as the user, x-oauth-basic", b"b64_user_token_x", "invalid_password"),
    basic("C9 a wrong password", b"b64_wrong", "invalid_password"),
    basic("C9 an unknown account", b"b64_nobody", "invalid_password"),
    basic("C9 an account without a password", b"b64_globex", "invalid_password"),
    denied("C9 bad base64", request(b"Authorization: Basic !!!!"), "malformed_credentials"),
    denied("C9 no colon", request(b"Authorization: Basic YWNtZQ=="), "malformed_credentials"),
    denied("C9 not UTF-8", request(b"Authorization: Basic /zo6/w=="), "malformed_credentials"),
]

EMPTY = [
    denied(
        f"C10 {what}",
        send,
        ("missing_credentials", "malformed_credentials"),
        asks_store=False,
    )
    for what, send in (
        ("nothing", request()),
        ("Authorization:", request(b"Authorization:")),
        ("Bearer", request(b"Authorization: Bearer")),
        ("Bearer and a space", request(b"Authorization: Bearer ")),
        ("Basic", request(b"Authorization: Basic")),
        ("Basic and a space", request(b"Authorization: Basic ")),
        ("an empty header", request(b"access_token:")),
        ("a header of spaces", request(b"access_token:    ")),
        ("an empty query", request(target=LISTENER + b"?access_token=")),
        ("an empty query without =", request(target=LISTENER + b"?access_token")),
        ("a short token", request(b"Authorization: Bearer abc")),
        ("15 characters", request(b"Authorization: Bearer 0123456789abcde")),
    )
] + [
    denied("C10 a bad checksum", request(b"Authorization: Bearer {badsum}"), "invalid_token", asks_store=False),
    denied("C10 Bearer alone is malformed", request(b"Authorization: Bearer"), "malformed_credentials", asks_store=False),
    denied("C10 nothing is missing", request(), "missing_credentials", asks_store=False),
]  # fmt: skip

STRANGE = [
    denied("C11 a Redis key", request(b"Authorization: Bearer sidecar:token:***"), "invalid_token"),
    denied("C11 a glob", request(b"access_token: ********************"), "invalid_token"),
    denied("C11 a Redis command in the query", request(
        target=LISTENER + b"?token=0123456789abcdef%0d%0aFLUSHALL%0d%0a"), "malformed_credentials", asks_store=False),
    denied("C11 NUL in the query", request(
        target=LISTENER + b"?token=0123456789abcdef%00"), "malformed_credentials", asks_store=False),
    denied("C11 bytes beyond ASCII", request(b"access_token: 0123456789abcdef\xc3\xa9"), "malformed_credentials", asks_store=False),
    denied("C11 4097 characters", request(b"access_token: " + b"x" * 4097), "malformed_credentials", asks_store=False),
    denied("C11 64 KiB in a header", request(b"Authorization: Bearer " + b"x" * 65536), "headers_too_large", 431),
    denied("C11 64 KiB in the query", request(target=LISTENER + b"?token=" + b"x" * 65536), "uri_too_long", 414),
    denied("C11 NUL in a header", request(b"access_token: 0123456789abcdef\0"), "bad_request", 400),
    denied("C11 a format string", request(b"access_token: %s%n{0.__class__}%(x)s"), "invalid_token"),
]  # fmt: skip

DEAD = (
    [
        denied(
            f"C12 {token.decode()} ({slot})", carrying((slot, b"{" + token + b"}")), "invalid_token"
        )
        for token in (b"revoked", b"expired", b"unknown", b"badsum", b"ghost", b"jwt")
        for slot in SLOTS
    ]
    + [
        Case(
            name=f"C12 {name}",
            weight=5,
            send=(send,),
            answers=(403,),
            code=code,
        )
        for name, send, code in (
            ("a disabled account", request(b"access_token: {disabled}"), "account_disabled"),
            (
                "an account not on the route's list",
                authorized(target=b"/globex-only"),
                "not_allowed",
            ),
            (
                "a path that is not the account's",
                request(b"access_token: {limited}"),
                "not_allowed",
            ),
            ("a path that is not the token's", request(b"access_token: {narrow}"), "not_allowed"),
        )
    ]
    + [
        passed(
            "C12 a path that is the token's",
            request(b"access_token: {narrow}", target=b"/v1/dynamic/listener/b7"),
            b"/v1/dynamic/listener/b7",
        ),
        denied(
            "C12 a form that is switched off: query",
            request(target=b"/bearer-only?token={token}"),
            "missing_credentials",
        ),
        denied(
            "C12 a form that is switched off: basic",
            request(BASIC, target=b"/bearer-only"),
            ("missing_credentials", "malformed_credentials"),
        ),
        passed(
            "C12 what is switched off is still stripped",
            request(BEARER, HEADER, target=b"/bearer-only?a=1&token={token}"),
            b"/bearer-only?a=1",
        ),
    ]
)

ON_PUBLIC = [
    Case(
        name=f"C13 {what} on a public route",
        weight=5,
        send=(request(*lines, target=b"/public/a" + query),),
        answers=(200,),
        seen=(b"/public/a",),
        account=None,
        asks_store=False,
    )
    for what, lines, query in (
        ("a malformed Basic", (b"Authorization: Basic !!!",), b""),
        ("a short bearer", (b"Authorization: Bearer x",), b""),
        ("another scheme", (b"Authorization: Digest a=b",), b""),
        ("an unknown token", (b"access_token: {unknown}",), b""),
        ("an unknown token in the query", (), b"?token={unknown}"),
        ("two different tokens", (BEARER, b"access_token: {token2}"), b"?token={other}"),
    )
]

SCHEMES = [
    denied(f"C14 {value.split()[0].decode()}", request(b"Authorization: " + value), "malformed_credentials")
    for value in (
        b'Digest username="acme", realm="listener", nonce="a", uri="/", response="b"',
        b"Negotiate YIIabcdefghijklmnop",
        b"NTLM TlRMTVNTUAABAAAA",
        b"AWS4-HMAC-SHA256 Credential=a",
        b"DPoP {token}",
        b"ApiKey {token}",
    )
] + [
    passed("C14 Proxy-Authorization is never forwarded", authorized(b"Proxy-Authorization: Basic {basic}")),
    denied("C14 Proxy-Authorization is not read", request(b"Proxy-Authorization: Bearer {token}"), "missing_credentials"),
    denied("C14 Proxy-Authorization with Basic is not read", request(b"Proxy-Authorization: Basic {basic}"), "missing_credentials"),
]  # fmt: skip


def challenged(seen: Observation) -> None:
    """Every scheme that the route takes has its challenge, quoted as RFC 6750 and 7617 say."""
    challenges = ", ".join(seen.answer.values("www-authenticate"))
    assert re.search(r'Bearer realm="listener"', challenges)
    assert re.search(r'Basic realm="listener", charset="UTF-8"', challenges)


def invalid(seen: Observation) -> None:
    challenged(seen)
    assert 'error="invalid_token"' in ", ".join(seen.answer.values("www-authenticate"))


def plain(seen: Observation) -> None:
    """RFC 6750 section 3.1: no error code for a request without any credential."""
    challenged(seen)
    assert "error=" not in ", ".join(seen.answer.values("www-authenticate"))


CHALLENGES = [
    Case(name="C0 challenges for nothing", send=(request(),), answers=(401,), check=plain),
    Case(
        name="C0 challenges for an unknown token",
        send=(request(b"access_token: {unknown}"),),
        answers=(401,),
        check=invalid,
    ),
    Case(
        name="C0 one challenge where one form is taken",
        send=(request(target=b"/bearer-only"),),
        answers=(401,),
        answer_has={"www-authenticate": ['Bearer realm="listener"']},
    ),
]

CASES: list[Case] = [
    *FORMS,
    *TWO,
    *READINGS,
    *STRIPPED,
    *ALIASES,
    *PASSWORDS,
    *EMPTY,
    *STRANGE,
    *DEAD,
    *ON_PUBLIC,
    *SCHEMES,
    *CHALLENGES,
]
