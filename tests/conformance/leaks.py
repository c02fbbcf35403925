"""Group L: what a log, a cache or Redis is told. Secrets are judged in every case."""

# ruff: noqa: E501  (a table reads best with a row a line)

from __future__ import annotations

import json
import re

from tests.conformance.case import BEARER, LISTENER, Case, Do, authorized, request
from tests.conformance.oracle import Observation
from tests.upstream_recorder import answer

LINE_KEYS = {"time", "request_id", "method", "path", "status"}


def one_line(seen: Observation) -> None:
    """Every line of the log is one JSON object without a control character."""
    lines = seen.log_lines()
    assert len(lines) == len(seen.case.answers), lines
    for line in lines:
        assert line.keys() >= LINE_KEYS, line
        assert not any(
            ord(c) < 32 for value in line.values() if isinstance(value, str) for c in value
        )


def without_query(seen: Observation) -> None:
    one_line(seen)
    assert all("?" not in json.dumps(line) for line in seen.log_lines())


EVERYWHERE = [
    Case(
        name=f"L1 {what}",
        weight=5,
        send=(send,),
        answers=(status,),
        check=without_query,
    )
    for what, send, status in (
        (
            "an unknown token in the query",
            request(target=LISTENER + b"?access_token={unknown}"),
            401,
        ),
        (
            "an encoded token in the query",
            request(target=LISTENER + b"?token={token_encoded}x"),
            401,
        ),
        ("a wrong password", request(b"Authorization: Basic {b64_wrong}"), 401),
        ("a revoked one", request(b"Authorization: Basic {b64_acme_revoked}"), 401),
        (
            "a token with another's account",
            request(b"Authorization: Basic {b64_globex_token}"),
            401,
        ),
        ("a token without a scheme", request(b"Authorization: {unknown}"), 401),
        ("a token behind another scheme", request(b"Authorization: JWT {token}"), 401),
        ("a wrong pair", request(b"username: nobody", b"password: {password}"), 401),
        ("a password alone", request(b"password: {password}"), 401),
        ("a token in the pair", request(b"username: globex", b"password: {token}"), 401),
        ("two tokens", request(BEARER, b"access_token: {token2}"), 400),
        ("a JWT", request(b"jwt_token: {jwt}"), 401),
        ("a token on no route", authorized(target=b"/nowhere?token={token}"), 404),
        ("a token and an unsafe path", request(target=b"/%2e%2e/a?token={token}"), 400),
        ("a token and an upstream that is down", request(target=b"/down/a?token={token}"), 502),
        ("a disabled account's token", request(target=LISTENER + b"?token={disabled}"), 403),
    )
] + [
    Case(
        name="L1 a token within a request that can't be parsed",
        weight=5,
        send=(
            b"GET %s?token={token} HTTP/1.1\r\nHost: a\r\n%s\r\nBad {token2}\r\n\r\n"
            % (LISTENER, BEARER),
        ),
        answers=(400,),
        closes=True,
    ),
    Case(
        name="L1 a token in a request line that can't be parsed",
        weight=5,
        send=(b"GET /a?token={token} {token2} HTTP/1.1\r\nHost: a\r\n\r\n",),
        answers=(400,),
        closes=True,
    ),
    Case(
        name="L1 a token within a broken body",
        weight=5,
        send=(
            authorized(b"Transfer-Encoding: chunked", method=b"POST", body=b"zz{token2}\r\n\r\n"),
        ),
        answers=(400,),
        may_begin=True,
        closes=True,
    ),
    Case(
        name="L1 a token from a client that leaves",
        weight=5,
        send=(request(target=LISTENER + b"?token={token}"), Do.CLOSE, 0.1),
        answers=(),
        seen=(LISTENER,),
        scripts=((0.05, answer(body=b"late")),),
    ),
]


def is_masked(seen: Observation) -> None:
    one_line(seen)
    assert all("[masked]" in (line["path"] or "") for line in seen.log_lines()), seen.log_lines()


