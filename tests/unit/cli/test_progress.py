"""Bars: on a terminal, once a command takes a while; anywhere else not a byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.proxy_process import ROOT
from tests.terminal import run_in_terminal

COUNTED = """
from sidecar.cli.progress import progress
import time
with progress("import", 200) as advance:
    for number in range(200):
        advance(1)
        time.sleep({each})
print("done")
"""
WAITING = """
from sidecar.cli.progress import activity
import sys, time
end = time.monotonic() + {whole}
with activity("read the tokens"):
    while time.monotonic() < end:  # a computation, which leaves no moment to show anything
        pass
print("done", "tqdm" in sys.modules)
"""
SLOW = [
    (COUNTED.format(each=0.02), "import", "%|", "/200 "),
    (WAITING.format(whole=2.5), "read the tokens …", "00:01"),
]
QUICK = [COUNTED.format(each=0), WAITING.format(whole=0)]


def shown_on_terminal(script: str, place: Path, **environment: str) -> str:
    status, shown = run_in_terminal(
        [sys.executable, "-c", script],
        cwd=place,
        environment={"PYTHONPATH": str(ROOT), **environment},
    )
    assert status == 0
    return shown


@pytest.mark.parametrize("texts", SLOW, ids=["counted", "waiting"])
def test_what_takes_a_while_is_shown_and_gone_at_the_end(
    texts: tuple[str, ...], tmp_path: Path
) -> None:
    script, *awaited = texts
    shown = shown_on_terminal(script, tmp_path)
    assert [text for text in awaited if text not in shown] == []
    last = shown.rstrip("\n").rpartition("\r")[2]
    assert last.startswith("done"), "the bar was wiped away before"


@pytest.mark.parametrize("script", QUICK, ids=["counted", "waiting"])
def test_what_is_quick_shows_nothing(script: str, tmp_path: Path) -> None:
    assert shown_on_terminal(script, tmp_path).split()[0] == "done"


def test_what_is_quick_does_not_even_load_what_draws_bars(tmp_path: Path) -> None:
    assert shown_on_terminal(QUICK[1], tmp_path) == "done False\n"


@pytest.mark.parametrize("texts", SLOW, ids=["counted", "waiting"])
def test_nothing_is_shown_in_a_pipe_or_on_a_dumb_terminal(
    texts: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", texts[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout.split()[0], done.stderr) == ("done", "")
    assert shown_on_terminal(texts[0], tmp_path, TERM="dumb").split()[0] == "done"
