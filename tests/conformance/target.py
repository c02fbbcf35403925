"""Group P: the path that is matched is the path that is forwarded, and no other door leads in."""

from __future__ import annotations

from tests.conformance.case import BEARER, LISTENER, Case, authorized, request

UNSAFE = [
    ("P1", b"/public/../admin"),
    ("P1", b"/public/./../admin"),
    ("P1", b"/public/.."),
    ("P1", b"/public/../../admin"),
    ("P1", b"/../admin"),
    ("P2", b"/public/%2e%2e/admin"),
    ("P2", b"/public/%2E%2e/admin"),
    ("P2", b"/public/.%2e/admin"),
    ("P2", b"/public/%2e./admin"),
    ("P2", b"/public/%2e/admin"),
    ("P2", b"/public/%252e%252e/admin"),
    ("P2", b"/public/%252e/admin"),
    ("P2", b"/public/%25252e%25252e/admin"),
    ("P3", b"/public/..%2fadmin"),
    ("P3", b"/public/..%2Fadmin"),
    ("P3", b"/public/%2e%2e%2fadmin"),
    ("P3", b"/public%2F..%2Fadmin"),
    ("P3", b"/public/a%2Fb"),
    ("P3", b"/public/a%5cb"),
    ("P3", b"/public/..%5cadmin"),
    ("P3", b"/public/..\\admin"),
    ("P3", b"/public\\..\\admin"),
    ("P3", b"/public/%255c..%255cadmin"),
    ("P3", b"/public/%252fadmin"),
    ("P4", b"/public/..;/admin"),
    ("P4", b"/public/..;x=y/admin"),
    ("P4", b"/public/.;/admin"),
    ("P4", b"/public/..%3b/admin"),
    ("P4", b"/public/..%00/admin"),
    ("P4", b"/public/%00"),
    ("P4", b"/public/a%00b"),
    ("P5", b"/public/./admin"),
    ("P5", b"/./admin"),
    ("P6", b"/admin#/public/"),
    ("P6", b"/public/#/../admin"),
    ("P6", b"/public/a?b#c"),
    ("P8", b"/%zz"),
    ("P8", b"/public/%zz"),
    ("P8", b"/public/%"),
    ("P8", b"/%"),
    ("P8", b"/public/%2"),
    ("P8", b"/public/%u002e"),
    ("P8", b"/public/\x80"),
    ("P8", b"/public/\xff"),
    ("P8", b"/public/\xc3\xa9"),
    ("P8", b"http://["),
    ("P8", b"http://[::1/public/a"),
    ("P8", b"http:///public/a"),
    ("P8", b"http://"),
    ("P8", b"http:/public/a"),
    ("P8", b"http://user@a/public/a"),
    ("P8", b"public/a"),
    ("P8", b"/public/a\tb"),
    ("P8", b"/public/<b>"),
    ("P8", b'/public/"'),
    ("P8", b"/public/{a}"),
    ("P8", b"/public/a|b"),
    ("P8", b"/public/a^b"),
    ("P8", b"/public/`"),
    ("P11", b"http://other.example/public/../admin"),
]

PROTECTED = [
    ("P4", b"/admin;x"),
    ("P4", b"/admin;x=/public/"),
    ("P4", b"/;/admin"),
    ("P4", b"/admin%3bx"),
    ("P4", b"/admin%23"),
    ("P4", b"/admin%3f"),
    ("P4", b"/admin%20"),
    ("P4", b"/admin%09"),
    ("P4", b"/admin%0a"),
    ("P5", b"//admin"),
    ("P5", b"//public/a"),
    ("P5", b"///admin"),
    ("P5", b"/admin//"),
    ("P5", b"/admin/"),
    ("P5", b"/admin/x"),
    ("P5", b"/ADMIN"),
    ("P5", b"/Admin"),
    ("P5", b"/%61dmin"),
    ("P5", b"/PUBLIC/a"),
    ("P5", b"/publicx"),
    ("P5", b"/public-a"),
    ("P7", b"/admin?/public/"),
    ("P7", b"/admin?x=/../public/a"),
    ("P7", b"/admin?"),
    ("P11", b"http://other.example/admin"),
    ("P11", b"HTTP://other.example/admin"),
    ("P11", b"http://other.example/public/a/../../admin"),
    ("P11", b"http://other.example"),
]

NO_DOOR = [
    Case(
        name=f"{item} {target.decode('latin-1')!r}, without a credential",
        weight=5,
        send=(request(target=target),),
        answers=((400, 401, 404),),
        account=None,
    )
    for item, target in PROTECTED
]

REFUSED = [
    Case(
        name=f"{item} {target.decode('latin-1')!r}",
        weight=5,
        send=(request(*lines, target=target),),
        answers=(400,),
        code=("unsafe_path", "bad_request"),
        account=None,
    )
    for item, target, lines in [
        *((item, target, ()) for item, target in UNSAFE),
        *(
            (f"{item} (with a token)", target, (BEARER,))
            for item, target in UNSAFE
            if item in ("P2", "P3")
        ),
    ]
]

