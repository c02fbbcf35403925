"""``--config`` and ``--json`` go anywhere, and a mistyped word is told what it was meant to be."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from sidecar.cli.arguments import command_of
from sidecar.cli.main import main
from tests.command_line import run_command

GOOD = "upstreams: {a: {url: 'http://a:1'}}\nroutes: [{path: /x}]\naccounts: {acme: {}}\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "good.yaml").write_text(GOOD)
    return str(tmp_path / "good.yaml")


@pytest.mark.parametrize(
    "line",
    [
        "--config GOOD account list",
        "--config=GOOD account list",
        "account --config GOOD list",
        "account list --config GOOD",
        "--config /nowhere account list --config GOOD",
        "--config /nowhere account --config GOOD list",
    ],
)
def test_the_configuration_may_be_named_before_or_after_the_command(config: str, line: str) -> None:
    done = run_command(*line.replace("GOOD", config).split())
    assert done.returncode == 0
    assert "acme" in done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "--json --config GOOD account list",
        "account --json list --config GOOD",
        "--config GOOD account list --json",
        "--config GOOD --json check",
    ],
)
def test_json_may_be_asked_for_before_or_after_the_command(config: str, line: str) -> None:
    done = run_command(*line.replace("GOOD", config).split())
    assert done.returncode == 0
    assert json.loads(done.stdout)


@pytest.mark.parametrize("line", ["--json schema", "--json run", "--json healthcheck --config x"])
def test_json_of_a_command_that_prints_none_is_wrong_usage(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(*line.split())
    assert ended.value.code == 2


def test_the_name_of_a_file_is_not_taken_for_a_command(tmp_path: Path) -> None:
    (tmp_path / "run").write_text(GOOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert run_command("--config", "run", "--json", "check").returncode == 0


def test_a_configuration_before_a_command_without_one_is_no_mistake() -> None:
    assert run_command("--config", "/nowhere", "schema").returncode == 0


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("chekc", "did you mean check?"),
        ("tokens list", "did you mean token?"),
        ("token lst", "did you mean list?"),
        ("helthcheck", "did you mean healthcheck?"),
        ("check sidecar.yaml", "did you mean --config FILE?"),
        ("run /etc/sidecar/sidecar.yml", "did you mean --config FILE?"),
        ("xyzzy", ""),
    ],
)
def test_a_mistyped_word_is_told_what_it_was_meant_to_be(line: str, hint: str) -> None:
    told = StringIO()
    with redirect_stderr(told), pytest.raises(SystemExit):
        main(line.split())
    assert hint in told.getvalue()
    assert ("did you mean" in told.getvalue()) == bool(hint)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("run", "run"),
        ("--config x run", "run"),
        ("--config=x --json run", "run"),
        ("--config run", None),
        ("", None),
    ],
)
def test_the_command_is_the_first_word_that_is_no_option(line: str, command: str | None) -> None:
    assert command_of(line.split()) == command
