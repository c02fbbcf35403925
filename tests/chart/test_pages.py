"""What the pages about Kubernetes show is tried: values are rendered, commands run or parsed."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.mounted_files import environment_of, mount
from tests.chart.rendering import objects_in, run_helm, template
from tests.command_line import run_command
from tests.kubernetes_tools import tool
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ROOT

PAGE = ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md"
README = ROOT / "deploy" / "helm" / "auth-sidecar" / "README.md"
VALUES = dict(re.findall(r'^```yaml title="(\S+)"\n(.*?)^```', PAGE.read_text(), re.M | re.S))
(VALUES["README.yaml"],) = re.findall(r"^```yaml\n(.*?)^```", README.read_text(), re.M | re.S)
OWN_FILE = ROOT / "deploy" / "kustomize" / "examples" / "stand-alone" / "sidecar.yaml"


def commands_of(page: Path, program: str) -> Iterator[list[str]]:
    """Yield the words of every command of a program that a shell block shows."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == [program]:
                yield words[1:]


HELM = [words for page in (PAGE, README) for words in commands_of(page, "helm")]
KUBECTL = [words for page in (PAGE, README) for words in commands_of(page, "kubectl")]


def spoken(words: list[str]) -> str:
    return " ".join(words[:3])


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a directory with the values that the page shows, and the project's own files."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "sidecar.yaml").write_text(OWN_FILE.read_text())
    for name, text in VALUES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", VALUES)
def test_values_shown_make_a_configuration_that_is_valid(name: str, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(VALUES[name])
    objects = objects_in(template(file))
    checked = run_command(
        "check", "--strict", config=mount(objects, tmp_path), environment=environment_of(objects)
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("words", HELM, ids=spoken)
def test_a_command_of_helm_is_one(words: list[str]) -> None:
    done = run_helm(words[0], "--help")
    assert done.returncode == 0, done.stderr
    options = set(re.findall(r"--[\w-]+", done.stdout))
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= options


RENDERED = [words for words in HELM if words[0] in {"install", "upgrade", "template"}]


@pytest.mark.parametrize("words", RENDERED, ids=spoken)
@pytest.mark.usefixtures("directory")
def test_what_is_installed_is_rendered(words: list[str]) -> None:
    done = run_helm("template", *words[1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert objects_in(done.stdout)


@pytest.mark.parametrize("words", KUBECTL, ids=spoken)
@pytest.mark.usefixtures("directory")
def test_a_command_of_kubectl_is_one(words: list[str]) -> None:
    """Secrets are made without a cluster; a directory is kustomized in place of applied."""
    if "secret" in words:
        command = [*words, "--dry-run=client", "--output=yaml"]
    elif words[0] in {"apply", "kustomize"}:
        command = ["kustomize", words[-1]]
    else:
        command = [words[0] if words[0] != "--namespace" else words[2], "--help"]
    done = subprocess.run(
        [tool("kubectl"), *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "--help" not in command:
        assert objects_in(done.stdout)


def test_the_secret_that_is_made_has_the_keys_that_are_used() -> None:
    (words,) = (w for w in KUBECTL if "shop" in w and "secret" in w)
    made = {word.split("=")[1] for word in words if word.startswith("--from-literal=")}
    used = re.findall(r"/etc/sidecar-secrets/([\w-]+)", VALUES["values.yaml"])
    assert made == {*used, "store-url"}


def test_commands_and_values_are_found() -> None:
    assert len(VALUES) == 5
    assert len(HELM) >= 7
    assert len(KUBECTL) >= 6
    assert all(yaml.safe_load(text) for text in VALUES.values())
