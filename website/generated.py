"""What the docs hold that is made from the code, and whether it is up to date."""

from __future__ import annotations

import json
from pathlib import Path

from sidecar.config.schema import json_schema
from website import command_pages, settings_tables
from website.pages import ROOT

SCHEMA = ROOT / "config" / "sidecar.schema.json"


def wanted() -> dict[Path, str]:
    """Return every file that is made from the code, or a part of it, with its right text."""
    return {
        SCHEMA: json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        settings_tables.PAGE: settings_tables.with_tables(settings_tables.PAGE.read_text("utf-8")),
        command_pages.PAGE: command_pages.commands_page(),
    }


def write() -> list[Path]:
    """Bring these files up to date; return those that were not."""
    stale = [
        (path, text)
        for path, text in wanted().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    for path, text in stale:
        path.write_text(text, "utf-8")
    return [path for path, _ in stale]
