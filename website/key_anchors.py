"""Each key of the configuration has an address of its own on the site, and is found by its name."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from website.settings_tables import PAGE, meaning_of, walk_keys

_ROW = re.compile(r"^\| `([a-zA-Z_.\[\]]+)` \|", re.M)
_PLACE = "reference/configuration/"


def with_anchors(source: Path, text: str) -> str:
    """Return the text of the page of ``source``, with an anchor in each row of a key."""
    if source != PAGE:
        return text
    keys = {key.path for key in walk_keys()}
    return _ROW.sub(lambda row: _anchor(row[1]) if row[1] in keys else row[0], text)


def _anchor(key: str) -> str:
    return f'| <a class="key" id="{key}" href="#{key}"><code>{key}</code></a> |'


def add_to_search(site: Path) -> None:
    """Add an entry for each key to the search index of a built site: its name is the title."""
    path = site / "search.json"
    index = json.loads(path.read_text("utf-8"))
    page = next(item for item in index["items"] if item["location"] == _PLACE)
    for key in walk_keys():
        entry = {
            "location": f"{_PLACE}#{key.path}",
            "title": key.path,
            "text": _as_html(meaning_of(key)),
        }
        index["items"].append({**page, "level": "3", **entry})
    path.write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")), "utf-8")


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
