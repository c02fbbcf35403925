"""Weak hashes are named, of accounts in the file and in files of their own, and not refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.load import load
from sidecar.config.warnings import ConfigurationWarning
from tests.unit.core.test_password_schemes import HASHES, STRONG

START = """\
upstreams: {listener: {url: "http://127.0.0.1:8080"}}
routes: [{path: "/v1/{id}", accounts: ["@partners", two]}]
"""


def warnings_in(directory: Path, text: str) -> list[str]:
    found: list[ConfigurationWarning] = []
    (directory / "sidecar.yaml").write_text(START + text, encoding="utf-8")
    load(directory / "sidecar.yaml", {}, warn=found.append)
    return [f"{one.line}:{one.column}: {one.text}" for one in found]


def account(password_hash: str) -> str:
    return (
        f"accounts:\n  one: {{groups: [partners]}}\n  two:\n    password_hash: '{password_hash}'\n"
    )


@pytest.mark.parametrize("password_hash", HASHES.values(), ids=HASHES.keys())
def test_a_weak_hash_is_named_with_its_line(tmp_path: Path, password_hash: str) -> None:
    (warning,) = warnings_in(tmp_path, account(password_hash))
    assert warning.startswith("6:5: accounts.two.password_hash: this hash ")
    assert password_hash not in warning


@pytest.mark.parametrize("password_hash", STRONG)
def test_a_hash_as_advised_is_not(tmp_path: Path, password_hash: str) -> None:
    assert warnings_in(tmp_path, account(password_hash)) == []


def test_a_hash_may_be_weak_on_purpose(tmp_path: Path) -> None:
    text = account(HASHES["Laravel, bcrypt"]).rstrip("\n") + "  # deliberate: moved\n"
    assert warnings_in(tmp_path, text) == []


def test_weak_hashes_of_files_are_named_together(tmp_path: Path) -> None:
    weak = HASHES["Apache's htpasswd, bcrypt"]
    (tmp_path / "users").write_text("".join(f"u{number}:{weak}\n" for number in range(12)))
    text = "accounts: {one: {groups: [partners]}, two: {}}\naccounts_from: [users]\n"
    (warning,) = warnings_in(tmp_path, text)
    assert warning.startswith("4:1: accounts_from: the hashes of u0, u1, u2")
    assert "u9 and 2 more are weaker" in warning


def test_an_account_that_a_group_lets_in_is_let_in(tmp_path: Path) -> None:
    text = (
        "accounts: {one: {groups: [partners], paths: [/v1/a]}, two: {}, three: {groups: [other]}}\n"
    )
    (warning,) = warnings_in(tmp_path, text)
    assert "accounts.three: no route lets this account in" in warning
