"""Policy: each rule denies by itself, and in the documented order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.core.model import ALL_FORMS, TokenKind, TokenRecord
from sidecar.core.path_index import PathList
from sidecar.core.patterns import compile_pattern
from sidecar.core.policy import Account, judge
from sidecar.core.routes import Route

ROUTE = Route(compile_pattern("/**"), None, "listener", ALL_FORMS, None, False, "all")
ACME = Account("acme")
RECORD = TokenRecord("id", "acme", "shop", TokenKind.ACCESS, "0" * 64, 0.0, None)


def account(*paths: str, disabled: bool = False) -> Account:
    return Account("acme", paths=PathList(map(compile_pattern, paths)), disabled=disabled)


def code_of(
    account: Account | None,
    *token_paths: str,
    accounts: frozenset[str] | None = None,
    path: str = "/l/a1",
) -> str | None:
    denial = judge(
        replace(ROUTE, accounts=accounts), account, RECORD.replace(paths=token_paths), path
    )
    return denial.code if denial else None


def test_a_declared_account_passes_where_nothing_limits_it() -> None:
    assert code_of(ACME) is None
    assert judge(ROUTE, ACME, None, "/") is None


def test_a_token_of_an_undeclared_account_is_not_valid() -> None:
    assert code_of(None) == "invalid_token"


def test_a_disabled_account_is_refused_before_all_else() -> None:
    assert code_of(account("/x", disabled=True), accounts=frozenset()) == "account_disabled"


@pytest.mark.parametrize(
    ("accounts", "code"),
    [
        (None, None),
        (frozenset({"acme", "other"}), None),
        (frozenset({"other"}), "not_allowed"),
        (frozenset({"ACME"}), "not_allowed"),
        (frozenset(), "not_allowed"),
    ],
)
def test_only_accounts_on_the_routes_list_pass(
    accounts: frozenset[str] | None, code: str | None
) -> None:
    assert code_of(ACME, accounts=accounts) == code


@pytest.mark.parametrize(
    ("account_paths", "token_paths", "code"),
    [
        (["/l/{id}"], [], None),
        (["/x", "/l/a*"], [], None),
        (["/x"], [], "not_allowed"),
        ([], ["/l/a1"], None),
        ([], ["/x", "/l/**"], None),
        ([], ["/x"], "not_allowed"),
        (["/l/**"], ["/l/a*"], None),
        (["/l/b*"], ["/l/**"], "not_allowed"),
        (["/l/**"], ["/l/b*"], "not_allowed"),
    ],
)
def test_the_path_must_be_among_the_accounts_and_the_tokens(
    account_paths: list[str], token_paths: list[str], code: str | None
) -> None:
    assert code_of(account(*account_paths), *token_paths) == code


@pytest.mark.parametrize(
    ("account_paths", "token_paths", "code"),
    [
        ([], [], None),
        (["/l/**"], ["/**"], None),
        (["/l//a1"], [], "unsafe_path"),
        (["/l/a1"], [], "unsafe_path"),
        (["/x"], [], "not_allowed"),
        ([], ["/l//a1"], "unsafe_path"),
        ([], ["/l/a1"], "unsafe_path"),
        ([], ["/x"], "not_allowed"),
        (["/l/**"], ["/l/a1"], "unsafe_path"),
        (["/l/a1", "/l//{x}"], [], None),
        ([], ["bad"], "not_allowed"),
    ],
)
def test_a_path_that_can_be_read_as_another_must_be_of_the_same_rules(
    account_paths: list[str], token_paths: list[str], code: str | None
) -> None:
    denial = judge(
        ROUTE, account(*account_paths), RECORD.replace(paths=(*token_paths,)), "/l//a1", ("/l/a1",)
    )
    assert (denial.code if denial else None) == code


def test_an_account_that_is_refused_anyway_gets_that_reason_on_any_path() -> None:
    for refused, code in ((None, "invalid_token"), (account(disabled=True), "account_disabled")):
        denial = judge(ROUTE, refused, RECORD, "/a;x", ("/a",))
        assert denial is not None
        assert denial.code == code


@pytest.mark.parametrize("paths", [("",), ("x",), ("/**/x",), ("/l/**", "bad")])
def test_a_record_with_a_pattern_that_cannot_be_read_authorizes_nothing(
    paths: tuple[str, ...],
) -> None:
    assert code_of(ACME, *paths) == "not_allowed"


def test_the_reasons_tell_account_and_token_apart() -> None:
    by_account = judge(ROUTE, account("/x"), RECORD, "/l")
    by_token = judge(ROUTE, ACME, RECORD.replace(paths=("/x",)), "/l")
    assert by_account is not None
    assert by_token is not None
    assert "account" in by_account.detail
    assert "token" in by_token.detail


def test_the_hash_of_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Account("acme", password_hash="secret"))
