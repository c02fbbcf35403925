"""``sidecar completion``: real shells complete what there is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.cli.completion import SHELLS
from tests.command_line import run_command
from tests.patience import PATIENCE_SECONDS
from tests.terminal import run_in_terminal

CASES = [
    ("che", "check"),
    ("comp", "completion"),
    ("token cre", "create"),
    ("account hash", "hash-password"),
    ("check --con", "--connect"),
    ("token create --acc", "--account"),
    ("token create --kind j", "jwt"),
    ("completion z", "zsh"),
    ("run --config tok", "tokens.yaml"),
    ("store import tok", "tokens.yaml"),
]
BASH = """\
source ./script
COMP_WORDS=(sidecar {words} {last!r}) COMP_CWORD={index} COMP_LINE="sidecar {line}"
COMP_POINT=${{#COMP_LINE}}
$(complete -p sidecar | sed 's/.*-F \\([^ ]*\\) .*/\\1/') sidecar {last!r}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def has(shell: str) -> pytest.MarkDecorator:
    is_missing = shutil.which(shell) is None
    return pytest.mark.skipif(is_missing, reason=f"{shell} is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tokens.yaml").touch()
    return tmp_path


def write_script(shell: str, file: Path) -> None:
    done = run_command("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    file.write_text(done.stdout)


def run_shell(place: Path, *command: str) -> list[str]:
    done = subprocess.run(
        command,
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={"HOME": str(place), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    return done.stdout.split("\n")


@has("bash")
@pytest.mark.parametrize(("line", "meant"), CASES)
def test_bash_completes(place: Path, line: str, meant: str) -> None:
    write_script("bash", place / "script")
    *words, last = line.split()
    script = BASH.format(words=" ".join(words), last=last, index=len(words) + 1, line=line)
    assert meant in [word.strip() for word in run_shell(place, "bash", "--norc", "-c", script)]


@has("fish")
@pytest.mark.parametrize(("line", "meant"), CASES)
def test_fish_completes(place: Path, line: str, meant: str) -> None:
    write_script("fish", place / "script")
    script = f"source ./script; complete --do-complete 'sidecar {line}'"
    offered = run_shell(place, "fish", "--no-config", "-c", script)
    assert meant in [line.partition("\t")[0] for line in offered]


@has("zsh")
def test_zsh_completes(place: Path) -> None:
    functions = place / "functions"
    functions.mkdir()
    write_script("zsh", functions / "_sidecar")
    (place / ".zshrc").write_text(
        "PS1='ready> '; fpath=(./functions $fpath)\n"
        "autoload -Uz compinit && compinit -u -d ./dump\n"
    )
    typed = [("ready> ", "")]
    for line, meant in CASES:
        typed += [("", f"sidecar {line}\t"), (meant, "\x15")]  # ^U: away with the line
    status, shown = run_in_terminal(
        ["zsh", "-d", "-i"],
        [*typed, ("", "exit\n")],
        cwd=place,
        environment={"ZDOTDIR": str(place), "HOME": str(place)},
    )
    assert status == 0, shown


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_is_one_that_its_shell_reads_without_a_word(shell: str, place: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    write_script(shell, place / "script")
    assert run_shell(place, shell, "-n", "script") == [""]


def test_the_program_that_makes_scripts_is_loaded_by_that_command_alone() -> None:
    code = "import sys; from sidecar.cli.main import build_parser; build_parser(); "
    code += "print('shtab' in sys.modules, 'tqdm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
