"""How the command shows times and tables."""

from __future__ import annotations

import pytest

from sidecar.cli.table import print_table
from sidecar.cli.token_output import as_object
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.core.times import optional_rfc3339


@pytest.mark.parametrize(
    ("at", "shown"),
    [(None, None), (0, "1970-01-01T00:00:00Z"), (1763920000.9, "2025-11-23T17:46:40Z")],
)
def test_times_are_rfc_3339_in_utc(at: float | None, shown: str | None) -> None:
    assert optional_rfc3339(at) == shown


def test_a_token_is_shown_with_the_promised_keys_and_without_its_digest() -> None:
    record = TokenRecord("id1", "acme", "shop", TokenKind.ACCESS, "d" * 64, 0.0, None, ("/a/**",))
    assert as_object(record, LastUse(60.0, "127.0.0.1")) == {
        "id": "id1",
        "account": "acme",
        "name": "shop",
        "kind": "access",
        "created_at": "1970-01-01T00:00:00Z",
        "expires_at": None,
        "last_used_at": "1970-01-01T00:01:00Z",
        "paths": ["/a/**"],
    }


def test_a_table_has_columns_under_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        [
            {"name": "a", "last_used_at": None, "paths": [], "disabled": False},
            {"name": "longer", "last_used_at": "now", "paths": ["/x", "/y"], "disabled": True},
        ]
    )
    assert capsys.readouterr().out == (
        "NAME    LAST USED AT  PATHS   DISABLED\n"
        "a       -             -       no\n"
        "longer  now           /x, /y  yes\n"
    )


def test_an_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([])
    assert capsys.readouterr().out == ""


def test_a_name_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"name": "\x1b[2Jgone\r\n"}])
    assert capsys.readouterr().out == "NAME\n?[2Jgone??\n"
