"""Group I: a caller never says who it is but by a credential."""

from __future__ import annotations

import re

from tests.conformance.case import BEARER, LISTENER, Case, authorized, request
from tests.conformance.oracle import Observation

HOPS = b", ".join(b"10.%d.%d.1" % divmod(n, 256) for n in range(1000))


def spoofed(name: str, *lines: bytes, absent: tuple[str, ...] = ()) -> Case:
    """Return a case whose identity claims vanish; the account stays the token's."""
    return Case(
        name=name,
        weight=5,
        send=(authorized(*lines),),
        answers=(200,),
        closes=False,
        seen=(LISTENER,),
        absent=absent,
    )


CLAIMS = [
    spoofed("I1 X-Account: admin", b"X-Account: admin"),
    spoofed("I1 doubled", b"X-Account: admin", b"X-Account: root"),
    spoofed("I1 empty", b"X-Account:"),
    *(
        spoofed(f"I1 spelt {name.decode()}", name + b": admin")
        for name in (b"x-account", b"X-ACCOUNT", b"x-AcCoUnT")
    ),
    *(
        spoofed(f"I2 spelt {name.decode()}", name + b": admin")
        for name in (b"X_Account", b"x_account", b"X_ACCOUNT", b"X_account")
    ),
    *(
        spoofed(f"I3 spelt X{mark}Account", b"X%sAccount: admin" % mark.encode())
        for mark in "!#$%&'*+.^_`|~"
    ),
    spoofed(
        "I3 every identity header", b"X.Token.Id: 1", b"X_Auth_Method: none", b"X~Token~Name: n"
    ),
    Case(
        name="I0 the identity of a bearer token",
        weight=5,
        send=(authorized(),),
        answers=(200,),
        seen=(LISTENER,),
        present={"x-account": [b"acme"], "x-auth-method": [b"bearer"], "x-token-name": [b"token"]},
    ),
    Case(
        name="I4 a password has no token, whatever the client says",
        weight=5,
        send=(
            request(
                b"Authorization: Basic {basic}",
                b"X-Token-Id: 0123456789",
                b"X_Token_Name: spoofed",
                b"X-Auth-Method: bearer",
            ),
        ),
        answers=(200,),
        seen=(LISTENER,),
        present={"x-auth-method": [b"basic"]},
        absent=("x-token-id", "x-token-name"),
    ),
    *(
        Case(
            name=f"I0 the identity of {what}",
            weight=5,
            send=(request(*lines, b"X-Auth-Method: admin"),),
            answers=(200,),
            seen=(LISTENER,),
            present={"x-account": [b"acme"], "x-auth-method": [method], "x-token-name": names},
            absent=("username", "password"),
        )
        for what, lines, method, names in (
            ("a bare token", (b"Authorization: {token}",), b"bearer", [b"token"]),
            ("the scheme Token", (b"Authorization: Token {token}",), b"bearer", [b"token"]),
            ("a token in Basic", (b"Authorization: Basic {b64_acme_token}",), b"basic", [b"token"]),
            ("the pair", (b"username: acme", b"password: {password}"), b"basic", []),
            ("a token in the pair", (b"username:", b"password: {token}"), b"basic", [b"token"]),
        )
    ),
    *(
        spoofed(f"I5 {line.decode()}", line, absent=(folded,))
        for line, folded in (
            (b"SCRIPT_NAME: /admin", "script-name"),
            (b"Script-Name: /admin", "script-name"),
            (b"Remote-User: admin", "remote-user"),
            (b"REMOTE_USER: admin", "remote-user"),
            (b"X-Original-URL: /admin", "x-original-url"),
            (b"X-Rewrite-URL: /admin", "x-rewrite-url"),
            (b"X_Rewrite_Url: /admin", "x-rewrite-url"),
            (b"Proxy: http://evil.example/", "proxy"),
        )
    ),
]

FORWARDED = [
    b"X-Forwarded-For: 9.9.9.9",
    b"X_Forwarded_For: 9.9.9.9",
    b"X.Forwarded.For: 9.9.9.9",
    b"x-forwarded-for: 127.0.0.1",
    b"X-Forwarded-Proto: https",
    b"X_Forwarded_Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"X_Forwarded_Host: evil.example",
    b"Forwarded: for=9.9.9.9;host=evil.example;proto=https",
    b"X-Real-IP: 9.9.9.9",
    b"X_Real_IP: 9.9.9.9",
    b"X-Forwarded-Port: 444",
    b"X-Forwarded-Prefix: /admin",
    b"X-Forwarded-Server: evil.example",
]


