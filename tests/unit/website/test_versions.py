"""Versions of the site beside each other: the list, the latest, and what a name may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from website import versions


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    return site


def add(site: Path, directory: Path, version: str) -> list[str]:
    (site / "index.html").write_text(version)
    return versions.add(site, directory, version)


def latest_of(directory: Path) -> str:
    return (directory / "latest" / "index.html").read_text()


def test_releases_stand_newest_first_and_the_newest_is_the_latest(
    site: Path, tmp_path: Path
) -> None:
    pages = tmp_path / "pages"
    assert add(site, pages, "dev") == ["dev"]
    assert latest_of(pages) == "dev"
    add(site, pages, "0.9")
    assert add(site, pages, "0.10") == ["0.10", "0.9", "dev"]
    assert latest_of(pages) == "0.10"
    listed = json.loads((pages / "versions.json").read_text())
    assert listed[0] == {"version": "0.10", "title": "0.10", "aliases": ["latest"]}
    assert [entry["aliases"] for entry in listed[1:]] == [[], []]
    assert 'url=latest/"' in (pages / "index.html").read_text()


def test_mending_an_old_version_leaves_the_latest(site: Path, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    add(site, pages, "0.1")
    add(site, pages, "0.2")
    (site / "more.html").touch()
    assert add(site, pages, "0.1") == ["0.2", "0.1"]
    assert (pages / "0.1" / "more.html").exists()
    assert latest_of(pages) == "0.2"


def test_a_version_whose_directory_was_deleted_is_no_longer_listed(
    site: Path, tmp_path: Path
) -> None:
    pages = tmp_path / "pages"
    add(site, pages, "0.1")
    (pages / "0.1" / "index.html").unlink()
    (pages / "0.1").rmdir()
    assert add(site, pages, "0.2") == ["0.2"]


@pytest.mark.parametrize("name", ["latest", "", "..", "a/b", "-x", "a b", "x" * 40])
def test_a_name_that_is_none_is_refused(site: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        versions.add(site, tmp_path / "pages", name)
