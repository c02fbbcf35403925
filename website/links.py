"""Whether every link of the built site leads somewhere, and nothing is fetched from elsewhere.

Zensical checks the links of Markdown alone. This reads what a browser reads: images, scripts, the
navigation, and the anchors that were really made. It needs neither a server nor a network, as the
link checkers on offer do.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from website.versions import LATEST

_FETCHED = {"script": "src", "img": "src", "source": "src", "link": "href", "iframe": "src"}
_NOT_FETCHED_LINKS = ("canonical", "prev", "next", "alternate")


class _Site(NamedTuple):
    """A built site: its directory, the path at which it will be, and its pages, by file."""

    directory: Path
    path: str
    pages: dict[Path, _Page]

    def target(self, page: Path, link: str) -> Path:
        """Return the file that a link on ``page`` leads to."""
        if not link:
            return page
        inner = self.directory / link.removeprefix(self.path).lstrip("/")
        target = (inner if link.startswith("/") else page.parent / link).resolve()
        return target / "index.html" if target.is_dir() else target


class _Page(HTMLParser):
    """The anchors of a page, its links, and what a browser fetches for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag names."""
        values = {name: value for name, value in attrs if value}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag in _FETCHED and _FETCHED[tag] in values:
            is_page = values.get("rel") in _NOT_FETCHED_LINKS
            (self.links if is_page else self.fetched).add(values[_FETCHED[tag]])


def faults(directory: Path, address: str = "") -> list[str]:
    """Return a line for each link that leads nowhere, and for each thing fetched from elsewhere.

    ``address`` is the URL at which the site will be, as links of its error page name its path.
    """
    directory = directory.resolve()
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(directory.rglob("*.html"))}
    site = _Site(directory, urlsplit(address).path, pages)
    return [
        f"{path.relative_to(directory)}: {fault}"
        for path, page in pages.items()
        for fault in _faults_of(path, page, site)
    ]


def count(site: Path) -> tuple[int, int]:
    """Return how many pages there are, and how many links within the site they have together."""
    pages = [_Page(path.read_text("utf-8")) for path in site.rglob("*.html")]
    return len(pages), sum(not _is_elsewhere(link) for page in pages for link in page.links)


def _faults_of(path: Path, page: _Page, site: _Site) -> Iterator[str]:
    yield from (f"fetches {url}" for url in sorted(page.fetched) if _is_elsewhere(url))
    for link in sorted(page.links | page.fetched):
        if _is_elsewhere(link) or link.startswith("data:"):
            continue
        parts = urlsplit(link)
        target = site.target(path, unquote(parts.path))
        if target == site.directory.parent / LATEST:  # it stands beside this version, or will
            continue
        if not target.is_file():
            yield f"no such file: {link}"
        elif parts.fragment and target in site.pages:
            anchor = unquote(parts.fragment)
            if anchor not in site.pages[target].anchors and anchor != "__skip":
                yield f"no such anchor: {link}"


def _is_elsewhere(link: str) -> bool:
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme in ("mailto", "javascript")
