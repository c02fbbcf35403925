"""CHANGELOG.md, by Keep a Changelog: reads its sections, makes a release of *Unreleased*."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from deploy.release.versions import Version

UNRELEASED: Final = "Unreleased"
_HEADING: Final = re.compile(r"^## \[(?P<name>[^\]\n]+)\](?: - (?P<day>\S+))?[ \t]*$", re.M)
# What compares the last release with what came after it, where the changelog ends with links.
_COMPARISON: Final = re.compile(
    r"^\[Unreleased\]: (?P<address>\S+)/compare/(?P<last>\S+?)\.\.\.HEAD[ \t]*$", re.M
)
_LINKS: Final = re.compile(r"(?:^\[[^\]\n]+\]: \S+[ \t]*\n?|^[ \t]*\n)+\Z", re.M)


@dataclass(frozen=True, slots=True)
class Section:
    """What one release, or *Unreleased*, says; ``day`` is empty where none is named."""

    name: str
    day: str
    body: str


def read_sections(text: str) -> tuple[Section, ...]:
    """Return the sections from the newest to the oldest, without the links at the end."""
    end = found.start() if (found := _LINKS.search(text)) else len(text)
    headings = [*_HEADING.finditer(text, 0, end)]
    starts = [heading.start() for heading in headings[1:]] + [end]
    return tuple(
        Section(heading["name"], heading["day"] or "", text[heading.end() : start].strip())
        for heading, start in zip(headings, starts, strict=False)
    )


def find_section(text: str, name: str) -> Section | None:
    """Return the section of a version, or of ``UNRELEASED``."""
    return next((section for section in read_sections(text) if section.name == name), None)


def notes_of(text: str, version: Version) -> Section | None:
    """Return what tells of a version: its section, or, of a candidate, what is unreleased."""
    return find_section(text, str(version) if version.is_final else UNRELEASED)


def release_unreleased(text: str, version: str, day: str) -> str:
    """Return the text with *Unreleased* as a release of that day, below an empty *Unreleased*.

    Where the text ends with a link that compares the last release with ``HEAD``, that link and one
    for the new release follow. Raises ``ValueError`` if there is no *Unreleased*.
    """
    heading = f"## [{UNRELEASED}]"
    found = next((at for at in _HEADING.finditer(text) if at["name"] == UNRELEASED), None)
    if found is None:
        raise ValueError(f"there is no {heading!r}")
    released = f"{heading}\n\n## [{version}] - {day}"
    return _COMPARISON.sub(
        lambda at: (
            f"[{UNRELEASED}]: {at['address']}/compare/v{version}...HEAD\n"
            f"[{version}]: {at['address']}/compare/{at['last']}...v{version}"
        ),
        text[: found.start()] + released + text[found.end() :],
    )
