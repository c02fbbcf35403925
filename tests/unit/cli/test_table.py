"""Lists for people: whole in a pipe, and on a terminal no wider than that."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli.table import Row, print_list, print_table

ID = "0123456789abcd"
TIME = "2026-11-28T23:05:25Z"
TOKENS: list[Row] = [
    {
        "id": ID,
        "account": "acme",
        "name": "the shop's nightly export of orders",
        "kind": "access",
        "created_at": TIME,
        "expires_at": None,
        "last_used_at": TIME,
        "paths": ["/v1/dynamic/listener/a1*", "/v1/dynamic/listener/b2*"],
    },
    {
        "id": ID[::-1],
        "account": "partner-of-acme@example.com",
        "name": "short",
        "kind": "imported",
        "created_at": TIME,
        "expires_at": TIME,
        "last_used_at": None,
        "paths": [],
    },
]
BANS: list[Row] = [
    {
        "client": "2001:db8:1234:5678::/64",
        "account": None,
        "undeclared_account": "d" * 32,
        "banned_until": TIME,
        "seconds_left": 300,
    }
]
ACCOUNTS: list[Row] = [
    {
        "account": "partner-of-acme@example.com",
        "password": True,
        "paths": ["/v1/dynamic/listener/a1*", "/v1/dynamic/listener/b2*"],
        "max_token_days": 0,
        "max_tokens": 1000,
        "disabled": False,
    }
]
Show = Callable[..., list[str]]


class Screen(io.TextIOWrapper):
    """Standard output that is a terminal, or is none."""

    def __init__(self, is_terminal: bool, encoding: str) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding, write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    def run(
        rows: list[Row], columns: int, *, is_terminal: bool = True, encoding: str = "utf-8"
    ) -> list[str]:
        screen = Screen(is_terminal, encoding)
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        print_table(rows)
        return screen.raw_bytes.getvalue().decode(encoding).splitlines()

    return run


def test_a_pipe_gets_everything_whole(show: Show) -> None:
    lines = show(TOKENS, 40, is_terminal=False)
    assert len(lines) == 3
    assert "the shop's nightly export of orders" in lines[1]
    assert "/v1/dynamic/listener/a1*, /v1/dynamic/listener/b2*" in lines[1]
    assert lines[1].count(TIME) == 2


def test_a_terminal_that_is_wide_enough_gets_everything_whole(show: Show) -> None:
    assert show(TOKENS, 300) == show(TOKENS, 300, is_terminal=False)


@pytest.mark.parametrize("columns", [300, 200, 160, 120, 100, 92, 80, 60, 40, 20, 1])
@pytest.mark.parametrize("rows", [TOKENS, BANS, ACCOUNTS], ids=["tokens", "bans", "accounts"])
def test_no_row_of_a_table_is_wider_than_the_terminal_and_every_id_is_whole(
    show: Show, rows: list[Row], columns: int
) -> None:
    lines = show(rows, columns)
    is_table = len(lines) == len(rows) + 1
    assert not is_table or max(map(len, lines)) <= columns
    for row in rows:
        for key in ("id", "client", "undeclared_account"):
            assert str(row.get(key, "")) in "\n".join(lines)


def test_times_give_way_before_texts_do(show: Show) -> None:
    lines = show(TOKENS, 160)
    assert all(head in lines[0] for head in ("CREATED AT", "EXPIRES AT", "LAST USED AT", "PATHS"))
    assert "2026-11-28  -" in lines[1]
    assert "the shop's nightly export of orders" in lines[1]


def test_a_name_is_shortened_with_an_ellipsis_and_paths_before_it(show: Show) -> None:
    lines = show(TOKENS, 145)
    assert "/v1/dynamic/li\u2026" in lines[1]
    assert "the shop's nightly export of orders" in lines[1]
    narrower = show(TOKENS, 118)
    assert "the shop's n\u2026" in narrower[1]
    assert "\u2026" not in lines[2] + narrower[2]


def test_an_ellipsis_is_three_dots_where_the_terminal_has_no_other(show: Show) -> None:
    lines = show(TOKENS, 118, encoding="ascii")
    assert "/v1/dyn..." in lines[1]
    assert max(map(len, lines)) <= 118


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "caf? ??"), ("latin-1", "caf\u00e9 ??")])
def test_a_character_that_the_terminal_lacks_is_a_question_mark(
    show: Show, encoding: str, shown: str
) -> None:
    rows: list[Row] = [{"id": ID, "name": "caf\u00e9 \u6ce8\u6587"}]
    assert show(rows, 80, encoding=encoding)[1] == f"{ID}  {shown}"


def test_an_empty_column_gives_way_first(show: Show) -> None:
    rows = [{**row, "paths": [], "last_used_at": None} for row in TOKENS]
    lines = show(rows, 140)
    assert "LAST USED AT" not in lines[0]
    assert lines[1].count(TIME) == 1


def test_a_terminal_too_narrow_for_a_table_gets_a_line_for_each_value(show: Show) -> None:
    lines = show(TOKENS, 60)
    assert lines[:3] == [
        f"ID            {ID}",
        "ACCOUNT       acme",
        "NAME          the shop's nightly export of orders",
    ]
    assert lines[8] == ""
    assert len(lines) == 17


def test_wide_characters_take_two_columns(show: Show) -> None:
    rows = [{"id": ID, "name": "\u6ce8\u6587" * 10}, {"id": ID, "name": "e\u0301" * 30}]
    lines = show(rows, 40)
    assert lines[1].endswith("\u6ce8\u2026")
    assert len(lines[1]) == 16 + 12
    assert lines[2].endswith("e\u0301\u2026")


@given(st.text(), st.integers(1, 400))
def test_any_name_fits_or_is_shown_on_a_line_of_its_own(name: str, columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        screen = Screen(True, "utf-8")
        patch.setattr(sys, "stdout", screen)
        patch.setenv("COLUMNS", str(columns))
        print_table([{"id": ID, "name": name}])
        assert ID in screen.raw_bytes.getvalue().decode()


@pytest.mark.parametrize(
    ("as_json", "shown"),
    [(False, ("", "nobody is banned\n")), (True, ("[]\n", ""))],
)
def test_an_empty_list_says_so_on_standard_error_but_not_to_a_program(
    capsys: pytest.CaptureFixture[str], as_json: bool, shown: tuple[str, str]
) -> None:
    print_list([], argparse.Namespace(json=as_json), "nobody is banned")
    assert capsys.readouterr() == shown


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_only_the_names_of_columns_are_emphasised_and_the_widths_stay(
    show: Show, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = show(TOKENS, columns)
    monkeypatch.setattr("sidecar.cli.color.has_color", lambda stream: True)
    bold = show(TOKENS, columns)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in bold] == plain
    emphasised = [line for line in bold if "\x1b" in line]
    is_table = len(plain) == len(TOKENS) + 1
    assert emphasised == bold[:1] if is_table else len(emphasised) == len([*filter(None, plain)])
