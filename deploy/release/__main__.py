"""``python -m deploy.release VERSION``: checks, prepares, commits and tags; it pushes nothing."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.release.changelog import UNRELEASED, notes_of
from deploy.release.checkout import Checkout, GitFailed
from deploy.release.preparation import differences, prepare, write
from deploy.release.refusals import CHANGELOG, MAIN, refusals_of
from deploy.release.versions import Version, find_versions, parse_version

_TESTS_FAIL: Final = "Find out why make test fails, mend it, and begin again."


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 1 if something stands against the release."""
    options = _parser().parse_args(arguments)
    root = options.root.resolve()
    if options.notes:
        return _print_notes(root, options.version)
    is_tagged = not options.prepare_only
    try:
        checkout = Checkout(root)
        refusals = refusals_of(checkout, options.version, is_tagged)
        version = parse_version(options.version)
        if refusals or version is None:
            return _refuse(refusals)
        texts = prepare(root, version, _today(os.environ))
        if options.dry_run:
            print("\n".join(_forecast(root, texts, version, is_tagged)))
            return 0
        if is_tagged and not options.checked and not _passes_tests(root):
            return _refuse([_TESTS_FAIL])
        write(texts)
        if is_tagged:
            _commit_and_tag(checkout, [*texts], version)
        print("\n".join(_what_is_next(root, [*texts], version, is_tagged)))
    except GitFailed as failure:
        return _refuse([f"{failure}"])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    parser.add_argument("version", nargs="?", default="", help="X.Y.Z, or X.Y.Z-rc.N")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; show what would be")
    parser.add_argument("--prepare-only", action="store_true", help="no commit, no tag; any branch")
    parser.add_argument("--checked", action="store_true", help="the tests passed on this commit")
    parser.add_argument("--notes", action="store_true", help="print the notes of a tagged version")
    parser.add_argument("--root", type=Path, default=Path(), help="the clone (default: here)")
    return parser


def _refuse(reasons: Sequence[str]) -> int:
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 1


def _print_notes(root: Path, text: str) -> int:
    """Print a version's part of the changelog, if the tree is that version."""
    version = parse_version(text)
    section = notes_of((root / CHANGELOG).read_text("utf-8"), version) if version else None
    apart = [found for found in find_versions(root) if found.version != text]
    if section is None or apart:
        reasons = [f"{found} instead of {text}." for found in apart]
        missing = [] if section else [f"{CHANGELOG} does not tell of {text!r}."]
        return _refuse(missing + reasons)
    print(section.body)
    return 0


def _today(environment: Mapping[str, str]) -> str:
    """Return the day (UTC), or that of ``SOURCE_DATE_EPOCH``."""
    epoch = environment.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    moment = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now
    return moment.date().isoformat()


def _passes_tests(root: Path) -> bool:
    command = ["make", "--no-print-directory", "test"]
    return subprocess.run(command, cwd=root, check=False).returncode == 0


def _commit_and_tag(checkout: Checkout, files: list[Path], version: Version) -> None:
    if files:
        section = version if version.is_final else UNRELEASED
        message = f"Release {version}\n\nWhat it holds is in {CHANGELOG}, under {section}."
        checkout.commit(files, message)
    checkout.tag(f"v{version}", f"auth-sidecar {version}")


def _forecast(
    root: Path, texts: Mapping[Path, str], version: Version, is_tagged: bool
) -> list[str]:
    tag = f"Nothing was changed. Next would be the tests, the commit and the tag v{version}."
    return [*differences(root, texts), tag if is_tagged else "Nothing was changed."]


def _what_is_next(root: Path, files: list[Path], version: Version, is_tagged: bool) -> list[str]:
    """Draft the notes, and return the lines that tell what to do with all of it."""
    if not is_tagged:
        changed = ", ".join(str(path.relative_to(root)) for path in sorted(files))
        return [
            f"Changed: {changed or 'nothing, as all was prepared before'}. Nothing is committed."
        ]
    section = notes_of((root / CHANGELOG).read_text("utf-8"), version)
    notes = root / "dist" / f"notes-{version}.md"
    notes.parent.mkdir(exist_ok=True)
    notes.write_text(f"{section.body if section else ''}\n", "utf-8")
    place = str(notes.relative_to(root))
    push = f"git push --atomic origin {MAIN} v{version}"
    draft = f"gh release create v{version} --draft --verify-tag --title 'auth-sidecar {version}'"
    return [
        f"v{version} is tagged here and not pushed. Look at it (git show v{version}), then:",
        f"  {push}",
        f"The workflows build, sign and publish, and draft the release. Without them ({place}):",
        f"  {draft} --notes-file {shlex.quote(place)}",
    ]


if __name__ == "__main__":
    sys.exit(main())
