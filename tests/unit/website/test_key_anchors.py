"""Each key of the configuration can be linked on the site, and is found by its name."""

from __future__ import annotations

import json
from pathlib import Path

from website import key_anchors, settings_tables
from website.pages import DOCS

KEYS = [key.path for key in settings_tables.walk_keys()]


def test_every_key_has_an_anchor_and_no_other_page_is_changed() -> None:
    text = settings_tables.PAGE.read_text("utf-8")
    changed = key_anchors.with_anchors(settings_tables.PAGE, text)
    assert [key for key in KEYS if f'<a class="key" id="{key}" href="#{key}">' not in changed] == []
    assert changed.count(' class="key"') == len(KEYS)
    assert key_anchors.with_anchors(DOCS / "architecture.md", text) == text


def test_the_search_finds_each_key_by_its_name(tmp_path: Path) -> None:
    page = {"location": "reference/configuration/", "path": ["Reference", "Configuration"]}
    (tmp_path / "search.json").write_text(json.dumps({"config": {}, "items": [page]}))
    key_anchors.add_to_search(tmp_path)
    index = json.loads((tmp_path / "search.json").read_text())
    found = {item["title"]: item for item in index["items"][1:]}
    assert [*found] == KEYS
    assert found["access_log.path"] == {
        "location": "reference/configuration/#access_log.path",
        "path": ["Reference", "Configuration"],
        "level": "3",
        "title": "access_log.path",
        "text": "A file, or <code>-</code> for standard output.",
    }
