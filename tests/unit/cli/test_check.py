"""``sidecar check`` prints warnings with their place, and fails for them if that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import run_command

GOOD = "upstreams: {a: {url: 'http://a:1'}}\nroutes: [{path: /x}]\n"
ODD = GOOD + "operations: {address: '0.0.0.0:2022'}\n"
FAULTY = GOOD + "operation: {}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "sidecar.yaml"


def test_a_warning_is_printed_with_its_line_and_fails_nothing(config: Path) -> None:
    config.write_text(ODD)
    done = run_command("check", config=config)
    assert done.returncode == 0
    assert done.stdout == f"{config}: ok: 1 route, 1 upstream, 0 accounts, 1 warning\n"
    told, line, caret = done.stderr.splitlines()
    assert told.startswith(f"{config}:3:23: warning: operations.address: this is every address of")
    assert line[caret.index("^") :] == "'0.0.0.0:2022'"


def test_strict_makes_warnings_mistakes(config: Path) -> None:
    config.write_text(ODD)
    done = run_command("check", "--strict", config=config)
    assert done.returncode == 2
    assert ": not ok (--strict): 1 route, " in done.stdout
    config.write_text(GOOD)
    done = run_command("check", "--strict", config=config)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "status", "problems", "warnings"),
    [
        (GOOD, 0, [], []),
        (ODD, 0, [], [{"line": 3, "column": 23}]),
        (FAULTY, 2, [{"line": 3, "column": 1}], []),
    ],
)
def test_as_json_each_has_its_place(
    config: Path,
    text: str,
    status: int,
    problems: list[dict[str, int]],
    warnings: list[dict[str, int]],
) -> None:
    config.write_text(text)
    done = run_command("check", "--json", config=config)
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (status, "")
    assert (found["file"], found["connections"]) == (str(config), [])
    for kind, expected in (("problems", problems), ("warnings", warnings)):
        texts = [one.pop("text") for one in found[kind]]
        assert found[kind] == expected
        assert all(texts)
