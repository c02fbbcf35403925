"""Finds out whether an extension module can be compiled here, by compiling a tiny one."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HOW_TO_GET = (
    "Debian: apt-get install gcc libc6-dev python3-dev; Fedora: dnf install gcc python3-devel; "
    "Alpine: apk add gcc musl-dev python3-dev"
)
# Each needs one part more than the one before it, so the first that fails tells what is missing.
_PROBES = (
    ("int probe(void) { return 0; }", "the C compiler does not work"),
    ("#include <stdio.h>\n#include <stdlib.h>", "the C library's headers are missing"),
    ("#include <Python.h>", "Python's headers are missing"),
)


def find_obstacle() -> str:
    """Return what keeps this Python from compiling, and what to do; empty if nothing does."""
    unfit = _describe_unfit_python()
    if unfit:
        return unfit
    compiler = compiler_command()
    if not compiler or shutil.which(compiler[0]) is None:
        name = compiler[0] if compiler else "cc"
        return f"there is no C compiler ({name} is not on the PATH). {HOW_TO_GET}"
    with tempfile.TemporaryDirectory(prefix="auth-sidecar-") as directory:
        for number, (source, missing) in enumerate(_PROBES):
            file = Path(directory, f"probe{number}.c")
            file.write_text(f"{source}\nint number{number};\n", encoding="utf-8")
            complaint = _compile(compiler, file)
            if complaint is not None:
                return f"{missing} ({complaint}). {HOW_TO_GET}"
    return ""


def takes_flag(flag: str) -> bool:
    """Tell whether the compiler, and the linker behind it, do something with a flag."""
    with tempfile.TemporaryDirectory(prefix="auth-sidecar-") as directory:
        file = Path(directory, "probe.c")
        file.write_text("int probe(void) { return 0; }\n", encoding="utf-8")
        return _compile([*compiler_command(), "-Werror", flag], file) is None


def compiler_command() -> list[str]:
    """Return the compiler that setuptools would use: ``CC``, or the one that built Python."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "")


def _describe_unfit_python() -> str:
    if sys.implementation.name != "cpython":
        return f"{platform.python_implementation()} compiles as it runs, and mypyc is for CPython"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "a free-threaded Python is not supported"
    if sys.platform == "win32":
        return "Windows is not supported"
    return ""


def _compile(compiler: list[str], file: Path) -> str | None:
    """Make a shared library of one file; return the first complaint, ``None`` if it works."""
    paths = sysconfig.get_paths()
    includes = [f"-I{paths[name]}" for name in ("include", "platinclude")]
    command = [*compiler, "-shared", "-fPIC", *includes, str(file), "-o", f"{file}.so"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - CC
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), f"status {done.returncode}")
