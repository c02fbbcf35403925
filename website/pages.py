"""Which files of the repository the site shows, where each one stands, and where their links lead.

The pages stay plain Markdown that a forge shows, too. What a forge and the site do differently is
settled here, on the way: a link to a file that is no page (``../../deploy/nginx/nginx.conf``) leads
to a page made of that file, and lists are indented as Python-Markdown wants them.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
PLACES = {
    "README.md": "index.md",
    "docs/README.md": "pages.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "RELEASE.md": "project/releases.md",
}
FILES = "files"
"""The directory of the pages that are made of files which are no pages."""

_LANGUAGES = {
    "Caddyfile": "text",
    ".cfg": "text",
    ".conf": "nginx",
    ".lua": "lua",
    ".mjs": "js",
    ".py": "python",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_IMAGES = (".png", ".svg")
_FENCED = re.compile(r"^( *)(```+)[^\n]*\n.*?^\1\2 *$", re.M | re.S)
_LINK = re.compile(r"\]\(([^)\s#]+)?(#[^)\s]*)?\)")
_BAR_IN_CODE = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")
_LIST_ITEM = re.compile(r"(?:[-*+]|\d+\.) +")
_WIDTH = 4
"""How far Python-Markdown wants the content of a list item to be indented."""


class Unbuilt(Exception):
    """The site could not be built, or what was built has faults; the message says which."""


def sources() -> list[Path]:
    """Return every Markdown file that becomes a page, in a fixed order."""
    return [ROOT / name for name in PLACES] + [
        page for page in sorted(DOCS.rglob("*.md")) if page != INDEX
    ]


def images() -> list[Path]:
    """Return every image of the docs."""
    return sorted(path for path in DOCS.rglob("*") if path.suffix in _IMAGES)


def place_of(source: Path) -> PurePosixPath:
    """Return where a file of the repository stands among the site's sources."""
    name = source.relative_to(ROOT).as_posix()
    if name in PLACES:
        return PurePosixPath(PLACES[name])
    if name.startswith("docs/") and source.suffix in (".md", *_IMAGES):
        return PurePosixPath(name.removeprefix("docs/"))
    visible = "/".join(part.lstrip(".") for part in name.split("/"))
    return PurePosixPath(FILES, f"{visible}.md")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return ``text`` with ``change`` applied to what is between the fenced blocks of code."""
    changed, end = [], 0
    for block in _FENCED.finditer(text):
        changed += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*changed, change(text[end:])])


def linked_files() -> list[Path]:
    """Return the files and directories that pages link and that are neither pages nor images."""
    shown = {*sources(), *images()}
    linked = {target for page in sources() for target in _targets(page)}
    return sorted(path for path in linked - shown if path.suffix not in _IMAGES)


def _targets(page: Path) -> Iterator[Path]:
    found: list[str] = []

    def note(prose: str) -> str:
        found.extend(target for target, _ in _LINK.findall(prose) if is_local(target))
        return prose

    outside_code(page.read_text("utf-8"), note)
    return ((page.parent / target).resolve() for target in found)


def is_local(target: str) -> bool:
    """Return whether a link leads to a file of the repository."""
    return bool(target) and "://" not in target and not target.startswith("mailto:")


def page_of(source: Path) -> str:
    """Return the Markdown from which the site's generator makes the page of a Markdown file."""
    place = place_of(source)

    def follow(link: re.Match[str]) -> str:
        target, anchor = link[1] or "", link[2] or ""
        if not is_local(target):
            return link[0]
        there = place_of((source.parent / target).resolve())
        return f"]({os.path.relpath(there, place.parent)}{anchor})"

    def change(prose: str) -> str:
        return _BAR_IN_CODE.sub(_code_with_bars, _LINK.sub(follow, prose))

    return indent_lists(outside_code(source.read_text("utf-8"), change))


def _code_with_bars(code: re.Match[str]) -> str:
    """Return code in a table's cell as HTML: Python-Markdown would show the bar's backslash."""
    text = html.escape(code[1].replace("\\|", "|"), quote=False)
    signs = re.sub(r"[][*_|{}]", lambda sign: f"&#{ord(sign[0])};", text)
    return f"<code>{signs}</code>"


def page_of_file(path: Path) -> str:
    """Return a page that shows a file, or every file of a directory."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        files = sorted(inner for inner in path.rglob("*") if inner.is_file())
        parts = (f"## {inner.relative_to(path)}\n\n{_shown(inner)}" for inner in files)
        return f"# {name}\n\n" + "\n".join(parts)
    return f"# {name}\n\n{_shown(path)}"


def _shown(path: Path) -> str:
    language = _LANGUAGES.get(path.suffix or path.name, "text")
    return f"````{language}\n{path.read_text('utf-8').rstrip()}\n````\n"


def indent_lists(text: str) -> str:
    """Return ``text`` with the content of every list item indented by four, not by two or three."""
    lines = []
    levels = [(0, 0)]  # of each open item: where its content begins, here and in the result
    fence = ""
    for line in text.split("\n"):
        content = line.lstrip(" ")
        indent = len(line) - len(content)
        if not content:
            lines.append(line)
            continue
        if not fence:
            while indent < levels[-1][0]:
                levels.pop()
        before, after = levels[-1]
        place = after + max(indent - before, 0)
        lines.append(" " * place + content)
        marker = re.match(r"```+", content)
        if fence:
            fence = "" if content.rstrip() == fence else fence
        elif marker:
            fence = marker[0]
        elif item := _LIST_ITEM.match(content):
            levels.append((indent + item.end(), place + _WIDTH))
    return "\n".join(lines)