TOKENS = ("token", "token_encoded", "token_encoded_twice", "token_hidden")
IN_PATHS = [
    Case(
        name=f"L6 {{{name}}} in the path: {what}",
        weight=5,
        send=(request(*lines, target=start + b"{%s}/x" % name.encode()),),
        answers=(status,),
        account=None,
        seen=(start + b"{%s}/x" % name.encode(),) if status == 200 else (),
        shows=("token", *TOKENS, "jwt", "imported", "imported_encoded"),
        check=is_masked,
    )
    for what, start, status, lines, names in (
        ("let pass", b"/public/a/", 200, (), (*TOKENS, "jwt")),
        ("let pass in a longer word", b"/public/my-", 200, (), (*TOKENS, "jwt")),
        ("refused", b"/admin/", 401, (), (*TOKENS, "jwt")),
        ("on no route", b"/nowhere/", 404, (), (*TOKENS, "jwt")),
        (
            "and in a header, let pass",
            b"/public/",
            200,
            (b"Authorization: Bearer {imported}",),
            ("imported", "imported_encoded"),
        ),
        (
            "and in a header, on no route",
            b"/nowhere/",
            404,
            (b"access_token: {imported}",),
            ("imported", "imported_encoded"),
        ),
    )
    for name in names
] + [
    Case(
        name=f"L6 {{{name}}} in the path and in the query: {status}",
        weight=5,
        send=(request(target=start + b"{%s}?token={imported}" % name.encode()),),
        answers=(status,),
        seen=(start + b"{%s}" % name.encode(),) if status == 200 else (),
        shows=("imported", "imported_encoded"),
        check=is_masked,
    )
    for name in ("imported", "imported_encoded")
    for start, status in ((b"/v1/dynamic/listener/", 200), (b"/nowhere/", 404))
]


def has_an_id_of_ours(seen: Observation) -> None:
    one_line(seen)
    (line,) = seen.log_lines()
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"]), line
    if seen.exchanges:
        assert seen.exchange.values("x-request-id") == [line["request_id"].encode()]


IN_REQUEST_IDS = [
    Case(
        name=f"L6 {what} as the request id: {status}",
        weight=5,
        send=(request(*lines, target=target),),
        answers=(status,),
        seen=(LISTENER,) if status == 200 else (),
        check=has_an_id_of_ours,
    )
    for what, target, status, lines in (
        ("its own token", LISTENER, 200, (BEARER, b"X-Request-Id: {token}")),
        ("another token", LISTENER, 200, (BEARER, b"X-Request-Id: {token2}")),
        ("a token among others", LISTENER, 200, (BEARER, b"X-Request-Id: a:{token2}/b")),
        ("a token without a credential", LISTENER, 401, (b"X-Request-Id: {token}",)),
        ("a token on no route", b"/nowhere", 404, (b"X-Request-Id: {token}",)),
        ("an imported token", LISTENER, 200, (b"jwt_token: {imported}", b"X-Request-Id: {imported}")),
        ("an imported one of the query", LISTENER + b"?token={imported}", 200, (b"X-Request-Id: {imported}",)),
        ("the same on no route", b"/nowhere?token={imported}", 404, (b"X-Request-Id: {imported}",)),
        ("its own Basic", LISTENER, 200, (b"Authorization: Basic {basic}", b"X-Request-Id: {basic}")),
        ("its own token in Basic", LISTENER, 200, (b"Authorization: Basic {b64_user_token}", b"X-Request-Id: {b64_user_token}")),
        ("the same with its account", LISTENER, 200, (b"Authorization: Basic {b64_acme_token}", b"X-Request-Id: {b64_acme_token}")),
        ("the same of the pair", LISTENER, 200, (b"username: acme", b"password: {token}", b"X-Request-Id: {b64_acme_token}")),
        ("a bare token", LISTENER, 200, (b"Authorization: {imported}", b"X-Request-Id: {imported}")),
        ("the password of the pair", LISTENER, 200, (b"username: acme", b"password: {password}", b"X-Request-Id: x-{password}")),
        ("the pair as Basic", LISTENER, 200, (b"username: acme", b"password: {password}", b"X-Request-Id: {basic}")),
        ("its own password", LISTENER, 200, (b"Authorization: Basic {basic}", b"X-Request-Id: x-{password}")),
    )
]  # fmt: skip

