"""Which Python the gate takes for the newest, and what becomes of it where there is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NEWEST = Path(__file__).resolve().parents[3] / ".ci" / "newest"


class Machine:
    """A machine with some Pythons that only say what they are, and a ``make`` that tells its calls.

    ``make`` installs nothing on the versions that ``broken`` lists.
    """

    def __init__(self, directory: Path) -> None:
        self.pyenv = directory / "pyenv"
        self.tools = directory / "tools"
        self.tools.mkdir()
        self.broken: list[str] = []

    def add_python(self, version: str) -> Path:
        minor = version.rsplit(".", 1)[0]
        program = self.pyenv / "versions" / version / "bin" / f"python{minor}"
        program.parent.mkdir(parents=True)
        return self._write(program, f"echo {version} {program}")

    def run(self, base: str, *arguments: str, **environment: str) -> tuple[int, str]:
        """Return the status, and what was printed."""
        fails = "".join(f"case $* in *{version}*) exit 1;; esac;" for version in self.broken)
        self._write(self.tools / "make", f'echo "make $*"; {fails}')
        answer = subprocess.run(
            [str(NEWEST), str(self._write(self.tools / "base", f"echo {base}")), *arguments],
            env={
                "PATH": f"{self.tools}:/usr/bin:/bin",
                "HOME": str(self.tools),
                "PYENV_ROOT": str(self.pyenv),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return answer.returncode, answer.stdout

    def _write(self, program: Path, line: str) -> Path:
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        return program


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_is_taken_in_an_environment_of_its_own(machine: Machine) -> None:
    machine.add_python("3.99.9")
    program = machine.add_python("3.99.10")

    status, printed = machine.run("3.97.0", "-k", "a or b")

    assert status == 0
    assert printed.splitlines() == [
        f"make --no-print-directory VENV=.venv-3.99 PYTHON={program} .venv-3.99/.installed-dev",
        f"Python 3.99.10 ({program}):",
        f"make --no-print-directory VENV=.venv-3.99 PYTHON={program} quick ARGS=-k a\\ or\\ b ",
    ]


def test_the_next_one_is_taken_where_the_dependencies_can_not_be_installed(
    machine: Machine,
) -> None:
    machine.add_python("3.99.9")
    machine.add_python("3.99.10")
    machine.broken = ["3.99.10"]

    status, printed = machine.run("3.97.0")

    assert status == 0
    assert "Python 3.99.10" in printed
    assert "Python 3.99.9" in printed.splitlines()[-2]


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_the_gate_fails_where_there_is_none_and_a_desk_is_told(
    ci: str, status: int, machine: Machine
) -> None:
    machine.add_python("3.99.10")

    found, printed = machine.run("3.99.10", CI=ci)

    assert found == status
    assert "NOT TESTED on a newer Python than 3.99.10" in printed


def test_it_fails_as_the_tests_do(machine: Machine) -> None:
    machine.add_python("3.99.10")
    machine.broken = ["quick"]

    assert machine.run("3.97.0")[0] == 1
