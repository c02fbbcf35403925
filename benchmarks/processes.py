"""Programs under the bench: where they run, when they are ready, and what they have used.

Processor time and memory are read from ``/proc`` for a program and all its descendants, so that a
master and its worker, or a proxy and its decision service, count as one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A run can't be trusted: something did not start, or answered what it should not have."""


class UnavailableError(Exception):
    """A program or a feature is not there; its cases are left out and the table says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processors the peer under test has, and which everything around it shares."""

    peer: str
    around: str

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Give the peer one processor alone, and the rest to load, upstream and Redis."""
        available = sorted(os.sched_getaffinity(0))
        rest = available[1:] or available
        return cls(peer=str(available[0]), around=",".join(map(str, rest)))


def free_port() -> int:
    """Return a loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """One started program, pinned to processors, with its output in a file."""

    def __init__(
        self,
        command: list[str],
        *,
        cores: str,
        output: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.output = output
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                ["taskset", "-c", cores, *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id of the program itself, not of its children."""
        return self._process.pid

    def wait_until(self, is_ready: Callable[[], bool], *, seconds: float = 20.0) -> None:
        """Return when ``is_ready()`` holds; raises ``BenchError`` if it does not in time."""
        end = time.monotonic() + seconds
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise BenchError(f"did not start: {self._tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the program and what it started: SIGTERM, SIGKILL after 5 s; idempotent."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _tail(self) -> str:
        lines = self.output.read_text(errors="replace").splitlines()
        return " | ".join(lines[-5:]) or "no output"


def is_listening(port: int) -> bool:
    """Tell whether a loopback port accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def family(pids: Iterable[int]) -> list[int]:
    """Return these processes and all their living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], list(pids)
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of these processes and of their descendants, ended or not."""
    ticks = 0
    for pid in family(pids):
        if fields := _stat_fields(pid):
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes and of their living descendants: the proportional set
    size, in which a page that several of them share counts once (proc(5), ``smaps_rollup``).
    """
    return sum(map(_proportional_bytes, family(pids)))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _stat_fields(pid: int) -> list[str]:
    """Return what follows the command's name in ``/proc/PID/stat``: state, parent ... (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()
