"""Prometheus' own opinion: ``promtool`` (Debian: ``prometheus``), or a skip that says why."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def run_promtool(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run ``promtool``; return its exit status and all it said."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool (Debian: prometheus) is not installed")
    done = subprocess.run(
        [found, *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()
