"""What callers send, as data: the sidecar's proxy and every front must make the same of a case.

A case's text holds ``{name}`` where a token or a pair of account and password goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

LISTENER = "/v1/dynamic/listener/a1"
STATUS = "/status"


@dataclass(frozen=True, slots=True)
class Case:
    """One call, and the status that the sidecar's own proxy gives it (200: it passes)."""

    name: str
    status: int
    target: str = LISTENER
    lines: tuple[str, ...] = ()
    method: str = "GET"
    body: bytes = b""
    version: str = "HTTP/1.1"
    host: str = "Host: shop.example"
    """The line that names the host; empty: there is none."""
    may_refuse: bool = False
    """The proxy takes out what a front may have to refuse the call for (400 or 403)."""
    any_refusal: bool = False
    """No proper request: a front may answer it by itself, or not at all."""


def _in_slot(slot: str, credential: str) -> tuple[str, tuple[str, ...]]:
    """Return target and lines of a call with a credential."""
    if slot.startswith("?"):
        return LISTENER + slot + credential, ()
    return LISTENER, (slot + credential,)


SLOTS = {
    "bearer": "Authorization: Bearer ",
    "Token scheme": "Authorization: Token ",
    "access_token scheme": "Authorization: access_token ",
    "jwt_token scheme": "authorization: JWT_TOKEN ",
    "no scheme": "Authorization: ",
    "access_token header": "access_token: ",
    "jwt_token header": "jwt_token: ",
    "access_token query": "?access_token=",
    "token query": "?token=",
    "jwt_token query": "?jwt_token=",
}
STATES = {"valid": 200, "expired": 401, "revoked": 401, "unknown": 401, "malformed": 401}
GOOD = "access_token: {access_valid}"


def _tokens() -> list[Case]:
    return [
        Case(f"{kind} {state}, {slot}", status, *_in_slot(prefix, f"{{{kind}_{state}}}"))
        for (slot, prefix), kind, (state, status) in product(
            SLOTS.items(), ("access", "jwt"), STATES.items()
        )
    ]


LARGE_TOKENS = [
    *(
        Case(f"a JWT of {size}, {slot}", 200, *_in_slot(SLOTS[slot], f"{{jwt_{size}}}"))
        for size in ("9_kib", "15_kib")
        for slot in ("bearer", "jwt_token header", "token query")
    ),
    # In a query, the rest of the target would make it too long.
    *(
        Case(f"the longest JWT, {slot}", 200, *_in_slot(SLOTS[slot], "{jwt_16_kib}"))
        for slot in ("bearer", "jwt_token header")
    ),
]


IN_BASIC = {
    "as the user name": "{token}:",
    "as the password": ":{token}",
    "beside its account": "acme:{token}",
    "beside another account": "other:{token}",
}
"""Where a token may stand in Basic, or in the pair of header fields."""


def _tokens_in_basic() -> list[Case]:
    cases = []
    for (where, pair), kind, (state, status) in product(
        IN_BASIC.items(), ("access", "jwt"), STATES.items()
    ):
        account, _, password = pair.partition(":")
        named = f"{kind}_{state}"
        lines = (f"username: {account}", f"password: {password}")
        wanted = 401 if "another" in where else status
        name = f"{kind} {state}, {where}"
        encoded = f"Authorization: Basic {{basic_{named} {where}}}"
        cases.append(Case(f"{name} of basic", wanted, lines=(encoded,)))
        sent = tuple(line.replace("{token}", f"{{{named}}}") for line in lines)
        cases.append(Case(f"{name} of the pair", wanted, lines=sent))
    return cases


def _passwords() -> list[Case]:
    states = {"valid": 200, "wrong": 401, "unknown": 401, "empty": 401, "malformed": 401}
    return [
        Case(f"basic {state}", status, lines=(f"Authorization: Basic {{basic_{state}}}",))
        for state, status in states.items()
    ]


