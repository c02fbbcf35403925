"""CORS: a page is told what its origin and the route allow, and nothing that a caller adds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cors import CorsFields, CorsPolicy, read_cors_fields

SHOP = b"https://shop.example"


def lines_of(told: bytes) -> list[str]:
    return told.decode().split("\r\n")[:-1]


@pytest.mark.parametrize(
    ("origins", "allowed", "others"),
    [
        (
            ["https://shop.example"],
            ["https://shop.example"],
            [
                *["http://shop.example", "https://shop.example:8443", "https://shop.example."],
                *["https://SHOP.example", "https://shop.example/", "https://xshop.example"],
                *["https://shop.example.evil.example", "https://shopxexample", "null", "", "*"],
                *["https://shop.example\nX: y", "https://shop.example,https://shop.example"],
            ],
        ),
        (["http://localhost:3000"], ["http://localhost:3000"], ["http://localhost"]),
        (["http://[::1]:8080"], ["http://[::1]:8080"], ["http://[::1]", "http://:8080"]),
        (
            ["https://*.shop.example"],
            ["https://a.shop.example", "https://a-1.b.shop.example"],
            [
                *["https://shop.example", "https://ashop.example", "https://.shop.example"],
                *["https://a.shop.example.evil", "https://evil.example/.shop.example"],
                *["https://evil.example?.shop.example", "http://a.shop.example", "https://a..shop.example"],
            ],
        ),
        (["https://a.b", "null"], ["https://a.b", "null"], ["https://null", "nul"]),
        (["capacitor://localhost"], ["capacitor://localhost"], ["https://localhost"]),
        (["*"], ["https://any.example", "null", "anything"], [""]),
    ],
)  # fmt: skip
def test_an_origin_is_allowed_to_the_letter(
    origins: list[str], allowed: list[str], others: list[str]
) -> None:
    policy = CorsPolicy(tuple(origins))
    every = [*allowed, *others]
    assert [origin for origin in every if policy.allows(origin.encode())] == allowed


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ([], CorsFields(b"", "", b"")),
        ([(b"oRiGin", SHOP)], CorsFields(SHOP, "", b"")),
        (
            [(b"Origin", SHOP), (b"access-control-request-method", b"PUT")],
            CorsFields(SHOP, "PUT", b""),
        ),
        (
            [
                (b"Origin", SHOP),
                (b"Access-Control-Request-Method", b"GET"),
                (b"Access-Control-Request-Headers", b"authorization, x-a"),
            ],
            CorsFields(SHOP, "GET", b"authorization, x-a"),
        ),
        ([(b"Access-Control-Request-Method", b"GET")], CorsFields(b"", "", b"")),
        ([(b"Origin", SHOP), (b"Origin", SHOP)], CorsFields(b"", "", b"")),
        (
            [
                (b"Origin", SHOP),
                (b"Access-Control-Request-Method", b"GET"),
                (b"Access-Control-Request-Method", b"GET"),
            ],
            CorsFields(SHOP, "", b""),
        ),
        ([(b"Origin", SHOP), (b"Access-Control-Request-Method", b"")], CorsFields(SHOP, "", b"")),
        (
            [(b"Origin", SHOP), (b"Access-Control-Request-Method", b"G ET")],
            CorsFields(SHOP, "", b""),
        ),
        (
            [
                (b"Origin", SHOP),
                (b"Access-Control-Request-Method", b"GET"),
                (b"Access-Control-Request-Headers", b'"a"'),
            ],
            CorsFields(SHOP, "GET", b""),
        ),
    ],
)
def test_a_preflight_is_what_names_one_origin_and_one_method(
    headers: list[tuple[bytes, bytes]], fields: CorsFields
) -> None:
    assert read_cors_fields(headers) == fields


def test_a_preflight_is_told_what_the_route_allows() -> None:
    policy = CorsPolicy(
        ("https://shop.example",), methods=("GET", "PUT"), headers=("A", "B"), max_age_seconds=60
    )
    assert lines_of(policy.preflight_lines(CorsFields(SHOP, "GET", b"c"))) == [
        "Access-Control-Allow-Origin: https://shop.example",
        "Access-Control-Allow-Methods: GET, PUT",
        "Access-Control-Allow-Headers: A, B",
        "Access-Control-Max-Age: 60",
        "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ]


def test_a_preflight_is_told_what_it_asks_for_where_everything_is_allowed() -> None:
    policy = CorsPolicy(("https://shop.example",), has_credentials=True, exposed=("X-A",))
    assert lines_of(policy.preflight_lines(CorsFields(SHOP, "PATCH", b"a, b"))) == [
        "Access-Control-Allow-Origin: https://shop.example",
        "Access-Control-Allow-Methods: PATCH",
        "Access-Control-Allow-Headers: a, b",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Max-Age: 0",
        "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    ]
    assert "Allow-Headers" not in policy.preflight_lines(CorsFields(SHOP, "GET", b"")).decode()


WITH_ALL = CorsPolicy(("https://shop.example",), exposed=("X-A", "X-B"), has_credentials=True)


@pytest.mark.parametrize(
    ("policy", "origin", "headers", "told"),
    [
        (
            WITH_ALL,
            SHOP,
            [],
            [
                "Access-Control-Allow-Origin: https://shop.example",
                "Access-Control-Allow-Credentials: true",
                "Access-Control-Expose-Headers: X-A, X-B",
                "Vary: Origin",
            ],
        ),
        (WITH_ALL, b"https://evil.example", [], ["Vary: Origin"]),
        (WITH_ALL, b"", [], ["Vary: Origin"]),
        (CorsPolicy(("*",)), SHOP, [], ["Access-Control-Allow-Origin: *"]),
        (CorsPolicy(("*",)), b"", [], []),
        (WITH_ALL, SHOP, [(b"access-control-allow-origin", b"https://its.example")], []),
        (WITH_ALL, b"", [(b"Access-Control-Allow-Origin", b"*")], []),
        (
            WITH_ALL,
            SHOP,
            [(b"Access-Control-Expose-Headers", b"Its"), (b"vary", b"accept, ORIGIN")],
            [
                "Access-Control-Allow-Origin: https://shop.example",
                "Access-Control-Allow-Credentials: true",
            ],
        ),
    ],
)
def test_an_answer_gets_the_fields_that_the_service_has_not_set(
    policy: CorsPolicy, origin: bytes, headers: list[tuple[bytes, bytes]], told: list[str]
) -> None:
    assert lines_of(policy.lines_beside(origin, headers)) == told


@given(st.binary(max_size=60), st.text(max_size=8), st.binary(max_size=60))
def test_no_origin_whatever_it_holds_adds_a_line_of_its_own(
    origin: bytes, method: str, names: bytes
) -> None:
    fields = read_cors_fields(
        [
            (b"Origin", origin),
            (b"Access-Control-Request-Method", method.encode()),
            (b"Access-Control-Request-Headers", names),
        ]
    )
    for policy in (WITH_ALL, CorsPolicy(("*",)), CorsPolicy(("https://*.a.b", "null"))):
        told = policy.lines(origin)
        if fields.method and policy.allows(origin):
            told += policy.preflight_lines(fields)
        assert told.count(b"\n") == told.count(b"\r\n")
        for line in told.split(b"\r\n")[:-1]:
            assert line.startswith((b"Access-Control-", b"Vary: "))
