"""The rules of a token's fields: what is taken as it is, and what each message says to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.core.errors import UsageError
from sidecar.core.model import TokenKind
from sidecar.core.policy import Account
from sidecar.core.token_rules import (
    MAX_DAYS,
    InvalidField,
    check_account,
    check_days,
    check_kind,
    check_name,
    check_overlap,
    check_paths,
    check_renewable,
    check_room,
    parse_days,
)

BRIEF = Account("brief", max_token_days=30)
FAR = Account("far", max_token_days=10**6)
ACCOUNTS = {"brief": BRIEF, "off": Account("off", disabled=True)}
DAYS = "enter a whole number of days from 0 to 36500; 0 means that the token never expires"

TAKEN: list[tuple[Callable[[], object], object]] = [
    (lambda: check_name("  Shop  "), "Shop"),
    (lambda: check_name("n" * 100), "n" * 100),
    (lambda: check_days(0), 0),
    (lambda: check_days(MAX_DAYS, FAR), MAX_DAYS),
    (lambda: check_days(30, BRIEF), 30),
    (lambda: parse_days("030"), 30),
    (lambda: parse_days("99999"), 99999),
    (lambda: check_kind("jwt", can_issue_jwt=True), TokenKind.JWT),
    (lambda: check_kind("access", can_issue_jwt=False), TokenKind.ACCESS),
    (lambda: check_paths(["/a"] * 64), ("/a",) * 64),
    (lambda: check_overlap(30 * 86400), 30 * 86400),
    (lambda: check_account("brief", ACCOUNTS), BRIEF),
]


@pytest.mark.parametrize(("check", "value"), TAKEN)
def test_what_keeps_the_rule_is_returned(check: Callable[[], object], value: object) -> None:
    assert check() == value


REFUSED: list[tuple[Callable[[], object], str, str]] = [
    (lambda: check_name(None), "name", "give the token a name, so that you can recognise it later"),
    (lambda: check_name("n" * 101), "name", "shorten the name to 100 characters"),
    (lambda: check_name("a\n"), "name", "remove control and invisible characters from the name"),
    (lambda: check_days(MAX_DAYS + 1), "days", DAYS),
    (lambda: check_days(True), "days", DAYS),
    (lambda: parse_days("soon"), "days", DAYS),
    (lambda: parse_days("٣"), "days", DAYS),
    (
        lambda: check_days(0, BRIEF),
        "days",
        "enter a whole number of days from 1 to 30: no token of account brief may live longer",
    ),
    (
        lambda: check_days(MAX_DAYS + 1, FAR),
        "days",
        "enter a whole number of days from 1 to 36500: no token of account far may live longer",
    ),
    (
        lambda: check_renewable(None, BRIEF),
        "days",
        "create a new token instead: tokens of account brief may live at most 30 days, and this "
        "one was made to live longer",
    ),
    (
        lambda: check_kind("imported", can_issue_jwt=True),
        "kind",
        "choose an access token or a JWT",
    ),
    (
        lambda: check_kind("jwt", can_issue_jwt=False),
        "kind",
        "choose an access token, or have a key added that signs JWTs: `sidecar key generate` makes "
        "one for jwt.keys",
    ),
    (lambda: check_paths("/a"), "paths", "give the paths as a list of texts"),
    (lambda: check_paths(["/a"] * 65), "paths", "give at most 64 paths"),
    (
        lambda: check_paths(["/" + "a" * 2045]),
        "paths",
        "shorten the paths: together they may have at most 2048 bytes",
    ),
    (
        lambda: check_overlap(float("nan")),
        "overlap",
        "choose an overlap from 0s to 30d, such as 1h",
    ),
    (
        lambda: check_account("brie", ACCOUNTS),
        "account",
        "the configuration declares no account 'brie' (did you mean brief?)",
    ),
    (
        lambda: check_account("off", ACCOUNTS),
        "account",
        "account off is disabled: enable it in the configuration first",
    ),
]


@pytest.mark.parametrize(("check", "field", "message"), REFUSED)
def test_what_breaks_a_rule_is_refused_with_the_field_and_what_to_do(
    check: Callable[[], object], field: str, message: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        check()
    assert (caught.value.field, str(caught.value)) == (field, message)


@pytest.mark.parametrize(("current", "live"), [(3, 3), (2, 6)])
def test_a_full_account_is_told_to_revoke(current: int, live: int) -> None:
    few = Account("few", max_tokens=3)
    check_room(few, 2, 5)
    check_room(Account("many"), 10**6, 10**6)
    with pytest.raises(UsageError, match="revoke one that is no longer needed"):
        check_room(few, current, live)
