"""The load: ``wrk`` with one script, and its result as a value.

``wrk`` runs a closed loop: each connection sends its next request when it has its answer, at once
or after a pause. A run with a broken connection or an unexpected status is not a result.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchError, UnavailableError

SCRIPT = Path(__file__).with_name("wrk.lua")
NOTHING_MORE: Mapping[str, str] = {}
RESULT = re.compile(r"^bench: (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, over how many connections, and whether it should pass.

    ``tokens`` and ``paths`` are files of one a line, sent in turn; with paths, ``path`` is unused.
    ``pipelined`` requests are sent in one write before any answer is read; the latencies that
    ``wrk`` reports then mean nothing.
    """

    path: str = "/v1/dynamic/listener/bench"
    connections: int = 64
    method: str = "GET"
    headers: tuple[str, ...] = ()
    body_bytes: int = 0
    tokens: Path | None = None
    paths: Path | None = None
    first_token: int = 1
    pause_ms: float = 0.0
    pipelined: int = 1
    is_refused: bool = False

    def arguments(self) -> list[str]:
        """Return the script's arguments (see the head of ``wrk.lua``)."""
        given = [f"method={self.method}", *(f"header={header}" for header in self.headers)]
        if self.body_bytes:
            given.append(f"body_bytes={self.body_bytes}")
        if self.tokens is not None:
            given += [f"tokens={self.tokens}", f"start={self.first_token}"]
        if self.paths is not None:
            given.append(f"paths={self.paths}")
        if self.pause_ms:
            given.append(f"pause_ms={self.pause_ms:.3f}")
        if self.pipelined > 1:
            given.append(f"pipelined={self.pipelined}")
        return given


@dataclass(frozen=True, slots=True)
class Result:
    """What ``wrk`` counted. ``refused`` are answers of status 400 and above."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def parse(output: str) -> Result:
    """Parse the line that ``wrk.lua`` prints. Raises ``BenchError`` if there is none."""
    found = RESULT.search(output)
    if found is None:
        raise BenchError(f"wrk gave no result: {output.strip()[-300:]}")
    numbers = {key: int(value) for key, value in (pair.split("=") for pair in found[1].split())}
    return Result(
        requests=numbers["requests"],
        seconds=numbers["duration_us"] / 1e6,
        p50_ms=numbers["p50_us"] / 1e3,
        p99_ms=numbers["p99_us"] / 1e3,
        refused=numbers["refused"],
        broken=sum(numbers[key] for key in ("connect", "read", "write", "timeout")),
    )


def judge(result: Result, load: Load) -> None:
    """Raise ``BenchError`` unless every request got the answer that the load expects."""
    expected = result.requests if load.is_refused else 0
    if not result.requests or result.broken or result.refused != expected:
        raise BenchError(
            f"{result.requests} requests, {result.refused} refused, {result.broken} broken; "
            f"expected all to be {'refused' if load.is_refused else 'let through'}"
        )


def command(load: Load, *, url: str, seconds: int, cores: str) -> list[str]:
    """Return the ``wrk`` command line for this load. Raises ``UnavailableError``."""
    program = shutil.which("wrk")
    if program is None:
        raise UnavailableError("wrk is not installed")
    called = ["taskset", "-c", cores, program, "-t1", f"-c{load.connections}", f"-d{seconds}s"]
    called += ["--timeout", "10s", "-s", str(SCRIPT), f"{url}{load.path}"]
    return [*called, "--", *load.arguments()]


def run(
    load: Load, *, url: str, seconds: int, cores: str, environment: Mapping[str, str] = NOTHING_MORE
) -> Result:
    """Put the load on a peer for whole seconds, from the given processors."""
    finished = subprocess.run(
        command(load, url=url, seconds=seconds, cores=cores),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    result = parse(finished.stdout + finished.stderr)
    judge(result, load)
    return result
