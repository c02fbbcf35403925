"""The compiled wheel: built as pip builds it, installed where no compiler is, and a broken one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import venv
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from builder.compiled_path import COMPILED
from builder.toolchain import find_obstacle
from tests.integration.test_wheel_build import contents_of, copy_source, run_hook
from tests.patience import PATIENCE_SECONDS

OBSTACLE = find_obstacle()
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(bool(OBSTACLE), reason=f"nothing can be compiled: {OBSTACLE}"),
]
CALL = re.compile(r"curl -H 'Authorization: (Bearer \S+)' '(http://\S+)'")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a wheel that was compiled as a user's is, unasked."""
    place = tmp_path_factory.mktemp("compiled")
    built = run_hook("build_wheel", copy_source(place / "source"), place / "wheel", "")
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr
    assert f"auth-sidecar: compiled: {len(COMPILED)} modules, " in built.stderr
    return place / "wheel"


@pytest.fixture(scope="module")
def program(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an empty environment, with no compiler on the PATH; return its bin."""
    place = tmp_path_factory.mktemp("installed")
    venv.create(place, with_pip=True)
    (wheel,) = wheels.iterdir()
    subprocess.run(
        [place / "bin" / "python", "-m", "pip", "install", "-q", f"{wheel}[embedded]"],
        env={**os.environ, "PATH": str(place / "bin")},
        check=True,
        timeout=1200,
    )
    return place / "bin"


def test_every_module_of_the_path_is_there_in_c_and_in_python(wheels: Path) -> None:
    names = contents_of(wheels)
    suffix = EXTENSION_SUFFIXES[0]
    for module in COMPILED:
        assert f"sidecar/{module}.py" in names
        assert f"sidecar/{module}{suffix}" in names


def test_it_says_that_it_is_compiled(program: Path) -> None:
    said = subprocess.run(
        [program / "sidecar", "--version"], capture_output=True, text=True, check=True
    )
    assert "(compiled, CPython " in said.stdout


@pytest.fixture
def demo(program: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [program / "sidecar", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(program), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)


def test_its_demo_answers_without_a_compiler_anywhere(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if "Ctrl-C stops" in line:
            break
    call = CALL.search(said)
    assert call is not None, said
    asked = urllib.request.Request(call[2], headers={"Authorization": call[1]})
    with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS) as answer:
        assert answer.status == 200


FAULTS = {
    "core/memo": "sidecar/core/memo.py:\\d+: error: Incompatible types",
    "gcc": "gcc: fatal error: Killed signal terminated program cc1",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items(), ids=FAULTS)
def test_a_build_that_breaks_off_installs_plain_python_and_says_why(
    fault: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_source(tmp_path / "source")
    if fault == "gcc":
        compiler = shutil.which("gcc")
        assert compiler is not None
        monkeypatch.setenv("CC", killed_on_large_files(tmp_path, compiler))
    else:
        with (source / "sidecar" / f"{fault}.py").open("a") as module:
            module.write('\nwrong: int = "a text"\n')
    built = run_hook("build_wheel", source, tmp_path / "wheel", "")
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    line = f"^auth-sidecar: plain Python, compiling failed: {reason}"
    assert re.search(line, built.stderr, re.M), built.stderr


def killed_on_large_files(directory: Path, compiler: str) -> str:
    """Return a compiler that the kernel kills as soon as a file is larger than a probe."""
    program = directory / "gcc"
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "large = [w for w in sys.argv if w.endswith('.c') and os.path.getsize(w) > 99_999]\n"
        "if large: sys.exit('gcc: fatal error: Killed signal terminated program cc1')\n"
        f"os.execv({compiler!r}, [{compiler!r}, *sys.argv[1:]])\n"
    )
    program.chmod(0o755)
    return str(program)
