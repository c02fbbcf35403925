"""The diagrams of the docs, drawn ahead: the site shows SVG and needs no script for it.

The docs hold diagrams as Mermaid, which forges draw. For the site, ``python -m website --draw``
draws each one once, with Mermaid in Chromium, into ``website/diagrams``; a drawing is named after
the text that it was made of, so that one which is out of date is not found.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from website.pages import Unbuilt, sources

DRAWINGS = Path(__file__).resolve().parent / "diagrams"
_MERMAID = "mermaid@11.17.2"
_CHROMIUM = "/usr/bin/chromium"
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.M | re.S)
_DRAW = """
async ([name, text]) => {
  mermaid.initialize({
    startOnLoad: false,
    securityLevel: "strict",
    theme: "base",
    fontFamily: "DejaVu Sans, sans-serif",
    htmlLabels: false,
    flowchart: {nodeSpacing: 30, rankSpacing: 38},
    sequence: {width: 130, actorMargin: 24, mirrorActors: false},
    deterministicIds: true,
  });
  return (await mermaid.render(name, text)).svg;
}
"""


def with_drawings(text: str) -> str:
    """Return a page's text with its drawing in the place of each diagram.

    Raises ``Unbuilt`` for a diagram that was changed and not drawn again.
    """
    return _DIAGRAM.sub(lambda found: _shown(found[1]), text)


def undrawn() -> list[str]:
    """Return the diagrams of the docs that have no drawing."""
    return [text for text in _texts() if not _drawing_of(text).exists()]


def unused() -> list[Path]:
    """Return the drawings that belong to no diagram of the docs."""
    return sorted({*DRAWINGS.glob("*.svg")} - set(map(_drawing_of, _texts())))


def draw() -> list[Path]:
    """Draw what is not drawn, delete what belongs to no diagram; return the new drawings.

    Needs npm, which fetches Mermaid, Playwright and Chromium.
    """
    missing = undrawn()
    for path in unused():
        path.unlink()
    if not missing:
        return []
    with tempfile.TemporaryDirectory(prefix="diagrams-") as directory:
        subprocess.run(["npm", "install", "--silent", "--prefix", directory, _MERMAID], check=True)
        script = Path(directory, "node_modules", "mermaid", "dist", "mermaid.min.js")
        return _draw(missing, script)


def _draw(texts: list[str], script: Path) -> list[Path]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 1000})
        page.add_script_tag(path=str(script))
        for text in texts:
            path = _drawing_of(text)
            path.write_text(_in_one_line(page, path.stem, text), "utf-8")
        browser.close()
    return [_drawing_of(text) for text in texts]


def _in_one_line(page: Any, name: str, text: str) -> str:
    svg: str = page.evaluate(_DRAW, [f"diagram-{name}", text])
    return re.sub(r"\s*\n\s*", " ", svg) + "\n"


def _texts() -> Iterator[str]:
    for page in sources():
        yield from _DIAGRAM.findall(page.read_text("utf-8"))


def _drawing_of(text: str) -> Path:
    return DRAWINGS / f"{sha256(text.encode()).hexdigest()[:12]}.svg"


def _shown(text: str) -> str:
    drawing = _drawing_of(text)
    if not drawing.exists():
        raise Unbuilt(f"this diagram is not drawn; run `make docs ARGS=--draw`:\n{text}")
    return (
        f'<figure class="diagram" data-search-exclude>{drawing.read_text("utf-8").strip()}</figure>'
    )
