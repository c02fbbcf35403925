"""The service behind every peer: an nginx that answers at once, and a sink for bodies."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import nginx
from benchmarks.processes import Program, free_port, is_listening

BASE = "/v1/dynamic/listener"
ANSWER = '{"received":true,"pipe":"bench"}'

HTTP = """
  access_log off;
  sendfile on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{answer}'; }}
    location = {base}/whoami {{ return 200 '$http_x_account|$http_authorization'; }}
    location = {base}/big {{ alias {big}; }}
    location = {base}/small {{ alias {small}; }}
  }}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running service: nginx on ``port``, and the sink for bodies on ``sink_port``."""

    port: int
    sink_port: int
    big_file: Path
    programs: tuple[Program, ...]

    def stop(self) -> None:
        """Stop both programs."""
        for program in self.programs:
            program.stop()


def start(directory: Path, *, cores: str, big_bytes: int) -> Upstream:
    """Start the service; ``GET .../big`` answers with ``big_bytes`` of zeros from a sparse file."""
    directory.mkdir(parents=True)
    big, small = directory / "big", directory / "small"
    _write_sparse(big, big_bytes)
    small.write_bytes(b"x" * 4096)
    port, sink_port = free_port(), free_port()
    http = HTTP.format(port=port, answer=ANSWER, base=BASE, big=big, small=small)
    server = nginx.start(directory / "nginx", http=http, port=port, cores=cores)
    sink = Program(
        [sys.executable, "-m", "benchmarks.sink", str(sink_port)],
        cores=cores,
        output=directory / "sink.log",
    )
    started = Upstream(port, sink_port, big, (server, sink))
    try:
        sink.wait_until(lambda: is_listening(sink_port))
    except BaseException:
        started.stop()
        raise
    return started


def _write_sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    path.chmod(0o644)
    path.parent.chmod(0o755)
