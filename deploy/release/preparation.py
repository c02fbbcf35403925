"""What a release changes in the tree: the changelog, the notes on upgrades, and every version."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.release.changelog import find_section, release_unreleased
from deploy.release.refusals import CHANGELOG, UPGRADE_NOTES
from deploy.release.versions import Version, with_version


def prepare(root: Path, version: Version, day: str) -> dict[Path, str]:
    """Return the new text of each file that changes; nothing, if all was prepared before.

    A candidate changes versions alone: what is unreleased stays so until the release.
    """
    texts = with_version(root, str(version))
    if not version.is_final:
        return texts
    changelog = root / CHANGELOG
    if not find_section(changelog.read_text("utf-8"), str(version)):
        texts[changelog] = release_unreleased(changelog.read_text("utf-8"), str(version), day)
    notes = root / UPGRADE_NOTES
    if notes.is_file():
        old = texts.get(notes, notes.read_text("utf-8"))
        new = re.sub(
            rf"^### {re.escape(str(version))}, not released yet$", f"### {version}", old, flags=re.M
        )
        if new != old:
            texts[notes] = new
    return texts


def write(texts: Mapping[Path, str]) -> None:
    """Write the new texts."""
    for path, text in texts.items():
        path.write_text(text, "utf-8")


def differences(root: Path, texts: Mapping[Path, str]) -> Iterator[str]:
    """Yield the lines of a patch from what is there to the new texts."""
    for path, new in sorted(texts.items()):
        old = path.read_text("utf-8").splitlines()
        name = str(path.relative_to(root))
        yield from difflib.unified_diff(old, new.splitlines(), name, name, lineterm="", n=1)
