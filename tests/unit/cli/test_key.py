"""``sidecar key generate``: a key on standard output, what to do with it beside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.cli.main import main
from sidecar.config.load import load
from sidecar.core.key_documents import load_key
from sidecar.core.keys import ALGORITHMS
from sidecar.runtime.build import own_keys

REST = """
upstreams: {listener: {url: "http://127.0.0.1:8080"}}
routes: [{path: /v1/x}]
"""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_it_prints_is_a_configuration_and_its_key(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "generate", "--algorithm", algorithm, "--id", "k1"]) == 0
    printed = capsys.readouterr()
    name = "k1.txt" if algorithm == "HS256" else "k1.pem"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / name).write_text(printed.out)
    (tmp_path / "sidecar.yaml").write_text(printed.err + REST)
    (key,) = own_keys(load(tmp_path / "sidecar.yaml", {}))
    assert (key.id, key.algorithm, key.has_private_half) == ("k1", algorithm, True)
    assert printed.out.strip() not in printed.err


def test_the_usual_key_is_for_eddsa_and_is_named_by_its_day(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["key", "generate", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["algorithm"] == "EdDSA"
    assert made["id"][0] == "k"
    assert made["id"][1:].isdigit()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_as_json_the_public_half_comes_along_unless_it_is_a_secret(
    algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "generate", "--algorithm", algorithm, "--id", "k1", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    made = json.loads(printed.out)
    key = load_key(made["id"], algorithm, made["private_key"])
    assert made["public_jwk"] == (None if key.is_secret else key.publish())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--algorithm", "none"], "not one of EdDSA"),
        (["--algorithm", "RS512"], "not one of EdDSA"),
        (["--id", "a b"], "--id takes 1 to 64"),
        (["--id", "../k1"], "--id takes 1 to 64"),
    ],
)
def test_an_impossible_key_is_not_generated(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "generate", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
