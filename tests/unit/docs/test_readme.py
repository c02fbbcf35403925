"""What the README shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.config.load import load
from sidecar.core.passwords import hash_password

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks_of(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_configuration_has_ten_lines_and_is_valid(tmp_path: Path) -> None:
    (text,) = blocks_of("yaml")
    assert len(text.splitlines()) <= 10
    file = tmp_path / "sidecar.yaml"
    file.write_text(re.sub(r"\$argon2id\S+", hash_password("secret"), text))
    settings = load(file, {})
    assert settings.routes[0].upstream == "listener"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)\b", README)) - {"are"}))
def test_every_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_every_spelling_of_a_credential_is_in_the_table() -> None:
    for spelling in (
        "Authorization: Bearer <token>",
        "access_token: <token>",
        "jwt_token: <token>",
        "?access_token=<token>",
        "?token=<token>",
        "?jwt_token=<token>",
        "Authorization: Basic base64(account:password)",
    ):
        assert f"`{spelling}`" in README
