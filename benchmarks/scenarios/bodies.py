"""Requests with bodies: a POST of 4 KiB, and a gigabyte streamed each way by one ``curl``."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from benchmarks.measure import Sample, measured
from benchmarks.peers import Running
from benchmarks.peers.registry import PEERS
from benchmarks.processes import BenchError, resident_bytes
from benchmarks.scenarios import Plan, Scenario
from benchmarks.stage import Stage
from benchmarks.upstream import BASE
from benchmarks.wrk import Load

STREAM_COLUMNS = ("cpu_ms_per_gib", "mib_per_second", "growth_mib", "memory_mib")
POST_BYTES = 4096


def prepare_post(plan: Plan) -> None:
    """Add every peer, in front of the sink."""
    load = Load(method="POST", headers=(plan.stage.holder.bearer,), body_bytes=POST_BYTES)
    for name, peer in PEERS.items():
        running = plan.start(name, upstream_port=plan.stage.upstream.sink_port)
        plan.add_load(peer.title, running, load)


def prepare_download(plan: Plan) -> None:
    """Add every peer, with the upstream's large file."""
    for name, peer in PEERS.items():
        if running := plan.start(name):
            plan.add(peer.title, _stream(plan.stage, running, []), warms_up=False)


def prepare_upload(plan: Plan) -> None:
    """Add every peer, in front of the sink."""
    big = str(plan.stage.upstream.big_file)
    for name, peer in PEERS.items():
        if running := plan.start(name, upstream_port=plan.stage.upstream.sink_port):
            plan.add(peer.title, _stream(plan.stage, running, ["-T", big]), warms_up=False)


def _stream(stage: Stage, running: Running, options: list[str]) -> Callable[[int], Sample]:
    command = ["taskset", "-c", stage.cores.around, "curl", "-sS", "-o", "/dev/null"]
    command += ["-w", "%{http_code} %{size_download} %{size_upload}"]
    command += ["-H", "Expect:", "-H", stage.holder.bearer, *options]
    command.append(f"http://127.0.0.1:{running.port}{BASE}/big")

    def run(_seconds: int) -> Sample:
        before = resident_bytes(running.pids)
        with measured(running, stage.redis) as usage:
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            # Writing the log line and closing the connection are part of the task.
            time.sleep(0.05)
        _check_size(finished, stage.settings.stream_bytes)
        after = resident_bytes(running.pids)
        return {
            "cpu_ms_per_gib": usage.cpu_seconds * 1e3 * 2**30 / stage.settings.stream_bytes,
            "mib_per_second": stage.settings.stream_bytes / 2**20 / usage.seconds,
            "growth_mib": (after - before) / 2**20,
            "memory_mib": after / 2**20,
        }

    return run


def _check_size(finished: subprocess.CompletedProcess[str], size_bytes: int) -> None:
    status, *sizes = finished.stdout.split()
    if status != "200" or str(size_bytes) not in sizes:
        raise BenchError(f"curl: {finished.stdout} {finished.stderr.strip()}")


POST = Scenario("post", "authorized POST of 4 KiB, 64 connections", prepare_post)
DOWNLOAD = Scenario(
    "download", "1 GiB streamed down", prepare_download, STREAM_COLUMNS, "cpu_ms_per_gib"
)
UPLOAD = Scenario("upload", "1 GiB streamed up", prepare_upload, STREAM_COLUMNS, "cpu_ms_per_gib")
