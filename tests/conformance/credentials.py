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
    "Token scheme": (b"Authorization: Token %s", b""),
    "access_token scheme": (b"Authorization: access_token %s", b""),
    "jwt_token scheme": (b"Authorization: JWT_TOKEN\t%s", b""),
    "no scheme": (b"Authorization: %s", b""),
    "access_token header": (b"access_token: %s", b""),
    "jwt_token header": (b"jwt_token: %s", b""),
    "access_token query": (None, b"access_token=%s"),
    "token query": (None, b"token=%s"),
    "jwt_token query": (None, b"jwt_token=%s"),
}
IN_AUTHORIZATION = {
    "bearer",
    "Token scheme",
    "access_token scheme",
    "jwt_token scheme",
    "no scheme",
}
BASIC = b"Authorization: Basic {basic}"
PAIR = (b"username: acme", b"password: {password}")
IN_BASIC = {
    "in Basic, as the user": (b"Authorization: Basic {b64_user_%s}",),
    "in Basic, as the password": (b"Authorization: Basic {b64_password_%s}",),
    "in Basic, with its account": (b"Authorization: Basic {b64_acme_%s}",),
    "in the pair, as the user": (b"username: {%s}", b"password:"),
    "in the pair, as the password": (b"username:", b"password: {%s}"),
    "in the pair, with its account": (b"username: acme", b"password: {%s}"),
}


def in_basic(where: str, token: bytes, *more: bytes, target: bytes = LISTENER) -> bytes:
    """Return a request with a token in Basic, or in the pair of header fields."""
    lines = (line % token if b"%s" in line else line for line in IN_BASIC[where])
    return request(*lines, *more, target=target)


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


def in_basic_and(where: str, slot: str) -> bytes:
    """Return a request with a token in Basic or in the pair, and another one in a slot."""
    line, pair = SLOTS[slot]
    if line is None:
        return in_basic(where, b"token", target=LISTENER + b"?" + pair % b"{token2}")
    return in_basic(where, b"token", line % b"{token2}")


