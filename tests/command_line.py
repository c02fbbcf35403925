"""The ``sidecar`` command run in this process, which spares a hundred starts of Python."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout

import pytest

from sidecar.cli.main import main

Run = subprocess.CompletedProcess[str]


def run_command(*arguments: str, stdin: str | None = None) -> Run:
    """Run one command to its end."""
    out, err = _stream(), _stream()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((stdin or "").encode())))
        status = main(arguments)
    return Run(arguments, status, _text(out), _text(err))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
