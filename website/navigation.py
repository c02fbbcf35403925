"""The site's navigation, read from docs/README.md: what that index links is in it, in its order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from website.pages import INDEX, PLACES, ROOT, place_of

_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+\.md)\)")
_PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "RELEASE.md")


class Entry(NamedTuple):
    """A page (``place``), or a group of entries (``inner``); a page's title is its heading."""

    title: str
    place: str = ""
    inner: tuple[Entry, ...] = ()


def navigation() -> list[Entry]:
    """Return the site's sections, in the order of the header's tabs."""
    introduction, *sections = re.split(r"^## ", INDEX.read_text("utf-8"), flags=re.M)
    kinds = [Entry("Tutorial", inner=tuple(_pages(introduction)))]
    for section in sections:
        heading, _, body = section.partition("\n")
        kinds.append(Entry(heading.partition(":")[0], inner=tuple(_entries(body))))
    home = Entry("Home", inner=(_page("README.md"), _page("docs/README.md")))
    return [home, *kinds, Entry("Project", inner=tuple(map(_page, _PROJECT)))]


def places(entries: list[Entry] | tuple[Entry, ...]) -> Iterator[str]:
    """Yield the place of every page in the entries."""
    for entry in entries:
        if entry.place:
            yield entry.place
        yield from places(entry.inner)


def _entries(body: str) -> Iterator[Entry]:
    """Yield the pages of a section, in groups if the first column of its table names some."""
    groups: dict[str, list[Entry]] = {}
    name = ""
    for row in re.findall(r"^\| (.+) \|$", body, re.M)[1:]:
        first, _, rest = row.partition(" |")
        if not _LINK.search(first):
            name = first.strip() or name
        groups.setdefault(name, []).extend(_pages(row if _LINK.search(first) else rest))
    for group, pages in groups.items():
        if group:
            yield Entry(group[0].upper() + group[1:], inner=tuple(pages))
        else:
            yield from pages


def _pages(text: str) -> Iterator[Entry]:
    for _, target in _LINK.findall(text):
        yield _page((INDEX.parent / target).relative_to(ROOT).as_posix())


def _page(name: str) -> Entry:
    title = re.findall(r"^# (.+)$", (ROOT / name).read_text("utf-8"), re.M)[0]
    titles = {"README.md": "Overview", "docs/README.md": "All pages"}
    return Entry(titles.get(name, title), PLACES.get(name) or str(place_of(ROOT / name)))


def as_toml(entries: list[Entry] | tuple[Entry, ...]) -> str:
    """Return the entries as the value of ``nav`` in zensical.toml."""
    parts = []
    for entry in entries:
        value = f'"{entry.place}"' if entry.place else as_toml(entry.inner)
        title = entry.title.replace("`", "").replace("\\", "").replace('"', '\\"')
        parts.append(f'{{ "{title}" = {value} }}')
    return f"[{', '.join(parts)}]"
