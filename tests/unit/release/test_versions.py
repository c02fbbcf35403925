"""Versions: their form, their order, and the places that hold one."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

import sidecar
from deploy.release.versions import find_versions, parse_version, with_version
from tests.unit.release.throwaway_clone import FILES

ROOT = Path(__file__).resolve().parents[3]
ASCENDING = [
    "0.0.1-rc.0",
    "0.0.1",
    "0.1.0-rc.2",
    "0.1.0-rc.10",
    "0.1.0",
    "0.2.0",
    "0.10.0",
    "1.0.0",
]


@pytest.mark.parametrize(("less", "greater"), [*pairwise(ASCENDING)])
def test_a_candidate_comes_before_its_release_and_numbers_count_as_numbers(
    less: str, greater: str
) -> None:
    one, other = parse_version(less), parse_version(greater)
    assert one
    assert other
    assert one < other
    assert (str(one), str(other)) == (less, greater)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.0",
        "v1.0.0",
        "1.0.0.0",
        "01.0.0",
        "1.0.0-beta",
        "1.0.0rc1",
        "1.0.0+local",
        "1.0.0 ",
    ],
)
def test_what_not_every_tool_takes_is_no_version(text: str) -> None:
    assert parse_version(text) is None


def test_a_new_version_is_written_to_every_place_and_nothing_around_it_changes(
    tmp_path: Path,
) -> None:
    others = {
        "deploy/kustomize/base.yaml": 'newTag: "0.1.0"\nx: app.kubernetes.io/version: 0.1.0\n',
        "deploy/helm/examples/x/Chart.yaml": (
            "version: 0.1.0\n- name: auth-sidecar\n  version: ^0.1.0\n"
        ),
        "docs/how-to/deploy.md": "helm pull oci://r/auth-sidecar --version 0.1.0\nsince 0.1.0\n",
    }
    for name, text in {**FILES, **others}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    texts = {
        str(path.relative_to(tmp_path)): text
        for path, text in with_version(tmp_path, "1.2.3-rc.4").items()
    }
    before = {**FILES, **others}
    assert texts.keys() == {
        "deploy/helm/auth-sidecar/Chart.yaml",
        "deploy/helm/examples/x/Chart.yaml",
        "deploy/kubernetes/pod.yaml",
        "deploy/kustomize/base.yaml",
        "docs/how-to/deploy.md",
        "sidecar/__init__.py",
    }
    assert texts.pop("docs/how-to/deploy.md").endswith("--version 1.2.3-rc.4\nsince 0.1.0\n")
    example = texts.pop("deploy/helm/examples/x/Chart.yaml")
    assert example == "version: 0.1.0\n- name: auth-sidecar\n  version: ^1.2.3-rc.4\n"
    for name, text in texts.items():
        assert text == before[name].replace("0.1.0", "1.2.3-rc.4")


def test_the_same_version_changes_nothing(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert with_version(tmp_path, "0.1.0") == {}
    assert {found.version for found in find_versions(tmp_path)} == {"0.1.0"}


def test_every_place_of_this_tree_names_the_version_of_the_program() -> None:
    apart = [found for found in find_versions(ROOT) if found.version != sidecar.__version__]
    assert [str(found) for found in apart] == []


def test_no_place_of_the_manifests_is_forgotten() -> None:
    """A version that a release does not find would stay behind."""
    changed = with_version(ROOT, "99.0.0")
    kept = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (ROOT / "deploy").rglob("*.y*ml")
        for line in changed.get(path, path.read_text("utf-8")).splitlines()
        if re.search(rf"(?<![\d.]){re.escape(sidecar.__version__)}(?![\d.])", line)
        and not (path.parent.parent.name == "examples" and line.startswith("version: "))
    ]
    assert kept == []
