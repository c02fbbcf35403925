"""Wheels as a front end has them built: from the tree, from the source archive, with a fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from builder.wheel import SOURCE
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
NEEDED = 77
pytestmark = pytest.mark.skipif(
    int(version("setuptools").split(".")[0]) < NEEDED,
    reason=f"setuptools {NEEDED} is not installed",
)


def run_hook(
    hook: str, source: Path, target: Path, compiling: str, *, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a hook of the backend in ``source``, as `pip install --no-build-isolation` does."""
    target.mkdir(exist_ok=True)
    program = f"import sys; sys.path.insert(0, '.'); from builder import backend; backend.{hook}"
    return subprocess.run(
        [sys.executable, "-P", "-c", f"{program}(sys.argv[1])", str(target)],
        cwd=source,
        env={**os.environ, "SIDECAR_COMPILE": compiling, "PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE_SECONDS,
        check=False,
    )


def copy_source(target: Path) -> Path:
    target.mkdir()
    for name in (*SOURCE, "MANIFEST.in"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, target / name)
    return target


def contents_of(directory: Path) -> dict[str, bytes]:
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_a_wheel_from_the_source_archive_is_the_same_as_one_from_the_tree(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    archived = run_hook("build_sdist", source, tmp_path / "archive", "0")
    assert archived.returncode == 0, archived.stderr
    (archive,) = (tmp_path / "archive").iterdir()
    with tarfile.open(archive) as opened:
        # Debian's 3.11.2 has no filters yet.
        opened.extraction_filter = getattr(tarfile, "data_filter", None)
        opened.extractall(tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    for place, target in ((source, "one"), (unpacked, "other")):
        built = run_hook("build_wheel", place, tmp_path / target, "0")
        assert built.returncode == 0, built.stderr
    assert contents_of(tmp_path / "one") == contents_of(tmp_path / "other")


def test_what_an_older_build_left_gets_into_no_wheel_and_nothing_new_is_left(
    tmp_path: Path,
) -> None:
    source = copy_source(tmp_path / "source")
    stale = source / "build" / "lib" / "sidecar" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    (source / "sidecar" / "eager.cpython-311-x86_64-linux-gnu.so").touch()
    before = {*source.rglob("*")}
    built = run_hook("build_wheel", source, tmp_path / "wheel", "0")
    assert built.returncode == 0, built.stderr
    names = contents_of(tmp_path / "wheel")
    assert "sidecar/eager.py" in names
    assert "sidecar/__main__.py" in names
    assert [name for name in names if name.endswith(("gone.py", ".so"))] == []
    left = {path for path in source.rglob("*") if "__pycache__" not in path.parts}
    assert left - before == set()


def test_without_a_compiler_the_wheel_is_plain_and_one_line_says_what_is_missing(
    tmp_path: Path,
) -> None:
    source = copy_source(tmp_path / "source")
    built = run_hook("build_wheel", source, tmp_path / "wheel", "", path=str(tmp_path))
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    (line,) = [text for text in built.stderr.splitlines() if text.startswith("auth-sidecar:")]
    assert line.startswith("auth-sidecar: plain Python, there is no C compiler (")
    assert "apt-get install gcc libc6-dev python3-dev" in line


def test_without_a_compiler_a_forced_build_ends_with_one_line(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    built = run_hook("build_wheel", source, tmp_path / "wheel", "1", path=str(tmp_path))
    assert built.returncode == 1
    assert built.stderr.count("\n") == 1
    assert built.stderr.startswith("auth-sidecar: SIDECAR_COMPILE=1, but this can't be compiled")
    assert [*(tmp_path / "wheel").iterdir()] == []