PAIR = ("username: acme", "password: {password}")
PAIRS = [
    Case("the pair", 200, lines=PAIR),
    Case(
        "the pair, the other way round, in capitals",
        200,
        lines=("PASSWORD: {password}", "USERNAME: acme"),
    ),
    Case("the pair, a wrong password", 401, lines=("username: acme", "password: wrong")),
    Case("the pair, an unknown account", 401, lines=("username: nobody", "password: {password}")),
    Case("the pair, an empty password", 401, lines=("username: acme", "password: ")),
    Case("a password without a user name", 401, lines=("password: {password}",)),
    Case("a user name without a password", 401, lines=("username: acme",)),
    Case("a user name beside a token", 200, lines=(GOOD, "username: lone-user")),
    Case("the pair beside a token", 400, lines=(GOOD, *PAIR)),
    Case("a password alone beside a token", 400, lines=(GOOD, "password: {password}")),
    Case(
        "the pair beside the same in basic",
        200,
        lines=(*PAIR, "Authorization: Basic {basic_valid}"),
    ),
    Case(
        "the pair beside a wrong one in basic",
        400,
        lines=(*PAIR, "Authorization: Basic {basic_wrong}"),
    ),
    Case("the pair on a public route", 200, STATUS, PAIR),
    Case(
        "a token as user name on a public route",
        200,
        STATUS,
        ("username: {access_valid}", "password: "),
    ),
    Case("a user name on a public route", 200, STATUS, ("username: lone-user",)),
]

CLUMSY = [
    Case("spaces after Bearer", 200, lines=("Authorization: Bearer   {access_valid}",)),
    Case("a tab after Bearer", 200, lines=("Authorization: Bearer\t{access_valid}",)),
    Case("a tab and a space after Token", 200, lines=("Authorization: token\t {jwt_valid}",)),
    Case("white space around Authorization", 200, lines=("Authorization: \t {access_valid} \t",)),
    Case("white space around a header", 200, lines=("access_token: \t{access_valid}\t ",)),
    Case("white space around the pair", 200, lines=("username:  acme\t", "password:\t{password} ")),
    *(
        Case(
            f"{around} around a parameter",
            200,
            f"{LISTENER}?token={around}{{access_valid}}{around}",
        )
        for around in ("%20", "%09", "%0A", "%0d%0a")
    ),
    Case("a token twice, once with a blank", 200, f"{LISTENER}?token=%20{{access_valid}}", (GOOD,)),
    Case("basic without padding", 200, lines=("Authorization: Basic {basic_unpadded}",)),
    Case("basic in the alphabet of URLs", 401, lines=("Authorization: Basic {basic_url}",)),
    Case("spaces after Basic", 200, lines=("Authorization: Basic \t {basic_valid}",)),
    Case("basic in Latin-1", 200, lines=("Authorization: Basic {basic_latin_1}",)),
    Case("basic in UTF-8", 200, lines=("Authorization: Basic {basic_utf_8}",)),
]


NO_CREDENTIAL = [
    Case("nothing", 401),
    Case("nothing, by HEAD", 401, method="HEAD"),
    Case("an unknown scheme", 401, lines=("Authorization: Digest x",)),
    Case("an unknown scheme with a token", 401, lines=("Authorization: ApiKey {access_valid}",)),
    Case("an empty header", 401, lines=("access_token: ",)),
    Case("an empty parameter", 401, f"{LISTENER}?token="),
    Case("a public route", 200, STATUS),
    Case("a public route with a bad token", 200, STATUS, ("access_token: {access_unknown}",)),
    Case("a public route with a token in the query", 200, STATUS + "?token={access_valid}&a=1"),
]
TWO_CREDENTIALS = [
    Case("two tokens", 400, LISTENER + "?token={access_unknown}", (GOOD,)),
    Case("the same token twice", 200, LISTENER + "?token={access_valid}&x", (GOOD,)),
    Case("two parameters", 400, LISTENER + "?token={access_valid}&access_token={jwt_valid}"),
]
TWICE = [
    Case(
        "Authorization twice",
        400,
        lines=("Authorization: Bearer {access_valid}", "Authorization: Bearer {access_unknown}"),
        any_refusal=True,
    ),
]


def _spoofed() -> list[Case]:
    spelt = [
        *("X-Account: admin", "x-account: admin", "X_Account: admin", "x_account: admin"),
        *("X.Account: admin", "X!Account: admin", "X~Account: admin", "X|Account: admin"),
        *("X-Account: admin\r\nX-Account: root", "X-Account: admin\r\nx_account: root"),
        *("Connection: X-Account", "Connection: x-account, x_account\r\nX-Account: admin"),
        *("Connection: keep-alive, X-ACCOUNT", "X-Account:", "X-Account: acme"),
        *("Remote-User: admin", "X-Remote-User: admin", "X-Auth-Uri: /status"),
        *("X_Auth_Uri: /status", "X-Auth-Status: 200", "X-Auth-Code: x"),
    ]
    return [
        Case(f"{line!r}, {target}", 200, target, (*credential, line), may_refuse=line[1] in ".!~|")
        for line in spelt
        for target, credential in ((LISTENER, (GOOD,)), (STATUS, ()))
    ]