REFERERS = [
    Case(
        name=f"L2 a token in the query of {name.decode()}",
        send=(authorized(name + b": https://shop.example/a?access_token={token2}&b=1"),),
        answers=(200,),
        seen=(LISTENER,),
        check=one_line,
    )
    for name in (b"Referer", b"referer")
] + [
    Case(
        name=f"L2 a token in a Referer that ends in {end.decode()}",
        send=(authorized(b"Referer: https://shop.example/a" + end),),
        answers=(200,),
        seen=(LISTENER,),
        check=one_line,
    )
    for end in (
        *(
            b"?b=1?token={token2}",
            b"#access_token={token2}",
            b"?TOKEN={token2}",
            b"?b;token={token2}",
        ),
        *(b"?%74oken={token2}", b"?next=%2Fa%3Ftoken%3D{token2}"),
    )
]

INJECTED = [
    Case(
        name=f"L3 {what}",
        send=(send,),
        answers=(status,),
        account=None if b"/public" in send else b"acme",
        seen=seen,
        check=one_line,
    )
    for what, send, status, seen in (
        ("%0a in the path", request(target=b"/public/a%0a%7B%22status%22%3A200%7D"), (200, 400), (b"/public/a%0a%7B%22status%22%3A200%7D",)),
        ("%0d%0a in the path", request(target=b"/nowhere%0d%0aX"), (400, 404), ()),
        ("an ANSI escape in the path", request(target=b"/nowhere%1b%5B31m"), (400, 404), ()),
        ("quotes in the path", request(target=b"/nowhere%22,%22status%22:200,%22"), 404, ()),
        ("high bytes in the user agent", authorized(b"User-Agent: \xff\xfe\xc3\xa9"), 200, (LISTENER,)),
        ("quotes in the user agent", authorized(b'User-Agent: ","status":"200'), 200, (LISTENER,)),
        ("control characters in a user's name", request(b"Authorization: Basic YQoNG1szMW06eA=="), 401, ()),
        ("a request id with quotes", authorized(b'X-Request-Id: ","code":"x'), 200, (LISTENER,)),
        ("a long path", request(target=b"/nowhere/" + b"a" * 8000), 404, ()),
    )
]  # fmt: skip

CACHED = [
    Case(
        name="L4 a token in the query makes the answer private",
        send=(request(target=LISTENER + b"?token={token}"),),
        answers=(200,),
        answer_has={"cache-control": ["private"]},
        seen=(LISTENER,),
    ),
    Case(
        name="L4 the upstream's own Cache-Control stays",
        send=(request(target=LISTENER + b"?token={token}"),),
        answers=(200,),
        answer_has={"cache-control": ["public, max-age=5"]},
        seen=(LISTENER,),
        scripts=((answer(headers=[b"cache-control: public, max-age=5"]),),),
    ),
    Case(
        name="L4 a token in a header leaves Cache-Control alone",
        send=(authorized(),),
        answers=(200,),
        answer_lacks=("cache-control",),
        seen=(LISTENER,),
    ),
    Case(
        name="L4 a token in both places makes the answer private",
        send=(authorized(target=LISTENER + b"?token={token}"),),
        answers=(200,),
        answer_has={"cache-control": ["private"]},
        seen=(LISTENER,),
    ),
]


def digests_only(seen: Observation) -> None:
    """Redis was asked for the digest of a token that it alone could know, and nothing else."""
    digest = seen.stage.key(seen.stage.fill(b"{unseen}")).removeprefix("sidecar:token:")
    assert digest.encode() in seen.store_requests
    assert seen.stage.secrets["unseen"] not in seen.store_requests


STORED = [
    Case(
        name="L5 Redis is asked for a digest",
        weight=5,
        send=(request(b"Authorization: Bearer {unseen}"),),
        answers=(401,),
        code="invalid_token",
        check=digests_only,
    ),
    Case(
        name="L5 Redis is told nothing of a password",
        weight=5,
        send=(request(b"Authorization: Basic {b64_wrong}"),),
        answers=(401,),
        code="invalid_password",
    ),
]

CASES: list[Case] = [
    *EVERYWHERE,
    *IN_PATHS,
    *IN_REQUEST_IDS,
    *REFERERS,
    *INJECTED,
    *CACHED,
    *STORED,
]