# Odd, and harmless: each goes through byte for byte.
PASSED = [
    b"/public",
    b"/public/",
    b"/public/a%20b",
    b"/public/~user",
    b"/public/a;v=1/b",
    b"/public/a:b@c!$&'()*+,=",
    b"/public/...",
    b"/public/..a/.b",
    b"/public/%7Euser/%7e",
    b"/public/%C3%A9",
    b"/public/a//b",
    b"/public/a?b=%2F..%2F&c=/../&d=?",
    b"/public/a?",
    b"/public/a?&&=&a",
    b"/public/a?%zz=%",
    b"/public/100%25",
]

THROUGH = [
    Case(
        name=f"P0 byte for byte: {target.decode()}",
        weight=5,
        send=(request(target=target),),
        answers=(200,),
        closes=False,
        seen=(target,),
        account=None,
    )
    for target in PASSED
]

HOSTS = (
    [
        Case(
            name=f"P9 host {value.decode()!r}: refused",
            weight=5,
            send=(request(b"Host: " + value, target=b"/admin", host=False),),
            answers=(400,),
            account=None,
        )
        for value in (b"a/public?", b"a#b", b"a/public/", b"a?/public/", b"a\\public", b"public/")
    ]
    + [
        Case(
            name=f"P9 host {value.decode()!r}: no part in the decision",
            weight=5,
            send=(request(b"Host: " + value, target=b"/admin", host=False),),
            answers=(401,),
        )
        for value in (
            b"A.Example",
            b"a.example.",
            b"a.example:8080",
            b"127.0.0.1:2022",
            b"[::1]:80",
            b"localhost",
        )
    ]
    + [
        Case(
            name=f"P9 host {value.decode()!r}: kept as it was",
            weight=5,
            send=(request(BEARER, b"Host: " + value, host=False),),
            answers=(200,),
            seen=(LISTENER,),
            present={"host": [value]},
        )
        for value in (
            *(b"A.Example", b"a.example.", b"a.example:8080", b"[::1]:80"),
            *(b"a.example:", b"[::1]:", b"a.example:0", b"a.example:080"),
        )
    ]
)

NOTHING_SPECIAL = (
    [
        Case(
            name=f"P10 {target.decode()} is no door",
            weight=5,
            send=(request(BEARER, target=target),),
            answers=(404,),
            code="no_route",
        )
        for target in (
            b"/healthz",
            b"/readyz",
            b"/metrics",
            b"/auth",
            b"/.well-known/jwks.json",
            b"/api/tokens",
            b"/",
            b"/v1/dynamic/listener/a1/",
            b"/v1/dynamic/listener/a1/b",
            b"/v1/dynamic/listener/",
            b"/v1/dynamic/listener",
            b"/V1/dynamic/listener/a1",
        )
    ]
    + [
        Case(
            name=f"P10 user-agent {agent.decode()} passes nowhere",
            weight=5,
            send=(request(b"User-Agent: " + agent),),
            answers=(401,),
            code="missing_credentials",
        )
        for agent in (
            b"kube-probe/1.33",
            b"ELB-HealthChecker/2.0",
            b"GoogleHC/1.0",
            b"Prometheus/3.0",
        )
    ]
    + [
        Case(
            name="P10 HEAD is no way round",
            weight=5,
            send=(request(method=b"HEAD"),),
            method=b"HEAD",
            answers=(401,),
        ),
        Case(
            name="P10 OPTIONS is no way round",
            weight=5,
            send=(
                request(
                    b"Origin: http://a", b"Access-Control-Request-Method: GET", method=b"OPTIONS"
                ),
            ),
            answers=(401,),
        ),
        Case(
            name="P10 X-HTTP-Method-Override means nothing",
            weight=5,
            send=(
                authorized(
                    b"X-HTTP-Method-Override: GET",
                    b"Content-Length: 0",
                    method=b"POST",
                    target=b"/get-only",
                ),
            ),
            answers=(405,),
            code="method_not_allowed",
            answer_has={"allow": ["GET"]},
        ),
    ]
)

ABSOLUTE = [
    Case(
        name="P11 absolute-form: the target's host replaces Host",
        weight=5,
        send=(authorized(target=b"http://other.example:81" + LISTENER + b"?a=1"),),
        answers=(200,),
        seen=(LISTENER + b"?a=1",),
        present={"host": [b"other.example:81"]},
    ),
    Case(
        name="P11 absolute-form is matched by its path",
        weight=5,
        send=(request(target=b"http://shop.example/public/a"),),
        answers=(200,),
        seen=(b"/public/a",),
        account=None,
        present={"host": [b"shop.example"]},
    ),
    Case(
        name="P11 absolute-form in HTTP/1.0",
        weight=5,
        send=(b"GET http://other.example/public/a HTTP/1.0\r\n\r\n",),
        answers=(200,),
        closes=True,
        seen=(b"/public/a",),
        account=None,
        present={"host": [b"other.example"]},
    ),
]

CASES: list[Case] = [*THROUGH, *REFUSED, *NO_DOOR, *HOSTS, *NOTHING_SPECIAL, *ABSOLUTE]
