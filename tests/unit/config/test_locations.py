"""Where a key of a valid file stands, in the words of the messages about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.locations import Locations, Step, path_of

TEXT = """\ufeffupstreams:
  a: {url: "http://${HOST}:1"}
routes:
  - path: /a
    accounts:
      - acme
  - {path: /b, methods: [GET]}
accounts:
  acme:
    paths: [/a]
limits: {}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "sidecar.yaml"
    file.write_text(TEXT)
    return file


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (("routes",), ":3, routes"),
        (("routes", 0), ":4, routes[0]"),
        (("routes", 0, "accounts"), ":5, routes[0].accounts"),
        (("routes", 0, "accounts", 0), ":6, routes[0].accounts[0]"),
        (("routes", 1, "methods"), ":7, routes[1].methods"),
        (("accounts", "acme", "paths"), ":10, accounts.acme.paths"),
        (("routes", 1, "accounts"), ":7, routes[1].accounts (left out: the default)"),
        (("limits", "headers"), ":11, limits.headers (left out: the default)"),
        (("store", "url"), ", store.url (left out: the default)"),
        (("routes", 9, "path"), ":3, routes[9].path (left out: the default)"),
    ],
)
def test_a_key_is_told_with_its_line_or_that_of_its_section(
    file: Path, steps: tuple[Step, ...], told: str
) -> None:
    assert Locations(file).describe(*steps) == f"{file}{told}"


@pytest.mark.parametrize("text", [None, "", "a: [", "- a", "\ufffe"])
def test_a_file_that_cannot_be_read_any_more_has_no_lines(file: Path, text: str | None) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert Locations(file).find("routes") is None
    assert Locations(file).describe("routes") == f"{file}, routes"


def test_the_path_of_a_key_is_written_as_in_messages() -> None:
    assert path_of("routes", 1, "accounts", 0) == "routes[1].accounts[0]"
    assert path_of("accounts", "a.b", "paths") == "accounts.a.b.paths"
