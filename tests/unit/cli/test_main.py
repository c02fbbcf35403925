"""Exit statuses of the command, and error messages that never hold a secret."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from sidecar.cli import main as front
from sidecar.core.errors import ConfigurationError, StoreUnavailable, UsageError
from sidecar.program import describe_program

SECRET = "sct_" + "s3cr3t" * 10


def fail_with(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_: argparse.Namespace) -> int:
        raise error

    return run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run ``sidecar schema`` with a failure in it; return the exit status."""

    def run(error: BaseException) -> int:
        monkeypatch.setattr("sidecar.cli.schema._run", fail_with(error))
        return front.main(["schema"])

    return run


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UsageError("no such account: acne"), 2, "sidecar: no such account: acne\n"),
        (
            ConfigurationError(["a.yaml:1:1: x", "a.yaml:2:1: y"]),
            2,
            "a.yaml:1:1: x\na.yaml:2:1: y\n",
        ),
        (StoreUnavailable("no answer"), 1, "sidecar: store_unavailable: no answer\n"),
        (OSError(98, "Address already in use"), 1, "sidecar: Address already in use\n"),
        (
            FileNotFoundError(2, "No such file or directory", "tokens.jsonl"),
            1,
            "sidecar: tokens.jsonl: No such file or directory; create it, or correct the path\n",
        ),
        (
            IsADirectoryError(21, "Is a directory", b"/tmp"),
            1,
            "sidecar: /tmp: Is a directory; name a file in it\n",
        ),
        (OSError(111, "Connect call failed ('127.0.0.1', 1)"), 1, "sidecar: Connection refused\n"),
        (KeyboardInterrupt(), 1, "sidecar: interrupted\n"),
    ],
)
def test_a_failure_has_its_exit_status_and_says_what_failed(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    told: str,
) -> None:
    assert failing(error) == status
    assert capsys.readouterr() == ("", told)


def test_an_unexpected_failure_is_one_line_without_the_words_of_the_exception(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(ValueError(SECRET)) == 1
    told = capsys.readouterr().err
    assert told.startswith("sidecar: internal error: ValueError at test_main.py:")
    assert told.count("\n") == 1
    assert SECRET not in told


def test_debugging_shows_the_way_to_a_failure_and_still_no_secret(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIDECAR_DEBUG", "1")
    assert failing(ValueError(SECRET)) == 1
    told = capsys.readouterr().err
    assert "cli/main.py" in told
    assert "raise error" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "argv",
    [
        ["bogus"],
        ["token", "inspect", SECRET],
        [SECRET],
        ["token", SECRET],
        ["token", "create", "--account", "a", "--name", "n", "--days", SECRET],
        ["token", "create", "--account", "a", "--name", "n", "--days", "-1"],
        ["token", "create", "--account", "a", "--name", "n", "--days", "1.5"],
        ["token", "create", "--account", "a", "--name", "n", "--days", "1", "--kind", SECRET],
        ["token", "rotate", "id", "--overlap", "soon"],
        ["token", "rotate", "id", "--overlap", "60"],
    ],
)
def test_wrong_usage_is_status_2_and_never_repeats_a_token(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        front.main(argv)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: sidecar" in captured.err
    assert SECRET not in captured.err


def test_the_version_comes_with_the_form_it_runs_in(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        front.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"sidecar {describe_program()}\n"
