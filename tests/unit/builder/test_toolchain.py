"""What counts as a compiler: one that makes an extension module here and now."""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from builder.toolchain import HOW_TO_GET, find_obstacle, takes_flag

# Stand-ins for a compiler: the text of which they know no header, and what is said of it.
LAME = {
    "probe": "the C compiler does not work",
    "stdio.h": "the C library's headers are missing",
    "Python.h": "Python's headers are missing",
}


def stand_in(directory: Path, unknown: str) -> str:
    """Return a compiler that is there, and fails on sources that contain ``unknown``."""
    program = directory / "lame-cc"
    program.write_text(
        "#!/bin/sh\n"
        'for word; do case "$word" in *.c) file=$word;; esac; done\n'
        f'grep -q "{unknown}" "$file" || exit 0\n'
        f'echo "a.c:1: fatal error: no {unknown}" >&2; exit 1\n'
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path(sysconfig.get_paths()["include"], "Python.h").is_file(),
    reason="no C compiler, or no headers of this Python",
)
def test_a_compiler_with_all_headers_is_no_obstacle() -> None:
    assert find_obstacle() == ""


@pytest.mark.parametrize(("unknown", "missing"), LAME.items(), ids=LAME)
def test_a_compiler_that_lacks_a_part_counts_as_absent_and_the_part_is_named(
    unknown: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", stand_in(tmp_path, unknown))
    found = find_obstacle()
    assert found == f"{missing} (a.c:1: fatal error: no {unknown}). {HOW_TO_GET}"
    assert "\n" not in found


def test_no_compiler_on_the_path_is_said_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-cc -O2")
    expected = f"there is no C compiler (no-such-cc is not on the PATH). {HOW_TO_GET}"
    assert find_obstacle() == expected


def test_a_compiler_that_cant_be_started_counts_as_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "cc"
    program.write_text("#!/no/such/shell\n")
    program.chmod(0o755)
    monkeypatch.setenv("CC", str(program))
    assert find_obstacle().startswith("the C compiler does not work (")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_flag_that_the_compiler_does_not_know_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CC", "cc")
    assert takes_flag("-O2")
    assert not takes_flag("-fno-such-flag-anywhere")


def test_only_an_ordinary_cpython_on_posix_is_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "true")
    with monkeypatch.context() as patched:
        patched.setattr(platform, "python_implementation", lambda: "PyPy")
        patched.setattr(sys.implementation, "name", "pypy")
        assert find_obstacle().startswith("PyPy compiles as it runs")
    with monkeypatch.context() as patched:
        patched.setattr(sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED")
        assert find_obstacle() == "a free-threaded Python is not supported"
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "win32")
        assert find_obstacle() == "Windows is not supported"
