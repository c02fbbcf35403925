"""The ``sidecar`` command run in this process, which spares a hundred starts of Python."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from sidecar.cli.main import main

Run = subprocess.CompletedProcess[str]


def run_command(
    *arguments: str,
    config: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run one command to its end; one at a time, and not where a loop runs."""
    arguments += ("--config", str(config)) if config else ()
    out, err = _stream(), _stream()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode())))
        status = main(arguments)
    return Run(arguments, status, _text(out), _text(err))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
