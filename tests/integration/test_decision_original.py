"""Which request is asked about is told once, or the question is refused."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.headers import HeaderRules
from sidecar.core.model import Denial
from sidecar.operations.original import (
    BAD_METHOD,
    BAD_QUESTION,
    CONTRADICTORY,
    MISSING,
    Original,
    check_line,
    find_misleading,
    find_original,
)

ORIGINAL_METHOD = (b"X-Original-Method", b"POST")
ORIGINAL_URI = (b"X-Original-URI", b"/a?b=c")
FORWARDED_METHOD = (b"X-Forwarded-Method", b"POST")
FORWARDED_URI = (b"x-forwarded-uri", b"/a?b=c")
WANTED = Original("POST", "/a?b=c")
RULES = HeaderRules(["X-Account"], ["access_token", "jwt_token"])

QUESTIONS = {
    "nginx's pair": ("GET", "/auth", [ORIGINAL_METHOD, ORIGINAL_URI], WANTED),
    "Caddy's pair": ("GET", "/auth", [FORWARDED_METHOD, FORWARDED_URI], WANTED),
    "Envoy's line": ("POST", "/auth/a?b=c", [], WANTED),
    "Envoy's line, encoded": ("GET", "/auth/%61//b/../c?", [], Original("GET", "/%61//b/../c?")),
    "two pairs that agree": (
        "GET",
        "/auth",
        [FORWARDED_METHOD, ORIGINAL_URI, ORIGINAL_METHOD, FORWARDED_URI],
        WANTED,
    ),
    "nothing": ("GET", "/auth", [], MISSING),
    "nothing behind the query": ("GET", "/auth?/a", [], MISSING),
    "a method alone": ("GET", "/auth", [ORIGINAL_METHOD], MISSING),
    "a URI alone": ("GET", "/auth", [ORIGINAL_URI], MISSING),
    "halves of two pairs": ("GET", "/auth", [ORIGINAL_METHOD, FORWARDED_URI], MISSING),
    "a half beside a pair": (
        "GET",
        "/auth",
        [ORIGINAL_METHOD, FORWARDED_METHOD, FORWARDED_URI],
        MISSING,
    ),
    "a URI twice": ("GET", "/auth", [ORIGINAL_METHOD, ORIGINAL_URI, ORIGINAL_URI], MISSING),
    "methods twice and no URI": ("GET", "/auth", [ORIGINAL_METHOD, ORIGINAL_METHOD], MISSING),
    "two pairs of two minds": (
        "GET",
        "/auth",
        [ORIGINAL_METHOD, ORIGINAL_URI, FORWARDED_METHOD, (b"X-Forwarded-Uri", b"/status")],
        CONTRADICTORY,
    ),
    "a pair that contradicts the line": (
        "GET",
        "/auth/private",
        [(b"X-Original-Method", b"GET"), (b"X-Original-URI", b"/status")],
        CONTRADICTORY,
    ),
    "a pair that contradicts an absolute line": (
        "GET",
        "http://sidecar/auth/private",
        [(b"X-Original-Method", b"GET"), (b"X-Original-URI", b"/status")],
        CONTRADICTORY,
    ),
    "another pair that contradicts an absolute line": (
        "GET",
        "HTTPS://[::1]:2022/auth/private?x",
        [(b"X-Forwarded-Method", b"GET"), (b"X-Forwarded-Uri", b"/status")],
        CONTRADICTORY,
    ),
    "a pair that agrees with an absolute line": (
        "POST",
        "http://sidecar/auth/a?b=c",
        [ORIGINAL_METHOD, ORIGINAL_URI],
        WANTED,
    ),
    "an absolute line alone": ("POST", "http://u@sidecar:1/auth/a?b=c", [], WANTED),
    "an absolute line about an absolute target": (
        "GET",
        "http://sidecar/auth/http://shop.example/a",
        [],
        Original("GET", "/http://shop.example/a"),
    ),
    "a pair beside an absolute question": (
        "GET",
        "http://sidecar/auth?statuses=all",
        [ORIGINAL_METHOD, ORIGINAL_URI],
        WANTED,
    ),
    "an absolute target in a pair": (
        "GET",
        "/auth",
        [ORIGINAL_METHOD, (b"X-Original-URI", b"http://shop.example/a?b=c")],
        Original("POST", "http://shop.example/a?b=c"),
    ),
    "an absolute target beside its path": (
        "GET",
        "/auth",
        [
            *(ORIGINAL_METHOD, (b"X-Original-URI", b"http://shop.example/a?b=c")),
            *(FORWARDED_METHOD, FORWARDED_URI),
        ],
        CONTRADICTORY,
    ),
    **{
        f"a target that is no question, {target}": (
            "GET",
            target,
            [(b"X-Original-Method", b"GET"), (b"X-Original-URI", b"/status")],
            BAD_QUESTION,
        )
        for target in (
            *("/%61uth/private", "/%61uth", "http://sidecar/%61uth/private", "http://sidecar"),
            *(
                "//auth/private",
                "/authprivate",
                "/auth;/private",
                "/auth%2Fprivate",
                "auth/private",
            ),
            *("http://sidecar//auth/private", "http:/auth/private", "/auth#/private"),
        )
    },
    "an alias": (
        "GET",
        "/auth",
        [(b"X_Original_Method", b"GET"), (b"X_Original_URI", b"/status")],
        MISSING,
    ),
    "no method": ("GET", "/auth", [(b"X-Original-Method", b"GE T"), ORIGINAL_URI], BAD_METHOD),
    "an empty method": ("GET", "/auth", [(b"X-Original-Method", b""), ORIGINAL_URI], BAD_METHOD),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_the_request_is_found_or_the_question_refused(case: str) -> None:
    method, target, headers, wanted = QUESTIONS[case]
    assert find_original(method, target, headers) == wanted


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/status?a=b c", "bad_request"),
        ("get", "/status", "bad_request"),
        ("FOO", "/status", "bad_request"),
        ("GET", "", "bad_request"),
        ("GET", "/status\x80", "bad_request"),
        ("GET", "/" + "x" * 70_000, "uri_too_long"),
        ("PROPFIND", "/status", None),
        ("GET", "http://shop.example/status?a=%zz", None),
    ],
)
async def test_a_line_that_the_proxy_could_not_read_is_refused_as_the_proxy_does(
    method: str, target: str, code: str | None
) -> None:
    denial = check_line(Original(method, target), asyncio.get_running_loop())
    assert (None if denial is None else denial.code) == code


@pytest.mark.parametrize(
    "name",
    [
        *(b"X-Account", b"x-account", b"X_Account", b"X.Account", b"X~Account"),
        *(b"access-token", b"Access.Token", b"jwt-token", b"X_Forwarded_For", b"X_Original_URI"),
        *(b"Remote-User", b"Proxy", b"X-Rewrite-URL", b"Script_Name"),
    ],
)
def test_a_field_that_could_mislead_the_service_is_refused(name: bytes) -> None:
    denial = find_misleading(RULES, [(b"Host", b"shop.example"), (name, b"admin")])
    assert isinstance(denial, Denial)
    assert denial.code == "bad_request"
    assert "admin" not in denial.detail


def test_a_name_that_a_caller_made_up_is_not_quoted() -> None:
    denial = find_misleading(RULES, [(b"X_Forwarded-of-the-old-system-123456", b"x")])
    assert denial == Denial("bad_request", "The field x-forwarded-* must not reach the service.")
    denial = find_misleading(RULES, [(b"x_aCCount", b"x")])
    assert denial == Denial("bad_request", "The field x-account must not reach the service.")


@pytest.mark.parametrize(
    "name",
    [
        *(b"Host", b"Authorization", b"access_token", b"Connection", b"Keep-Alive", b"Upgrade"),
        *(b"X-Original-Method", b"X-Original-URI", b"X-Forwarded-Method", b"X-Forwarded-Uri"),
        *(b"X-Original-URL", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Real-IP", b"X-Other"),
    ],
)
def test_what_callers_and_proxies_in_front_commonly_send_is_no_reason_to_refuse(
    name: bytes,
) -> None:
    assert find_misleading(RULES, [(name, b"value")]) is None
