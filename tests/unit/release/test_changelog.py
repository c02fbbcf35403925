"""The changelog: what is unreleased becomes a release, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sidecar
from deploy.release.changelog import (
    UNRELEASED,
    Section,
    find_section,
    read_sections,
    release_unreleased,
)
from deploy.release.versions import parse_version

ROOT = Path(__file__).resolve().parents[3]
HEAD = "# Changelog\n\nWhat changed.\n\n"
LINK = "https://git.example.com/auth-sidecar"

words = st.text("abc `*[]()-.é", max_size=30)
lines = st.one_of(
    words.map(lambda text: f"- {text}"),
    words.map(lambda text: f"### {text}"),
    words.map(lambda text: f"  {text}"),
    st.just(""),
)
bodies = st.lists(lines, max_size=8).map(lambda found: "\n".join(found).strip())
numbers = st.integers(0, 99)
versions = st.tuples(numbers, numbers, numbers).map(lambda parts: ".".join(map(str, parts)))
days = st.dates().map(lambda day: day.isoformat())
releases = st.lists(st.tuples(versions, days, bodies), max_size=3)


def written(sections: list[tuple[str, str, str]], links: str = "") -> str:
    headings = [
        (f"## [{name}] - {day}" if day else f"## [{name}]", body) for name, day, body in sections
    ]
    return HEAD + "".join(f"{heading}\n\n{body}\n\n" for heading, body in headings) + links


@given(bodies, releases, versions, days, st.booleans())
def test_what_was_unreleased_is_read_back_as_the_release_and_the_rest_as_it_was(
    body: str, earlier: list[tuple[str, str, str]], version: str, day: str, has_links: bool
) -> None:
    links = f"[Unreleased]: {LINK}/compare/v0.0.1...HEAD\n[0.0.1]: {LINK}/x\n" if has_links else ""
    before = written([(UNRELEASED, "", body), *earlier], links)
    after = release_unreleased(before, version, day)
    assert read_sections(after) == (
        Section(UNRELEASED, "", ""),
        Section(version, day, body),
        *(Section(*section) for section in earlier),
    )
    assert after.startswith(HEAD)
    assert release_unreleased(after, "100.0.0", day).count("## [") == after.count("## [") + 1


def test_the_links_at_the_end_compare_the_release_with_the_one_before() -> None:
    before = written([(UNRELEASED, "", "- x"), ("0.1.0", "2027-01-01", "- y")])
    links = f"[Unreleased]: {LINK}/compare/v0.1.0...HEAD\n[0.1.0]: {LINK}/releases/v0.1.0\n"
    after = release_unreleased(before + links, "0.2.0", "2027-02-01")
    assert after.splitlines()[-3:] == [
        f"[Unreleased]: {LINK}/compare/v0.2.0...HEAD",
        f"[0.2.0]: {LINK}/compare/v0.1.0...v0.2.0",
        f"[0.1.0]: {LINK}/releases/v0.1.0",
    ]


def test_links_belong_to_no_section() -> None:
    text = written([("0.1.0", "2027-01-01", "- y")], f"[0.1.0]: {LINK}\n")
    assert find_section(text, "0.1.0") == Section("0.1.0", "2027-01-01", "- y")
    assert find_section(text, "0.2.0") is None


def test_a_changelog_without_unreleased_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no '## "):
        release_unreleased(written([("0.1.0", "2027-01-01", "- y")]), "0.2.0", "2027-02-01")


def test_ours_begins_with_unreleased_and_its_newest_release_is_the_version_of_the_program() -> None:
    sections = read_sections((ROOT / "CHANGELOG.md").read_text("utf-8"))
    version = parse_version(sidecar.__version__)
    assert version
    assert sections[0].name == UNRELEASED
    if len(sections) > 1 and version.is_final:
        assert sections[1].name == str(version)
    assert all(section.day and section.body for section in sections[1:])
