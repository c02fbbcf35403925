"""Versions: their form, their order, and the places that hold one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from deploy.release.versions import find_versions, parse_version, with_version
from tests.unit.release.throwaway_clone import FILES

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
        "deploy/kubernetes/pod.yaml",
        "deploy/kustomize/base.yaml",
        "docs/how-to/deploy.md",
        "sidecar/__init__.py",
    }
    assert texts.pop("docs/how-to/deploy.md").endswith("--version 1.2.3-rc.4\nsince 0.1.0\n")
    for name, text in texts.items():
        assert text == before[name].replace("0.1.0", "1.2.3-rc.4")


def test_the_same_version_changes_nothing(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert with_version(tmp_path, "0.1.0") == {}
    assert {found.version for found in find_versions(tmp_path)} == {"0.1.0"}
