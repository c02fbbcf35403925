"""A signal in the first moments of a process is acted upon once that can be done, and ends nothing.

Only the interpreter's own start, before its first line of ours, can't be covered.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import plain_settings
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ENVIRONMENT, ROOT
from tests.redis_servers import RedisServer
from tests.upstream_recorder import Recorder

EVERY_SECONDS = 0.05
READY = "listening on "
IMPORTING = "import time:"
SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Starting:
    """A ``sidecar`` command from its first line on; what it says is kept.

    The interpreter tells what it imports, and so when it has come to the imports that take long.
    """

    def __init__(self, *arguments: str, directory: Path) -> None:
        self.output = ""
        command = (sys.executable, "-X", "importtime", "-m", "sidecar", *arguments)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.output += line.decode()

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.002)

    def end(self) -> None:
        """Ask it to end, if it has not, and read all that it says."""
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)

    @property
    def said(self) -> str:
        lines = self.output.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(IMPORTING))

    def bombard(self, number: signal.Signals, until: str) -> None:
        """Send a signal again and again, from the first of the long imports until it says this."""
        self.wait_for(lambda: "argparse" in self.output)
        while until not in self.output:
            assert self.process.poll() is None, self.said
            self.process.send_signal(number)
            time.sleep(EVERY_SECONDS)


@contextlib.contextmanager
def starting(*arguments: str, directory: Path) -> Iterator[Starting]:
    begun = Starting(*arguments, directory=directory)
    try:
        yield begun
    finally:
        begun.end()


@pytest.fixture
def config(redis: RedisServer, recorder: Recorder, tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.yaml"
    settings = plain_settings(redis, recorder.url) | {
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "operations": {"address": f"127.0.0.1:{free_port()}"},
        "workers": 2,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize(
    ("number", "done"),
    [
        (signal.SIGHUP, "read again: nothing changed"),
        (signal.SIGUSR1, READY),
        (signal.SIGUSR2, "upgraded: 2 old workers may finish"),
    ],
    ids=["SIGHUP", "SIGUSR1", "SIGUSR2"],
)
def test_a_signal_at_any_moment_of_the_start_is_acted_upon_once_it_is_ready(
    config: Path, tmp_path: Path, number: signal.Signals, done: str
) -> None:
    with starting("run", "--config", str(config), directory=tmp_path) as sidecar:
        sidecar.bombard(number, until=READY)
        sidecar.wait_for(lambda: done in sidecar.output)
    assert sidecar.process.returncode == 0, sidecar.said


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1], ids=lambda one: one.name)
def test_a_terminals_or_a_tools_signal_to_all_processes_ends_no_worker_that_starts(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with starting("run", "--config", str(config), directory=tmp_path) as sidecar:
        sidecar.wait_for(lambda: "argparse" in sidecar.output)
        while READY not in sidecar.output:
            for pid in map(int, children_of(sidecar.process.pid)):
                os.kill(pid, number)
            time.sleep(EVERY_SECONDS / 10)
    assert sidecar.process.returncode == 0, sidecar.said
    assert "replacing it" not in sidecar.said


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_at_any_moment_of_the_end_does_not_cut_it_short(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with starting("run", "--config", str(config), directory=tmp_path) as sidecar:
        sidecar.wait_for(lambda: READY in sidecar.output)
        pid = sidecar.process.pid
        everybody = [pid, *map(int, children_of(pid))]
        sidecar.process.send_signal(signal.SIGTERM)
        sidecar.wait_for(lambda: "draining" in sidecar.output)
        while sidecar.process.poll() is None:
            for each in everybody:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, number)
            time.sleep(EVERY_SECONDS / 10)
    assert sidecar.process.returncode == 0, sidecar.said


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_while_the_demo_starts_does_not_keep_it_from_starting(
    tmp_path: Path, number: signal.Signals
) -> None:
    with starting("demo", directory=tmp_path) as demo:
        demo.bombard(number, until="The proxy listens on")
        if number == signal.SIGHUP:
            demo.process.wait(PATIENCE_SECONDS)
    assert demo.process.returncode == 0, demo.said
    assert "all data of the demo is deleted" in demo.output


def test_programs_that_are_started_meanwhile_inherit_nothing_of_it(
    config: Path, tmp_path: Path
) -> None:
    settings = yaml.safe_load(config.read_text()) | {"store": {"url": "embedded"}, "workers": 1}
    config.write_text(yaml.safe_dump(settings))
    with starting("run", "--config", str(config), directory=tmp_path) as sidecar:
        sidecar.bombard(signal.SIGHUP, until=READY)
        children = children_of(sidecar.process.pid)
        shells = [child for child in children if b"sidecar-redis" in command_of(child)]
        assert len(shells) == 1
        as_here = signals_of(str(os.getpid()))["SigIgn"]  # a job in the background ignores SIGINT
        assert signals_of(shells[0]) == {"SigBlk": set(), "SigIgn": as_here}


def command_of(pid: str) -> bytes:
    return Path("/proc", pid, "cmdline").read_bytes()


def signals_of(pid: str) -> dict[str, set[signal.Signals]]:
    """Return which of the signals that the sidecar holds, or ends by, are blocked and ignored."""
    lines = (line.split(":") for line in Path("/proc", pid, "status").read_text().splitlines())
    status = dict(line for line in lines if len(line) == 2)
    masks = {name: int(status[name], 16) for name in ("SigBlk", "SigIgn")}
    ours = {*SIGNALS, signal.SIGTERM, signal.SIGINT}
    return {name: {one for one in ours if mask >> one - 1 & 1} for name, mask in masks.items()}