FORMS = [
    *(passed(f"C0 {slot}", carrying((slot, b"{token}"))) for slot in SLOTS),
    passed("C0 basic", request(BASIC)),
    passed("C0 bearer in another case", request(b"AUTHORIZATION: bEARER {token}")),
    passed("C0 basic in another case", request(b"authorization: BASIC {basic}")),
    passed("C0 header in another case", request(b"ACCESS_TOKEN: {token}")),
    passed("C0 two spaces after Bearer", request(b"Authorization: Bearer  {token}")),
    *(passed(f"C0 a token {where}", in_basic(where, b"token")) for where in IN_BASIC),
    *(
        passed(f"C0 an imported token {where}", in_basic(where, b"imported"))
        for where in IN_BASIC
        if where != "in Basic, as the user" and "account" not in where
    ),
    passed("C0 the pair", request(*PAIR)),
    passed(
        "C0 the pair in another case and order", request(b"PASSWORD: {password}", b"UserName: acme")
    ),
    passed("C0 a tab after the scheme", request(b"Authorization: Bearer\t{token}")),
    passed("C0 a tab and a space", request(b"Authorization: Token \t{token}")),
    passed("C0 white space around a bare token", request(b"Authorization: \t{token}\t ")),
    passed("C0 white space around Basic", request(b"Authorization: Basic \t{basic}  ")),
    passed("C0 Basic without padding", request(b"Authorization: Basic {basic_unpadded}")),
    passed("C0 white space around a header", request(b"access_token: \t {token}\t")),
    passed(
        "C0 white space around the pair", request(b"username:  acme ", b"password:\t{password}\t")
    ),
    *(
        passed(
            f"C0 ?token= with {around.decode()} around",
            request(target=LISTENER + b"?token=" + around + b"{token}" + around),
        )
        for around in (b"%20", b"%09", b"%0a", b"%0D%0A", b"%20%0b%0c")
    ),
    passed("C0 the pair and the same in Basic", request(*PAIR, BASIC)),
    passed("C0 the pair twice", request(*PAIR, *PAIR)),
    passed(
        "C0 the same token with a blank",
        request(b"access_token: {token}", target=LISTENER + b"?token=%20{token}%0a"),
    ),
    *(
        passed(
            f"C0 the same token in a header and {where}",
            in_basic(where, b"token", b"access_token: {token}"),
        )
        for where in IN_BASIC
    ),
    Case(
        name="C0 a user name alone is forwarded",
        weight=5,
        send=(authorized(b"UserName: somebody"),),
        answers=(200,),
        seen=(LISTENER,),
        present={"username": [b"somebody"]},
    ),
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
        if not {first, second} <= IN_AUTHORIZATION
    ),
    *(
        denied(
            f"C1 {first} and {second}, the same token",
            carrying((first, b"{token}"), (second, b"{token}")),
            "ambiguous_credentials",
            400,
        )
        for first, second in permutations(sorted(IN_AUTHORIZATION), 2)
    ),
    *(
        denied(
            f"C1 the pair and {slot}",
            carrying((slot, b"{token}"), more=PAIR),
            "ambiguous_credentials",
            400,
        )
        for slot in SLOTS
    ),
    *(
        denied(
            f"C1 {where} and {slot}",
            in_basic_and(where, slot),
            "ambiguous_credentials",
            400,
        )
        for where in IN_BASIC
        for slot in SLOTS
        if not (slot in IN_AUTHORIZATION and "Basic" in where)
    ),
    *(
        denied(f"C1 the pair and {what}", request(*PAIR, *lines), "ambiguous_credentials", 400)
        for what, lines in (
            ("a wrong one in Basic", (b"Authorization: Basic {b64_wrong}",)),
            ("a token in Basic", (b"Authorization: Basic {b64_acme_token}",)),
            ("another password", (b"password: another",)),
            ("another user", (b"username: globex",)),
            ("an unreadable token", (b"access_token: x",)),
        )
    ),
    denied("C1 a password alone and a token", request(BEARER, b"password: {password}"), "ambiguous_credentials", 400),
    denied(
        "C1 two user names with one token",
        request(b"Authorization: Basic {b64_acme_token}", b"username: globex", b"password: {token}"),
        "ambiguous_credentials", 400,
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
        carrying(*((slot, b"{token}") for slot in SLOTS if slot not in IN_AUTHORIZATION - {"no scheme"})),
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
            ("a tab within", b"Bearer {token}\t{token2}"),
            ("a trailing comma", b"Bearer {token},"),
            ("quoted", b'Bearer "{token}"'),
            ("no scheme, two", b"{token} {token2}"),
            ("no scheme, a list", b"{token},{token2}"),
            ("no scheme, quoted", b'"{token}"'),
            ("joined to the scheme", b"Bearer{token}"),
            ("access_token:", b"access_token: {token}"),
            ("access_token=", b"access_token={token}"),
            ("two schemes", b"Token Bearer {token}"),
            ("Bearer=", b"Bearer={token}"),
            ("Bearer:", b"Bearer: {token}"),
            ("Bearerx", b"Bearerx {token}"),
            ("Token with parameters", b'Token token="{token}"'),
            ("Tokenx", b"Tokenx {token}"),
            ("JWT", b"JWT {token}"),
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
    basic("C9 a token with another's account", b"b64_globex_token", "invalid_token"),
    basic("C9 a token with no one's account", b"b64_ghost_token", "invalid_token"),
    basic("C9 an imported token with its account", b"b64_acme_imported", "invalid_password"),
    basic("C9 a wrong checksum with its account", b"b64_acme_badsum", "invalid_password"),
    denied(
        "C9 a token with another's account, in the pair",
        request(b"username: globex", b"password: {token}"),
        "invalid_token",
    ),
    denied(
        "C9 an imported token with its account, in the pair",
        request(b"username: acme", b"password: {imported}"),
        "invalid_password",
    ),
    denied(
        "C9 a token with another's account, and alone",
        request(b"username: globex", b"password: {token}", b"access_token: {token}"),
        "invalid_token",
    ),
    *(
        denied(f"C9 the pair, {what}", request(*lines), code)
        for what, lines, code in (
            ("a wrong password", (b"username: acme", b"password: wrong"), "invalid_password"),
            (
                "an unknown account",
                (b"username: nobody", b"password: {password}"),
                "invalid_password",
            ),
            (
                "an account without a password",
                (b"username: globex", b"password:"),
                "invalid_password",
            ),
            ("a password alone", (b"password: {password}",), "malformed_credentials"),
            ("a token as a password alone", (b"password: {token}",), "malformed_credentials"),
            ("an empty account", (b"username:", b"password: short"), "malformed_credentials"),
            ("a user name alone", (b"username: acme",), "missing_credentials"),
            (
                "a token as a user name alone",
                (b"username: 0123456789abcdef",),
                "missing_credentials",
            ),
            (
                "another spelling of password",
                (b"username: acme", b"pass-word: 0123456789abcdef"),
                "missing_credentials",
            ),
        )
    ),
    basic("C9 a token as the user, x-oauth-basic", b"b64_user_token_x", "invalid_password"),
    basic("C9 a wrong password", b"b64_wrong", "invalid_password"),
    basic("C9 an unknown account", b"b64_nobody", "invalid_password"),
    basic("C9 an account without a password", b"b64_globex", "invalid_password"),
    denied("C9 bad base64", request(b"Authorization: Basic !!!!"), "malformed_credentials"),
    denied("C9 no colon", request(b"Authorization: Basic YWNtZQ=="), "malformed_credentials"),
    denied("C9 not UTF-8", request(b"Authorization: Basic /zo6/w=="), "invalid_password"),
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
        ("a short token without a scheme", request(b"Authorization: abc")),
        ("Token", request(b"Authorization: Token")),
        ("access_token and a tab", request(b"Authorization: access_token\t")),
        ("an empty pair", request(b"username:", b"password:")),
        ("an empty password alone", request(b"password:")),
        ("a query of white space", request(target=LISTENER + b"?token=%20%09%0a")),
        ("a colon in Basic", request(b"Authorization: Basic Og==")),
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
        denied(f"C12 {token.decode()} ({where})", in_basic(where, token), "invalid_token")
        for token in (b"revoked", b"expired", b"unknown", b"ghost", b"jwt")
        for where in IN_BASIC
    ]
    + [
        denied(f"C12 badsum ({where})", in_basic(where, b"badsum"), "invalid_token")
        for where in IN_BASIC
        if "account" not in where
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
        denied(
            "C12 a form that is switched off: the pair",
            request(*PAIR, target=b"/bearer-only"),
            "missing_credentials",
        ),
        denied(
            "C12 a form that is switched off: a token in Basic",
            in_basic("in Basic, as the user", b"token", target=b"/bearer-only"),
            "missing_credentials",
        ),
        passed(
            "C12 the form bearer has every scheme for tokens",
            request(b"Authorization: access_token {token}", target=b"/bearer-only"),
            b"/bearer-only",
        ),
        passed(
            "C12 the form bearer has tokens without a scheme",
            request(b"Authorization: {token}", target=b"/bearer-only"),
            b"/bearer-only",
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
        ("a token without a scheme", (b"Authorization: {token}",), b""),
        ("the pair", PAIR, b""),
        ("a password alone", (b"password: {password}",), b""),
        ("a token as the user of the pair", (b"username: {token}", b"password:"), b""),
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
