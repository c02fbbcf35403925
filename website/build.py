"""Makes the site: gathers its sources in one directory, and has Zensical build them, strictly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from website import diagrams, home, key_anchors, navigation, pages
from website.pages import Unbuilt

_HERE = Path(__file__).resolve().parent
_NAMED = "[project]\n"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PICKER = '\n[project.extra.version]\nprovider = "mike"\n'


def gather(directory: Path, *, has_versions: bool = False, address: str = "") -> None:
    """Put the sources of the site, its theme and its settings into an empty ``directory``.

    With ``has_versions``, the header shows a picker of the versions beside this one. ``address`` is
    the URL at which this version will be; without one, there is no sitemap worth its name.
    """
    content = directory / "pages"
    for source in pages.sources():
        text = diagrams.with_drawings(pages.page_of(source))
        text = key_anchors.with_anchors(source, text)
        place = pages.place_of(source)
        _write(content / place, home.with_ways(text) if place.name == "index.md" else text)
    for path in pages.linked_files():
        _write(content / pages.place_of(path), pages.page_of_file(path))
    for image in pages.images():
        target = content / pages.place_of(image)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
    shutil.copytree(_HERE / "theme", directory / "theme")
    shutil.copytree(_HERE / "theme" / "assets", content / "assets")
    settings = (_HERE / "zensical.toml").read_text("utf-8")
    named = f"site_url = {json.dumps(f'{address}/')}\n" if address else ""
    nav = f"{named}nav = {navigation.as_toml(navigation.navigation())}\n"
    settings = settings.replace(_NAMED, _NAMED + nav, 1) + _PICKER * has_versions
    _write(directory / "zensical.toml", settings)


def build(directory: Path, *, has_versions: bool = False, address: str = "") -> Path:
    """Build the site in ``directory``, which is emptied first; return where its pages are.

    Raises ``Unbuilt`` if Zensical has so much as a warning.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    gather(directory, has_versions=has_versions, address=address)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = _COLOUR.sub("", done.stdout.decode("utf-8", "replace"))
    if done.returncode or "warning" in said.lower():
        raise Unbuilt(said)
    key_anchors.add_to_search(directory / "site")
    return directory / "site"


def serve(site: Path) -> int:
    """Serve a built site on 127.0.0.1:8000, until Ctrl-C."""
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "8000"]
    try:
        return subprocess.call(command, cwd=site)
    except KeyboardInterrupt:
        return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
