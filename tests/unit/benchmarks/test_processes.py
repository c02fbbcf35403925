"""What the bench reads about programs, seen on programs of a known kind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.processes import BenchError, Program

ALL_CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
PARENT = """
import subprocess, sys, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[tuple[Program, int]]:
    """A program with one child, and the child's process id."""
    told = tmp_path / "pid"
    program = Program(
        [sys.executable, "-c", PARENT, str(told)], cores=ALL_CORES, output=tmp_path / "log"
    )
    program.wait_until(lambda: told.exists() and told.read_text() != "")
    yield program, int(told.read_text())
    program.stop()


def test_a_program_counts_with_its_children(family: tuple[Program, int]) -> None:
    program, child = family

    assert child in processes.family([program.pid])
    assert processes.resident_bytes([program.pid]) > processes.resident_bytes([child]) > 0


def test_stopping_a_program_ends_its_children_and_can_be_said_twice(
    family: tuple[Program, int],
) -> None:
    program, child = family

    program.stop()
    program.stop()

    end = time.monotonic() + 10
    while _is_running(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _is_running(child)


def test_a_program_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    program = Program(
        [sys.executable, "-c", "raise SystemExit('no such option')"],
        cores=ALL_CORES,
        output=tmp_path / "log",
    )

    with pytest.raises(BenchError, match="no such option"):
        program.wait_until(lambda: False)
    program.stop()


def test_processor_time_only_grows() -> None:
    before = processes.cpu_seconds([os.getpid()])
    sum(range(1_000_000))

    assert processes.cpu_seconds([os.getpid()]) >= before > 0


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert processes.cpu_seconds([2**22 + 1]) == 0


def test_the_peer_has_a_processor_alone_where_there_are_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})

    assert processes.Cores.of_this_machine() == processes.Cores(peer="0", around="1,2")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
