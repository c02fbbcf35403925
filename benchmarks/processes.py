"""Programs that the benchmark runs: on which processors, when they are ready, what they use.

Processor time and memory come from ``/proc`` and cover a program and all its descendants, so that
a master and its worker, or a proxy and its decision service, count as one.
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
    """The results can't be trusted: something did not start, or gave a wrong answer."""


class UnavailableError(Exception):
    """A program or a feature is missing; its cases are skipped and the table says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which processors the peer under test has, and which all other programs share."""

    peer: str
    around: str

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Give the peer a processor of its own; load, upstream and Redis share the rest."""
        available = sorted(os.sched_getaffinity(0))
        rest = available[1:] or available
        return cls(peer=str(available[0]), around=",".join(map(str, rest)))


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A running program, pinned to processors, with its output in a file."""

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
        """The process ID of the program itself, not of a child."""
        return self._process.pid

    def wait_until(self, is_ready: Callable[[], bool], *, seconds: float = 20.0) -> None:
        """Wait until ``is_ready()``. Raises ``BenchError`` if that takes too long."""
        end = time.monotonic() + seconds
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise BenchError(f"did not start: {self._tail()}")
            time.sleep(0.02)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program itself."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop the program and its children: SIGTERM, then SIGKILL after 5 s. Idempotent."""
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
    """Return the user and system time of these processes and their descendants, dead or alive."""
    ticks = 0
    for pid in family(pids):
        if fields := _stat_fields(pid):
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory of these processes and their living descendants.

    It is the proportional set size, which counts a shared page once (proc(5), ``smaps_rollup``).
    """
    return sum(map(_proportional_bytes, family(pids)))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` after the command: state, parent … (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()
