"""Many versions of the site beside each other, and the list that its picker of versions shows.

The layout is that of ``mike``, which the theme reads: ``0.1/``, ``0.2/``, a copy of the newest
release in ``latest/``, ``versions.json``, and an ``index.html`` that leads to the latest.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

LATEST = "latest"
_LIST = "versions.json"
_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}")
_TO_LATEST = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>auth-sidecar</title>
<meta http-equiv="refresh" content="0; url={0}/">
<p><a href="{0}/">The documentation of auth-sidecar</a></p>
</html>
"""


def check_name(version: str) -> str:
    """Return ``version``; raise ``ValueError`` if no version can have that name."""
    if not _NAME.fullmatch(version) or version == LATEST:
        raise ValueError(f"{version!r} is not a version: write 0.1, or dev for what is unreleased")
    return version


def add(site: Path, directory: Path, version: str) -> list[str]:
    """Put a built site into ``directory`` as ``version``; return all versions, newest first.

    A version that is there already is replaced. ``latest`` is the newest release, or, before there
    is any, the newest of all.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _copy(site, directory / check_name(version))
    versions = sorted({version, *_known(directory)}, key=_age, reverse=True)
    newest = versions[0]
    _copy(directory / newest, directory / LATEST)
    entries = [
        {"version": name, "title": name, "aliases": [LATEST] if name == newest else []}
        for name in versions
    ]
    (directory / _LIST).write_text(json.dumps(entries, indent=2) + "\n")
    (directory / "index.html").write_text(_TO_LATEST.format(LATEST))
    (directory / ".nojekyll").touch()
    return versions


def _known(directory: Path) -> list[str]:
    path = directory / _LIST
    entries: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return [entry["version"] for entry in entries if (directory / entry["version"]).is_dir()]


def _age(version: str) -> tuple[bool, list[int], str]:
    """Return what versions are sorted by: releases by number, then everything else by name."""
    is_release = _RELEASE.fullmatch(version) is not None
    return is_release, [int(part) for part in version.split(".")] if is_release else [], version


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
