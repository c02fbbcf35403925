"""How the bench tells wrk what to do, and reads what it did."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.processes import BenchError, UnavailableError
from benchmarks.wrk import Load, Result

OUTPUT = """\
Running 1s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
Requests/sec:  42060.12
bench: requests=42488 duration_us=1010203 p50_us=1400 p99_us=2821 refused=3 \
connect=1 read=2 write=0 timeout=4
"""


def test_the_result_is_the_line_that_the_script_prints() -> None:
    assert wrk.parse(OUTPUT) == Result(42488, 1.010203, 1.4, 2.821, refused=3, broken=7)


def test_the_rate_is_of_the_time_that_was_measured() -> None:
    assert Result(300, 1.5, 0.0, 0.0, refused=0, broken=0).rate == 200


def test_an_output_without_the_line_is_an_error_that_shows_its_end() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize(
    ("requests", "refused", "broken", "is_refused", "is_good"),
    [
        (10, 0, 0, False, True),
        (10, 1, 0, False, False),
        (10, 0, 1, False, False),
        (0, 0, 0, False, False),
        (10, 10, 0, True, True),
        (10, 9, 0, True, False),
    ],
)
def test_a_load_counts_only_if_every_request_was_answered_as_expected(
    requests: int, refused: int, broken: int, is_refused: bool, is_good: bool
) -> None:
    result = Result(requests, 1.0, 0.0, 0.0, refused, broken)
    load = Load(is_refused=is_refused)

    if is_good:
        wrk.judge(result, load)
    else:
        with pytest.raises(BenchError):
            wrk.judge(result, load)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (Load(), ["method=GET"]),
        (
            Load(method="POST", headers=("Authorization: Bearer x",), body_bytes=4096),
            ["method=POST", "header=Authorization: Bearer x", "body_bytes=4096"],
        ),
        (
            Load(tokens=Path("tokens"), first_token=7),
            ["method=GET", "tokens=tokens", "start=7"],
        ),
        (
            Load(tokens=Path("tokens"), paths=Path("paths")),
            ["method=GET", "tokens=tokens", "start=1", "paths=paths"],
        ),
        (Load(pause_ms=12.3456), ["method=GET", "pause_ms=12.346"]),
        (Load(pipelined=64), ["method=GET", "pipelined=64"]),
    ],
)
def test_the_script_is_told_what_the_load_has_and_nothing_else(
    load: Load, expected: list[str]
) -> None:
    assert load.arguments() == expected


def test_without_wrk_there_is_no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(UnavailableError):
        wrk.command(Load(), url="http://127.0.0.1:1", seconds=1, cores="0")
