"""Group Z: a path that services read in several ways leads past no rule.

Played on a proxy with ``/admin`` for accounts, and everything else public behind it.
"""

from __future__ import annotations

from tests.conformance.case import BEARER, LISTENER, Case, request

# Some service takes each of these for /admin or something below it, or for a listener's URL.
HIDDEN = [
    ("Z1", b"//admin"),
    ("Z1", b"///admin"),
    ("Z1", b"//admin/x"),
    ("Z1", b"//x/admin"),
    ("Z1", b"///x//admin//y"),
    ("Z1", b"//admin?a=1"),
    ("Z1", b"http://shop.example//admin"),
    ("Z1", b"/v1//dynamic/listener/a1"),
    ("Z2", b"/admin;x"),
    ("Z2", b"/admin;x/y"),
    ("Z2", b"/admin;x=1;y/z?a=1"),
    ("Z2", b"/;/admin"),
    ("Z2", b"/;a=b/admin/x"),
    ("Z2", b"/admin;"),
    ("Z2", b"/admin%3bx"),
    ("Z2", b"/admin%3Bx/y;z"),
    ("Z2", b"//;//admin;x//y"),
    ("Z2", b"/%61dmin;x"),
    ("Z2", b"/v1;a/dynamic/listener/a1"),
]
DOTS = [
    *(b"/a/.", b"/a/..", b"/.", b"/..", b"/a/.?x", b"/a/./", b"/a/.;x/b", b"//.", b"/a//.."),
    *(b"/a/%2e", b"/a/.%2E", b"/.;/admin", b"/a/..;/admin", b"/admin%2fx", b"/a/.%3b", b"/;/."),
]  # fmt: skip
# No service is known that takes these for another path: they fall where the routes say.
OTHERS = [
    *(b"/Admin", b"/admin.", b"/admin%20", b"/x/admin", b"/admin,x", b"/admin:x"),
]
ORDINARY = [
    *(b"/a//b", b"//a", b"/a/b//", b"/a;v=1", b"/a;v=1/b;w=2?c;d=//e", b"/;x/a", b"/a%3Bb"),
    *(b"/a?x=//admin", b"/a?;/admin", b"/a/b//c;d/e.f"),
]

CASES: list[Case] = [
    *(
        Case(
            name=f"{item} {target.decode()!r}{told}",
            weight=5,
            proxy="open",
            send=(request(*lines, target=target),),
            answers=(400,),
            code="unsafe_path",
            closes=True,
        )
        for item, target in [*HIDDEN, *(("Z3", target) for target in DOTS)]
        for told, lines in (("", ()), (" (with a token)", (BEARER,)))
    ),
    *(
        Case(
            name=f"Z4 {target.decode()!r} is another path",
            weight=5,
            proxy="open",
            send=(request(target=target),),
            answers=(200,),
            seen=(target,),
            account=None,
        )
        for target in OTHERS
    ),
    *(
        Case(
            name=f"Z4 {target.decode()!r} is below /admin",
            weight=5,
            proxy="open",
            send=(request(target=target),),
            answers=(401,),
            code="missing_credentials",
        )
        for target in (b"/admin/", b"/admin//", b"/admin/x;y//z", b"/admin/;x")
    ),
    *(
        Case(
            name=f"Z6 {target.decode()!r} goes through",
            weight=5,
            proxy="open",
            send=(request(target=target),),
            answers=(200,),
            seen=(target,),
            account=None,
        )
        for target in ORDINARY
    ),
    *(
        Case(
            name=f"Z6 {target.decode()!r} goes through with a token",
            weight=5,
            proxy="open",
            send=(request(BEARER, target=target),),
            answers=(200,),
            seen=(target,),
        )
        for target in (b"/admin/a//b;c", LISTENER + b";v=1", b"/admin//;x")
    ),
    *(
        Case(
            name=f"Z6 {target.decode()!r}, {token.decode()}: patterns mean every reading",
            weight=5,
            send=(request(b"access_token: {%s}" % token, target=target),),
            answers=(status,),
            code=code,
            account=account,
            seen=(target,) if status == 200 else (),
        )
        for token, target, account, status, code in (
            (b"limited", b"/v1/dynamic/listener/b1;x", b"limited", 200, None),
            (b"limited", b"/v1/dynamic/listener/b;x", b"limited", 200, None),
            (b"limited", b"/v1/dynamic/listener/a;b1", None, 403, "not_allowed"),
            (b"exact", b"/v1/dynamic/listener/b1", b"exact", 200, None),
            (b"exact", b"/v1/dynamic/listener/b1;x", None, 400, "unsafe_path"),
            (b"exact", b"/v1/dynamic/listener/b1%3Bx", None, 400, "unsafe_path"),
            (b"narrow_exact", b"/v1/dynamic/listener/b1", b"acme", 200, None),
            (b"narrow_exact", b"/v1/dynamic/listener/b1;x", None, 400, "unsafe_path"),
            (b"narrow_exact", b"/v1/dynamic/listener/a1;x", None, 403, "not_allowed"),
        )
    ),
]
