"""What the pages on JWTs and assertions show is valid, and is what the examples hold."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from sidecar.cli.main import build_parser
from sidecar.config.load import load
from sidecar.core.keys import generate_key
from tests.proxy_process import ROOT

JWT = "reference/jwt.md"
ASSERTION = "how-to/check-the-signed-assertion.md"
PAGES = {name: (ROOT / "docs" / name).read_text("utf-8") for name in (JWT, ASSERTION)}
REST = {
    "upstreams": {"listener": {"url": "http://127.0.0.1:8080"}},
    "routes": [{"path": "/v1/x"}],
}


def blocks_of(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.M | re.S)


YAML = [(page, block) for page in PAGES for block in blocks_of(page, "yaml")]


@pytest.mark.parametrize("block", [block for _, block in YAML], ids=[page for page, _ in YAML])
def test_every_configuration_shown_is_valid(block: str, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "k1.pem").write_text(generate_key("EdDSA"))
    file = tmp_path / "sidecar.yaml"
    file.write_text(yaml.safe_dump(REST) + block)
    load(file, {})


@pytest.mark.parametrize("line", re.findall(r"^sidecar (.+?)(?: > .*)?$", PAGES[JWT], re.M))
def test_every_command_shown_is_one(line: str) -> None:
    assert build_parser().parse_args(shlex.split(line, comments=True)).run


@pytest.mark.parametrize(("language", "file"), [("python", "upstream.py"), ("js", "upstream.mjs")])
def test_what_is_quoted_stands_in_the_example(language: str, file: str) -> None:
    (quoted,) = blocks_of(ASSERTION, language)
    assert quoted in (ROOT / "examples" / "assertion" / file).read_text("utf-8")
