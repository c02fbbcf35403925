"""Which programs were measured: figures can't be compared without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess

import sidecar
from benchmarks.peers.envoy import find_program as find_envoy
from benchmarks.processes import UnavailableError

NUMBER = re.compile(r"\d+\.\d+\.\d+[\w.+-]*")
DISTRIBUTIONS = ("aiohttp", "httptools", "redis", "hiredis", "uvloop")


def installed() -> dict[str, str]:
    """Return the version of each program and library that is installed."""
    found = {name: _said_by(command) for name, command in _commands().items()}
    found |= {name: _distribution(name) for name in DISTRIBUTIONS}
    found |= {"sidecar": sidecar.__version__, "python": platform.python_version()}
    return {name: version for name, version in found.items() if version}


def machine() -> dict[str, str]:
    """Return a description of the processor and the kernel."""
    return {
        "processor": _processor(),
        "processors": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _commands() -> dict[str, list[str]]:
    return {
        "nginx": ["nginx", "-v"],
        "redis-server": ["redis-server", "--version"],
        "caddy": ["caddy", "version"],
        "wrk": ["wrk", "--version"],
        "envoy": [_envoy(), "--version"],
    }


def _envoy() -> str:
    try:
        return find_envoy()
    except UnavailableError:
        return "envoy"


def _said_by(command: list[str]) -> str:
    """Return the first version number that a program prints, on either stream."""
    if shutil.which(command[0]) is None:
        return ""
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    number = NUMBER.search(said.stdout + said.stderr)
    return number[0] if number else "unknown"


def _distribution(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else "unknown"
