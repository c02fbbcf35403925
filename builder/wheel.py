"""Builds one wheel, compiled or plain, from a copy of the source, in a process of its own.

Nothing built stays in the source, nothing that lies there from another build gets into the wheel,
and a compiler that the kernel kills for its memory takes nothing else with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.choice import VARIABLE

# What a wheel is made of; the Dockerfile copies the same.
SOURCE = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg", "setup.py", "builder", "sidecar")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
_PROGRAM = (
    "import json, os, sys; sys.path.insert(0, os.getcwd()); from setuptools import build_meta; "
    "build_meta.build_wheel(*json.loads(sys.argv[1]))"
)


class WheelError(Exception):
    """A wheel could not be built; the text says why, in one line."""


def make_wheel(
    directory: str, *, compiles: bool, options: Mapping[str, Any] | None, metadata: str | None
) -> str:
    """Make a wheel in the directory and return its name. All that the tools say goes to stdout.

    Raises ``WheelError``.
    """
    with tempfile.TemporaryDirectory(prefix="auth-sidecar-") as temporary:
        source, made = Path(temporary, "source"), Path(temporary, "wheel")
        _copy_source(source)
        made.mkdir()
        arguments = json.dumps([str(made), options, metadata and os.path.abspath(metadata)])
        _run([sys.executable, "-c", _PROGRAM, arguments], source, "1" if compiles else "0")
        (wheel,) = made.glob("*.whl")
        shutil.move(wheel, Path(directory, wheel.name))
        return wheel.name


def _copy_source(target: Path) -> None:
    target.mkdir()
    for name in SOURCE:
        if Path(name).is_dir():
            shutil.copytree(name, target / name, ignore=_LEFT_OUT)
        else:
            shutil.copy2(name, target / name)


def _run(command: list[str], directory: Path, asked: str) -> None:
    """Run the build; pass on what it says line by line, and keep the first complaint."""
    complaint = ""
    with subprocess.Popen(  # noqa: S603 - this Python
        command,
        cwd=directory,
        env={**os.environ, VARIABLE: asked},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if not complaint and "error: " in line:  # and not an option such as -Werror
                complaint = line.strip()
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise WheelError(f"the build was ended by {name}; was there too little memory?")
    if process.returncode:
        raise WheelError(complaint or f"the build ended with status {process.returncode}")