FORGED_LINES = [
    *("X-Original-URI: /status", "X-Original-Method: GET\r\nX-Original-URI: /status"),
    *("X_Original_URI: /status", "X-Original-Method: OPTIONS", "X-Original-URL: /status"),
    *("X-Forwarded-Uri: /status", "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /status"),
    *("X_Forwarded_Uri: /status", "X-Forwarded-Method: OPTIONS", "X-Rewrite-URL: /status"),
    *("X-Auth-Uri: /status", "Connection: X-Original-URI, X-Forwarded-Uri, X-Original-Method"),
    *("Connection: X-Auth-Uri", "Connection: close, X-Forwarded-Method", "X-Forwarded-Host: x"),
    *("X-Forwarded-Proto: https", "X-Forwarded-Prefix: /status", "X-Envoy-Original-Path: /status"),
    *("X-Original-URI: /status\r\nX-Original-URI: /status", "X-HTTP-Method-Override: OPTIONS"),
]


def _forged() -> list[Case]:
    """Return calls whose words on the original request must count for nothing, with or without a
    good token.
    """
    with_none = [Case(f"{line!r}, no token", 401, lines=(line,)) for line in FORGED_LINES]
    with_one = [Case(f"{line!r}, a token", 200, lines=(GOOD, line)) for line in FORGED_LINES]
    return [*with_none, *with_one]


HIDDEN = [
    Case("Connection names Authorization", 401, lines=("Connection: close, Authorization",)),
    Case("an alias of a credential", 401, lines=("access-token: {access_valid}",)),
    Case(
        "an alias beside a credential",
        200,
        lines=(GOOD, "Access.Token: {jwt_valid}"),
        may_refuse=True,
    ),
    Case("Proxy-Authorization", 200, lines=(GOOD, "Proxy-Authorization: Bearer {jwt_valid}")),
    Case("Referer", 200, lines=(GOOD, "Referer: https://shop.example/?token={access_valid}")),
]


def _queries() -> list[Case]:
    queries = [
        *("a=1&token={access_valid}&b=2", "token={access_valid}", "token={access_valid}&"),
        *("b=%2F&a=+&a=+&token={access_valid}&&x", "%74oken={access_valid}&q=%7e~"),
        *("access_token={access_valid}&token={access_valid}&z", "a=%2B&token={jwt_valid}"),
        *(
            "filter[name]=x&token={access_valid}&p=a/b?c",
            "&&token={access_valid}",
            "=&token={access_valid}",
        ),
    ]
    return [Case(f"?{query}", 200, f"{LISTENER}?{query}") for query in queries]


PATHS = [
    Case("no route", 404, "/nowhere", (GOOD,)),
    Case("no route, no token", 404, "/nowhere"),
    Case("a method that the route has not", 405, "/get-only", (GOOD,), method="POST"),
    Case("HEAD where GET is named alone", 405, "/get-only", (GOOD,), method="HEAD"),
    Case("another's route", 403, "/others", (GOOD,)),
    Case("a doubled slash in front", 404, "//status"),
    Case("a doubled slash within", 404, "/v1//dynamic/listener/a1", (GOOD,)),
    Case("a slash at the end", 404, "/status/"),
    Case("capitals", 404, "/STATUS"),
    Case("a parameter of the path", 200, f"{LISTENER};v=1", (GOOD,)),
    Case("an encoded letter", 200, "/v1/dynamic/listener/%61%20b~c", (GOOD,)),
    Case("an encoded letter of a public route", 200, "/%73tatus"),
    Case("dot segments", 400, "/status/../v1/dynamic/listener/a1", (GOOD,)),
    Case("dot segments, no token", 400, "/status/../v1/dynamic/listener/a1"),
    Case("encoded dot segments", 400, "/status/%2e%2e/v1/dynamic/listener/a1"),
    Case("a dot", 400, "/./status"),
    Case("an encoded dot", 400, "/%2e/status"),
    Case("an encoded slash", 400, "/v1%2fdynamic/listener/a1"),
    Case("a backslash", 400, "/status\\..\\v1", any_refusal=True),
    Case("an encoded backslash", 400, "/status%5c..%5cv1"),
    Case("an encoded NUL", 400, "/status%00", any_refusal=True),
    Case("half an encoding", 400, "/status%2", any_refusal=True),
    Case("a fragment", 400, "/v1/dynamic/listener/a1#/status", any_refusal=True),
    Case("a question mark", 200, f"{LISTENER}?/status", (GOOD,)),
    Case("an absolute target", 200, f"http://shop.example{LISTENER}?a=1", (GOOD,)),
    Case("another absolute target", 401, f"http://evil.example{LISTENER}", may_refuse=True),
    Case("an asterisk", 400, "*", method="OPTIONS", any_refusal=True),
]
METHODS = [
    *(
        Case(f"{method} with a token", 200, lines=(GOOD,), method=method)
        for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND")
    ),
    *(
        Case(f"{method} without a token", 401, method=method)
        for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH")
    ),
    Case("an unknown method", 501, lines=(GOOD,), method="FOO", any_refusal=True),
    Case("a method in small letters", 501, lines=(GOOD,), method="get", any_refusal=True),
    Case("TRACE", 501, lines=(GOOD,), method="TRACE", any_refusal=True),
    Case("CONNECT", 501, "shop.example:80", (GOOD,), method="CONNECT", any_refusal=True),
]
BODIES = [
    Case("a body", 200, lines=(GOOD, "Content-Length: 5"), method="POST", body=b"hello"),
    Case(
        "a body in chunks",
        200,
        lines=(GOOD, "Transfer-Encoding: chunked"),
        method="POST",
        body=b"5\r\nhello\r\n0\r\n\r\n",
    ),
    Case(
        "a refused body that looks like a request",
        401,
        lines=("Content-Length: 27",),
        method="POST",
        body=b"GET /status HTTP/1.1\r\n\r\n\r\n\r\n",
    ),
    Case(
        "a refused upload that waits",
        401,
        lines=("access_token: {access_unknown}", "Expect: 100-continue", "Content-Length: 99"),
        method="POST",
    ),
]


