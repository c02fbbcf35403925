"""Other proxies beside us, started for real with a configuration of a test's own."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.interop.decision_fronts import FRONTS, running_program

FILES = {
    "nginx": "nginx.conf",
    "caddy": "Caddyfile",
    "haproxy": "haproxy.cfg",
    "envoy": "envoy.yaml",
}

NGINX_HEAD = """
worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections {connections}; }}
"""
HAPROXY_HEAD = """
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
"""
CADDY_HEAD = "{{\n    admin off\n    auto_https off\n"


@contextlib.contextmanager
def running_peer(
    name: str, directory: Path, port: int, configuration: str, descriptors: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the named program until the block ends; it has to listen on ``port`` of 127.0.0.1.

    ``descriptors`` is the hard limit of file descriptors that it starts with.
    """
    (directory / FILES[name]).write_text(configuration)
    command = FRONTS[name](directory)
    if descriptors is not None:
        command = limited(command, descriptors)
    with running_program(command, directory, port) as process:
        yield process


def limited(command: Sequence[str], descriptors: int) -> list[str]:
    """Return a command that runs ``command`` with this hard limit of file descriptors."""
    least = min(descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return ["/bin/sh", "-c", f'ulimit -n {least} && exec "$@"', "sh", *command]
