"""Why a release can't be made yet: every reason at once, each a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Final

from deploy.release.changelog import UNRELEASED, find_section
from deploy.release.checkout import Checkout
from deploy.release.versions import Version, find_versions, parse_version

MAIN: Final = "main"
CHANGELOG: Final = "CHANGELOG.md"
UPGRADE_NOTES: Final = "docs/how-to/upgrade.md"
LOCK: Final = "deploy/image/requirements.txt"
_MOST_FILES: Final = 5


def refusals_of(checkout: Checkout, text: str, is_tagged: bool) -> list[str]:
    """Return what stands against the release ``text``; without a tag, any branch does."""
    version = parse_version(text)
    reasons = [*of_tree(checkout)]
    if is_tagged:
        reasons += of_branch(checkout)
    reasons += of_lock(checkout.root)
    if version is None:
        form = "write X.Y.Z, or X.Y.Z-rc.N for a candidate"
        reasons.append(
            f"{text!r} is not a version: {form}." if text else f"Name a version: {form}."
        )
    else:
        reasons += [*of_version(checkout, version), *of_changelog(checkout.root, version)]
        reasons += of_notes(checkout, version)
    return reasons


def of_tree(checkout: Checkout) -> Iterator[str]:
    """Nothing uncommitted may get into a release, or be left out of it."""
    if files := checkout.changed_files():
        shown = ", ".join(files[:_MOST_FILES])
        more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
        yield f"Commit or stash what is not in git yet: {shown}{more}."


def of_branch(checkout: Checkout) -> Iterator[str]:
    """A tag is set on ``main``, and on its newest commit."""
    if (branch := checkout.branch()) != MAIN:
        place = f"this is {branch}" if branch else "no branch is checked out"
        yield f"Switch to {MAIN} (git switch {MAIN}): {place}."
    elif count := checkout.commits_missing(f"origin/{MAIN}"):
        commits = "a commit" if count == 1 else f"{count} commits"
        yield f"Take up {commits} of origin/{MAIN} first: git pull --ff-only."


def of_version(checkout: Checkout, version: Version) -> Iterator[str]:
    """A version is greater than every tag, and the tree names one version everywhere."""
    tagged = checkout.versions()
    if version in tagged:
        yield f"Take the next version: v{version} is tagged, and a tag is never moved."
    elif tagged and version < tagged[-1]:
        yield f"Take a version greater than {tagged[-1]}, the last one tagged: {version} is less."
    first, *others = find_versions(checkout.root)
    apart = [found for found in others if found.version != first.version]
    if apart or not first.version:
        said = "; ".join(map(str, dict.fromkeys([first, *apart])))
        yield f"Make every place name the same version: {said}."
    elif (current := parse_version(first.version)) and version.final() < current.final():
        yield f"Take {current}, which {first.file} names, or a greater version: {version} is less."


def of_changelog(root: Path, version: Version) -> Iterator[str]:
    """The changelog tells of it: under *Unreleased*, or in a section that waits for its tag."""
    try:
        text = (root / CHANGELOG).read_text("utf-8")
    except FileNotFoundError:
        text = ""
    unreleased = find_section(text, UNRELEASED)
    released = find_section(text, str(version)) if version.is_final else None
    if unreleased is None:
        yield f"Begin {CHANGELOG} with a section '## [{UNRELEASED}]': there is none."
    elif released and unreleased.body:
        yield f"Move what {CHANGELOG} has under {UNRELEASED} into its section {version}."
    elif not released and not unreleased.body:
        yield f"Write under {UNRELEASED} in {CHANGELOG} what changes for users: nothing is there."


def of_lock(root: Path) -> Iterator[str]:
    """The image's libraries are those that ``setup.cfg`` allows."""
    from packaging.requirements import Requirement  # here, as `--notes` runs on a bare Python
    from packaging.utils import canonicalize_name

    parser = ConfigParser(interpolation=None)
    parser.read(root / "setup.cfg", encoding="utf-8")
    lines = parser.get("options", "install_requires", fallback="").splitlines()
    try:
        lock = (root / LOCK).read_text("utf-8").splitlines()
    except FileNotFoundError:
        lock = []
    pins = (line.split(";")[0].split()[0].split("==") for line in lock if "==" in line)
    locked = {canonicalize_name(name.split("[")[0]): version for name, version in pins}
    for line in filter(None, map(str.strip, lines)):
        wanted = Requirement(line)
        version = locked.get(canonicalize_name(wanted.name))
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            held = f"holds {version}" if version else "does not name it"
            yield f"Run make lock and commit the list: setup.cfg wants {line}, and {LOCK} {held}."


def of_notes(checkout: Checkout, version: Version) -> Iterator[str]:
    """A release that takes something away says what an administrator must do."""
    last = next((found for found in reversed(checkout.versions()) if found.is_final), None)
    if last and version.major > last.major and not has_notes(checkout.root, version):
        yield f"Say under '### {version.final()}' in {UPGRADE_NOTES} what an administrator must do."


def has_notes(root: Path, version: Version) -> bool:
    """Tell whether the page on upgrades has a section for the version, or for its candidates."""
    text = (root / UPGRADE_NOTES).read_text("utf-8") if (root / UPGRADE_NOTES).exists() else ""
    return any(line.split(",")[0].strip() == f"### {version.final()}" for line in text.splitlines())