def replaced(seen: Observation) -> None:
    """Nothing of an untrusted peer's claims is left; what we say is said once."""
    exchange = seen.exchange
    assert exchange.values("x-forwarded-for") == [b"127.0.0.1"]
    assert exchange.values("x-forwarded-proto") == [b"http"]
    assert exchange.values("x-forwarded-host") == [b"shop.example"]
    assert exchange.values("x-real-ip") in ([], [b"127.0.0.1"])
    for name in ("forwarded", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-server"):
        for value in exchange.values(name):
            assert not re.search(rb"9\.9|evil|444|admin", value)


def appended(seen: Observation) -> None:
    assert seen.exchange.values("x-forwarded-for") == [b"9.9.9.9, 127.0.0.1"]
    assert seen.exchange.values("x-forwarded-proto") == [b"https"]
    assert seen.exchange.values("x-forwarded-host") == [b"public.example"]


ADDRESSES = [
    *(
        Case(
            name=f"I6 untrusted: {line.decode()}",
            weight=5,
            send=(authorized(line),),
            answers=(200,),
            seen=(LISTENER,),
            check=replaced,
        )
        for line in FORWARDED
    ),
    Case(
        name="I6 untrusted: all of them",
        weight=5,
        send=(authorized(*FORWARDED),),
        answers=(200,),
        seen=(LISTENER,),
        check=replaced,
    ),
    Case(
        name="I6 trusted: appended",
        weight=5,
        proxy="trusting",
        send=(
            authorized(
                b"X-Forwarded-For: 9.9.9.9",
                b"X-Forwarded-Proto: https",
                b"X-Forwarded-Host: public.example",
            ),
        ),
        answers=(200,),
        seen=(LISTENER,),
        check=appended,
    ),
    Case(
        name="I6 trusted: an alias is still no X-Forwarded-For",
        weight=5,
        proxy="trusting",
        send=(authorized(b"X_Forwarded_For: 9.9.9.9"),),
        answers=(200,),
        seen=(LISTENER,),
        present={"x-forwarded-for": [b"127.0.0.1"]},
    ),
    *(
        case
        for name, value in (
            ("garbage", b"\xff\xfe, ,,;;=\"'<>, unknown, _hidden, 999.1.1.1, [::"),
            ("1000 hops", HOPS),
            ("empty", b""),
            ("our own address", b"127.0.0.1, ::1"),
        )
        for proxy in ("plain", "trusting")
        for case in (
            Case(
                name=f"I8 {name}, {proxy}, with a token",
                weight=5,
                proxy=proxy,
                send=(authorized(b"X-Forwarded-For: " + value),),
                answers=(200,),
                seen=(LISTENER,),
            ),
            Case(
                name=f"I8 {name}, {proxy}, without a token",
                weight=5,
                proxy=proxy,
                send=(request(b"X-Forwarded-For: " + value),),
                answers=(401,),
                code="missing_credentials",
            ),
        )
    ),
]

NAMED_BY_CONNECTION = [
    spoofed(f"I7 {' + '.join(line.decode() for line in lines)}", *lines)
    for lines in (
        (b"Connection: X-Account",),
        (b"Connection: x-account",),
        (b"connection: keep-alive, X-ACCOUNT",),
        (b"Connection: X_Account",),
        (b"Connection:X-Account ,",),
        (b"Connection: keep-alive", b"Connection: X-Account"),
        (b"Connection: X-Account, X-Token-Id, X-Auth-Method, Host, Content-Length",),
        (b"Connection: X-Account", b"X-Account: admin"),
    )
] + [
    Case(
        name="I7 Connection: access_token, and the token is read all the same",
        weight=5,
        send=(request(b"access_token: {token}", b"Connection: access_token"),),
        answers=(200,),
        seen=(LISTENER,),
    ),
    Case(
        name="I7 Connection: Authorization",
        weight=5,
        send=(authorized(b"Connection: Authorization"),),
        answers=(200,),
        seen=(LISTENER,),
    ),
    Case(
        name="I7 Connection: close, X-Secret removes what it names",
        weight=5,
        send=(authorized(b"Connection: close, X-Secret", b"X-Secret: a", b"x-secret: b"),),
        answers=(200,),
        closes=True,
        seen=(LISTENER,),
        absent=("x-secret",),
    ),
    Case(
        name="I7 Connection: Host does not remove Host",
        weight=5,
        send=(authorized(b"Connection: Host, X-Forwarded-For, Via"),),
        answers=(200,),
        seen=(LISTENER,),
        present={"host": [b"shop.example"], "x-forwarded-for": [b"127.0.0.1"]},
    ),
]

STORED_NAMES = [
    Case(
        name=f"I9 a stored record with {what}",
        weight=5,
        send=(request(b"Authorization: Bearer {%s}" % token.encode()),),
        answers=(401,),
        code="invalid_token",
    )
    for token, what in (
        ("account_crlf", "CR LF in the account"),
        ("account_lf", "LF in the account"),
        ("account_nul", "NUL in the account"),
        ("account_accent", "é in the account"),
        ("account_long", "an account of 10 KiB"),
        ("account_empty", "an empty account"),
        ("account_list", "a list as the account"),
        ("account_space", "a space after the account"),
        ("name_crlf", "CR LF in the name"),
        ("id_crlf", "CR LF in the id"),
        ("ghost", "an undeclared account"),
    )
]

PUBLIC = [
    Case(
        name=f"I10 a public route with {what}",
        weight=5,
        send=(request(*lines, target=b"/public/a"),),
        answers=(200,),
        seen=(b"/public/a",),
        account=None,
        absent=("x-token-id", "x-token-name", "x-auth-method"),
    )
    for what, lines in (
        ("nothing", ()),
        ("X-Account", (b"X-Account: admin", b"X_Account: admin", b"X.Account: admin")),
        ("every identity header", (b"X-Token-Id: 1", b"X-Token-Name: n", b"X-Auth-Method: m")),
        ("a valid token", (BEARER,)),
        ("a valid token and X-Account", (BEARER, b"x-account: admin")),
        ("Connection: X-Account", (b"Connection: X-Account", b"X-Account: admin")),
    )
]

CASES: list[Case] = [*CLAIMS, *ADDRESSES, *NAMED_BY_CONNECTION, *STORED_NAMES, *PUBLIC]
