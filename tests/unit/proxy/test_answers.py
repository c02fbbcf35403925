"""What a caller that is refused is told: one status and one code, whole responses, quoted right."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import pytest

from sidecar.core import errors
from sidecar.core.model import ALL_FORMS, Denial, Form
from sidecar.core.problems import PROBLEM_TYPES, PROXY_CODES, denial_for, problem_document
from sidecar.proxy import answers
from sidecar.proxy.answers import Challenges, render

DENIAL = Denial("invalid_token", "The token is unknown.")


def parse(response: bytes) -> tuple[str, dict[str, list[str]], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    fields: dict[str, list[str]] = {}
    for name, value in (line.split(": ", 1) for line in lines):
        fields.setdefault(name.lower(), []).append(value)
    return start, fields, body


@pytest.mark.parametrize("code", PROXY_CODES)
def test_every_code_makes_a_whole_response(code: str) -> None:
    row = PROBLEM_TYPES[code]
    start, fields, body = parse(render(Denial(code, "Why."), "r1", challenge=b"X-Challenge: y\r\n"))
    assert start == f"HTTP/1.1 {row.status} {HTTPStatus(row.status).phrase}"
    assert fields["content-length"] == [str(len(body))]
    assert fields["content-type"] == ["application/problem+json"]
    assert fields["cache-control"] == ["no-store"]
    assert fields["x-request-id"] == ["r1"]
    assert json.loads(body) == {
        "title": row.title,
        "status": row.status,
        "code": code,
        "detail": "Why.",
        "request_id": "r1",
    }
    assert ("x-challenge" in fields) == (row.status == 401)
    assert ("retry-after" in fields) == (row.status in (429, 503))
    assert ("allow" in fields) == (row.status == 405)


def test_the_date_is_now_as_http_writes_it() -> None:
    _, fields, _ = parse(render(DENIAL, "r1"))
    assert parsedate_to_datetime(fields["date"][0]).tzname() == "UTC"


@pytest.mark.parametrize(
    ("closes", "keeps_alive_1_0", "said"),
    [(True, False, ["close"]), (False, True, ["keep-alive"]), (False, False, None)],
)
def test_what_becomes_of_the_connection_is_said(
    closes: bool, keeps_alive_1_0: bool, said: list[str] | None
) -> None:
    _, fields, _ = parse(render(DENIAL, "r1", closes=closes, keeps_alive_1_0=keeps_alive_1_0))
    assert fields.get("connection") == said


def test_an_answer_to_head_tells_the_length_and_has_no_body() -> None:
    whole, bare = render(DENIAL, "r1"), render(DENIAL, "r1", is_head_request=True)
    assert parse(bare)[2] == b""
    assert parse(bare)[1]["content-length"] == parse(whole)[1]["content-length"]


def test_retry_after_is_the_denials_own_where_it_has_one() -> None:
    denial = Denial("overloaded", "Later.", retry_after_seconds=7)
    assert parse(render(denial, "r1"))[1]["retry-after"] == ["7"]


def test_the_methods_allowed_are_listed() -> None:
    denial = Denial("method_not_allowed", "No.", allow=("GET", "POST"))
    assert parse(render(denial, "r1"))[1]["allow"] == ["GET, POST"]


def all_faults(kind: type[errors.Fault]) -> list[type[errors.Fault]]:
    kinds = [kind] if "code" in vars(kind) else []
    return kinds + [found for sub in kind.__subclasses__() for found in all_faults(sub)]


@pytest.mark.parametrize("kind", all_faults(errors.Fault))
def test_every_fault_has_an_answer_that_keeps_its_message_to_the_log(
    kind: type[errors.Fault],
) -> None:
    fault = kind("redis://:hunter2@h is away")
    denial = denial_for(fault.code)
    assert PROBLEM_TYPES[denial.code].status >= 500
    assert "hunter2" not in problem_document(denial, "r1").decode()


@pytest.mark.parametrize(
    ("forms", "lines"),
    [
        ({Form.BEARER}, ['Bearer realm="listener"']),
        ({Form.HEADER}, ['Bearer realm="listener"']),
        ({Form.QUERY}, ['Bearer realm="listener"']),
        ({Form.BASIC}, ['Basic realm="listener", charset="UTF-8"']),
        (ALL_FORMS, ['Bearer realm="listener"', 'Basic realm="listener", charset="UTF-8"']),
        (set(), []),
    ],
)
def test_each_scheme_that_a_route_accepts_has_its_challenge(
    forms: set[Form], lines: list[str]
) -> None:
    fields = Challenges("listener").fields(Denial("missing_credentials", "None."), frozenset(forms))
    assert fields.decode() == "".join(f"WWW-Authenticate: {line}\r\n" for line in lines)


@pytest.mark.parametrize(
    ("code", "has_error"),
    [
        ("invalid_token", True),
        ("malformed_credentials", True),
        ("missing_credentials", False),
        ("invalid_password", False),
    ],
)
def test_only_a_bad_token_is_called_one(code: str, has_error: bool) -> None:
    """RFC 6750 section 3: no error code where no token was sent."""
    fields = Challenges("r").fields(Denial(code, "Why."), ALL_FORMS).decode()
    error = 'Bearer realm="r", error="invalid_token", error_description="Why."'
    assert (error in fields) == has_error
    assert ("error" in fields) == has_error


@pytest.mark.parametrize(
    ("realm", "quoted"),
    [('a "b"', '"a \\"b\\""'), ("a\\b", '"a\\\\b"'), ("plain", '"plain"')],
)
def test_a_realm_is_quoted_as_http_has_it(realm: str, quoted: str) -> None:
    fields = Challenges(realm).fields(Denial("missing_credentials", "."), frozenset({Form.BASIC}))
    assert f"realm={quoted}, charset".encode() in fields


def test_a_description_holds_only_what_it_may() -> None:
    denial = Denial("invalid_token", 'a"b\\c\r\nX-Evil: é')
    fields = Challenges("r").fields(denial, frozenset({Form.BEARER}))
    assert b'error_description="abcX-Evil: "\r\n' in fields
    assert fields.count(b"\r\n") == 1


def test_each_denial_has_its_own_answer_however_many_there_were() -> None:
    """They are kept in a bounded memory, by all that they are made of."""
    challenges = Challenges("r")
    for number in [*range(1500), *range(1500)]:
        denial = Denial("too_many_failures", f"Why {number % 7}.", number + 1)
        _, fields, body = parse(render(denial, "r1"))
        assert fields["retry-after"] == [str(number + 1)]
        assert json.loads(body)["detail"] == denial.detail
        error = challenges.fields(Denial("invalid_token", f"Why {number}."), ALL_FORMS)
        assert f'"Why {number}."'.encode() in error
    assert len(answers._frames) <= 1024
    assert len(challenges._cached) <= 1024


def test_equal_denials_are_answered_alike_and_others_are_not() -> None:
    one, same = (Denial("not_allowed", "Why.", allow=("GET",)) for _ in range(2))
    other = Denial("not_allowed", "Why.", allow=("PUT",))
    assert (one, hash(one)) == (same, hash(same))
    assert one != other
