"""The name of an account: one rule, held by every place that reads or writes one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import TypeAdapter, ValidationError

from sidecar.config.error_messages import key_path
from sidecar.config.values import AccountName
from sidecar.core.account_claims import AccountClaim
from sidecar.core.account_names import is_account_name
from sidecar.core.errors import UsageError
from sidecar.core.jws import JwtRefused
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.store.record import decode, encode

NAMES = [
    *("a", "acme", "ACME", "a.b", "a_b", "a-b", "0", "@", "+", "x" * 64, "x" * 65, "x" * 128),
    *("jane@example.com", "jane+orders@example.com", "Jane.Doe+a-b_c@mail.example.co.uk"),
    *("+49", "a+b+c", "@partners", "-"),
]
NO_NAMES = [
    *("", "x" * 129, "a:b", "a b", " a", "a\n", "a\0", "a/b", "a,b", "a;b", "a=b", "a%40b", "a'b"),
    *("jané@example.com", "a{b}", "a*", "a$", 'a"b', "a\\b", "a\tb", "a\r\nX-Account: b"),
]


def is_in_the_configuration(name: str) -> bool:
    try:
        TypeAdapter(AccountName).validate_python(name)
    except ValidationError:
        return False
    return True


def is_in_a_record(name: str) -> bool:
    record = TokenRecord("k3j9x2qpvm0abc", name, "n", TokenKind.ACCESS, "0" * 64, 1.0, None)
    try:
        return decode(record.digest, encode(record)) == record
    except UsageError:
        return False


def is_in_a_claim(name: str) -> bool:
    try:
        return AccountClaim().read({"sub": name}) == name
    except JwtRefused:
        return False


PLACES: list[Callable[[str], bool]] = [
    lambda name: is_account_name(name) is not None,
    is_in_the_configuration,
    is_in_a_record,
    is_in_a_claim,
    lambda name: key_path(["accounts", name]) == f"accounts.{name}",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_wherever_names_are_read(name: str) -> None:
    assert [place(name) for place in PLACES] == [True] * len(PLACES)


@pytest.mark.parametrize("name", NO_NAMES)
def test_anything_else_is_a_name_nowhere(name: str) -> None:
    assert [place(name) for place in PLACES] == [False] * len(PLACES)
