"""What an identity says to an upstream."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.model import Form, TokenKind, TokenRecord
from sidecar.core.policy import Principal
from sidecar.core.request_heads import IdentityLines

RECORD = TokenRecord("t1", "acme", "naïve 100%", TokenKind.ACCESS, "0" * 64, 0.0, None)
BY_TOKEN = Principal("acme", Form.BEARER, RECORD)
BY_PASSWORD = Principal("acme", Form.BASIC, None)


@pytest.mark.parametrize(
    ("headers", "principal", "lines"),
    [
        ({"X-Account": "account"}, BY_TOKEN, b"X-Account: acme\r\n"),
        ({"X-Account": "account"}, BY_PASSWORD, b"X-Account: acme\r\n"),
        ({"X-How": "method"}, BY_TOKEN, b"X-How: bearer\r\n"),
        ({"X-How": "method"}, BY_PASSWORD, b"X-How: basic\r\n"),
        ({"X-Id": "token_id"}, BY_TOKEN, b"X-Id: t1\r\n"),
        ({"X-Id": "token_id"}, BY_PASSWORD, b""),
        ({"X-Name": "token_name"}, BY_TOKEN, b"X-Name: na%C3%AFve 100%25\r\n"),
        ({"X-Name": "token_name"}, BY_PASSWORD, b""),
        ({"X-B": "account", "X-A": "token_id"}, BY_TOKEN, b"X-B: acme\r\nX-A: t1\r\n"),
        ({}, BY_TOKEN, b""),
    ],
)
def test_an_identity_says_what_is_configured_and_leaves_out_what_there_is_none_of(
    headers: dict[str, str], principal: Principal, lines: bytes
) -> None:
    identity = IdentityLines(headers)
    assert [identity.lines(principal), identity.lines(principal)] == [lines, lines]


def test_one_callers_identity_is_never_anothers() -> None:
    identity = IdentityLines({"X-Account": "account", "X-How": "method", "X-Id": "token_id"})
    seen = {
        identity.lines(Principal(account, form, record))
        for account in ("acme", "other")
        for form in (Form.BEARER, Form.QUERY)
        for record in (RECORD, None)
    }
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"name": "issuer-a"}, {"name": "issuer-b"}, id="the name of the token"),
        pytest.param({"id": "jti-1"}, {"id": "jti-2"}, id="the id of the token"),
        pytest.param({"form": Form.BEARER}, {"form": Form.QUERY}, id="the form"),
        pytest.param({"account": "acme"}, {"account": "other"}, id="the account"),
    ],
)
def test_callers_who_differ_in_anything_that_is_told_are_told_apart(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    headers = {"X-A": "account", "X-M": "method", "X-I": "token_id", "X-N": "token_name"}
    remembers, knows_nobody = IdentityLines(headers), IdentityLines(headers)
    remembers.lines(make_caller(**first))
    assert remembers.lines(make_caller(**second)) == knows_nobody.lines(make_caller(**second))


def make_caller(
    *, account: str = "acme", form: Form = Form.BEARER, id: str = "jti-1", name: str = "issuer-a"
) -> Principal:
    return Principal(account, form, RECORD.replace(account=account, id=id, name=name))


@pytest.mark.parametrize("account", ["a\r\nX-Admin: 1", "a\0", "é", "", " ", "a\x7f"])
def test_a_name_that_cannot_stand_in_a_header_makes_none(account: str) -> None:
    identity = IdentityLines({"X-Account": "account"})
    for _ in range(2):
        with pytest.raises(ValueError, match="X-Account"):
            identity.lines(Principal(account, Form.BEARER, RECORD))


def test_what_is_remembered_of_callers_is_bounded() -> None:
    identity = IdentityLines({"X-Account": "account"}, most=10)
    for number in range(100):
        account = f"a{number}"
        lines = identity.lines(Principal(account, Form.BEARER, None))
        assert lines == f"X-Account: {account}\r\n".encode()
    assert len(identity._known) <= 10
