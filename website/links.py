"""Whether every link of the built site leads somewhere, and nothing is fetched from elsewhere.

Zensical checks the links of Markdown alone. This reads what a browser reads: images, scripts, the
navigation, and the anchors that were really made. It needs neither a server nor a network, as the
link checkers on offer do.
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from website.versions import LATEST

_FETCHED = {"script": "src", "img": "src", "source": "src", "link": "href", "iframe": "src"}
_NOT_FETCHED_LINKS = ("canonical", "prev", "next", "alternate")


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


def faults(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and for each thing fetched from elsewhere."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site)}: {fault}"
        for path, page in pages.items()
        for fault in _faults_of(path, page, site, pages)
    ]


def count(site: Path) -> tuple[int, int]:
    """Return how many pages there are, and how many links within the site they have together."""
    pages = [_Page(path.read_text("utf-8")) for path in site.rglob("*.html")]
    return len(pages), sum(not _is_elsewhere(link) for page in pages for link in page.links)


def _faults_of(path: Path, page: _Page, site: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    yield from (f"fetches {url}" for url in sorted(page.fetched) if _is_elsewhere(url))
    for link in sorted(page.links | page.fetched):
        if _is_elsewhere(link) or link.startswith("data:"):
            continue
        parts = urlsplit(link)
        target = _target(path, unquote(parts.path), site)
        if target == site.resolve().parent / LATEST:  # it stands beside this version, or will
            continue
        if not target.is_file():
            yield f"no such file: {link}"
        elif parts.fragment and target in pages:
            anchor = unquote(parts.fragment)
            if anchor not in pages[target].anchors and anchor != "__skip":
                yield f"no such anchor: {link}"


def _target(path: Path, link: str, site: Path) -> Path:
    if not link:
        return path
    target = (site / link.lstrip("/") if link.startswith("/") else path.parent / link).resolve()
    return target / "index.html" if target.is_dir() else target


def _is_elsewhere(link: str) -> bool:
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme in ("mailto", "javascript")