def _repeated() -> list[Case]:
    """Return calls with fields that sloppy clients send twice; the service gets what the front
    makes of them.
    """
    names = [
        *("User-Agent", "Content-Type", "ETag", "Content-Location", "Max-Forwards", "Server"),
    ]
    return [
        *(Case(f"{name} twice", 200, lines=(GOOD, f"{name}: a", f"{name}: b")) for name in names),
        *(
            Case(f"{name} twice, no token", 401, lines=(f"{name}: a", f"{name.lower()}: a"))
            for name in names
        ),
        Case(
            "Content-Range twice",
            200,
            lines=(GOOD, "Content-Range: a", "Content-Range: b"),
            may_refuse=True,
        ),
        Case("two fields twice", 200, lines=(*("User-Agent: a", "Server: b") * 2, GOOD)),
        Case("User-Agent twice, a public route", 200, STATUS, ("User-Agent: a",) * 3),
        Case("Host twice", 400, lines=(GOOD, "Host: evil.example"), any_refusal=True),
        Case(
            "Content-Length twice",
            400,
            lines=(GOOD, "Content-Length: 0", "Content-Length: 1"),
            method="POST",
            any_refusal=True,
        ),
    ]


HTTP_10 = [
    Case("HTTP/1.0", 200, lines=(GOOD,), version="HTTP/1.0"),
    Case("HTTP/1.0, no Host", 200, lines=(GOOD,), version="HTTP/1.0", host=""),
    Case("HTTP/1.0, no Host, no token", 401, version="HTTP/1.0", host=""),
    Case("HTTP/1.0, no Host, a public route", 200, STATUS, version="HTTP/1.0", host=""),
    Case("HTTP/1.0, no Host, no route", 404, "/nowhere", version="HTTP/1.0", host=""),
    Case("HTTP/1.0, no Host, HEAD", 200, lines=(GOOD,), method="HEAD", version="HTTP/1.0", host=""),
    Case(
        "HTTP/1.0, no Host, a body",
        200,
        lines=(GOOD, "Content-Length: 5"),
        method="POST",
        body=b"hello",
        version="HTTP/1.0",
        host="",
    ),
    Case(
        "HTTP/1.0, no Host, keep-alive",
        200,
        f"{LISTENER}?token={{access_valid}}&a",
        ("Connection: keep-alive",),
        version="HTTP/1.0",
        host="",
    ),
    Case("HTTP/1.1, no Host", 400, lines=(GOOD,), host="", any_refusal=True),
]

GROUPS = {
    "tokens": _tokens(),
    "large tokens": LARGE_TOKENS,
    "tokens in basic": _tokens_in_basic(),
    "passwords": _passwords(),
    "the pair": PAIRS,
    "clumsy callers": CLUMSY,
    "no credential": NO_CREDENTIAL,
    "several credentials": TWO_CREDENTIALS + TWICE,
    "spoofed identities": _spoofed(),
    "forged original requests": _forged(),
    "credentials in odd places": HIDDEN,
    "queries": _queries(),
    "paths": PATHS,
    "methods": METHODS,
    "bodies": BODIES,
    "repeated fields": _repeated(),
    "HTTP/1.0": HTTP_10,
}
CASES = [case for group in GROUPS.values() for case in group]
