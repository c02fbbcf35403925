"""A clone that a release is made in: what git says of it, and the commit and the tag."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.release.versions import Version, parse_version


class GitFailed(Exception):
    """Git refused; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The clone at ``root``. Everything but ``commit`` and ``tag`` only looks."""

    root: Path

    def branch(self) -> str:
        """Return the branch, or an empty text where none is checked out."""
        return self._ask("branch", "--show-current")

    def changed_files(self) -> list[str]:
        """Return what is changed, staged or unknown to git."""
        listing = self._run("status", "--porcelain", "-z", "--no-renames")
        return [entry[3:] for entry in listing.split("\0") if entry]

    def versions(self) -> list[Version]:
        """Return the versions that are tagged, in ascending order."""
        tags = self._ask("tag", "--list", "v*").split()
        return sorted(found for tag in tags if (found := parse_version(tag[1:])))

    def commits_missing(self, upstream: str) -> int:
        """Return how many commits of ``upstream``, as last fetched, this branch lacks."""
        if not self._ask("rev-parse", "--verify", "--quiet", upstream, may_fail=True):
            return 0
        return int(self._ask("rev-list", "--count", f"HEAD..{upstream}"))

    def signs(self) -> bool:
        """Tell whether git is configured to sign."""
        return bool(self._ask("config", "user.signingKey", may_fail=True))

    def commit(self, files: list[Path], message: str) -> None:
        """Commit these files."""
        self._run("add", "--", *map(str, files))
        self._run("commit", "--quiet", "--message", message)

    def tag(self, name: str, message: str) -> None:
        """Make an annotated tag of ``HEAD``, signed if git is configured to sign."""
        kind = "--sign" if self.signs() else "--annotate"
        self._run("tag", kind, name, "--message", message)

    def _ask(self, *words: str, may_fail: bool = False) -> str:
        return self._run(*words, may_fail=may_fail).strip()

    def _run(self, *words: str, may_fail: bool = False) -> str:
        command = ["git", "-C", str(self.root), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and not may_fail:
            raise GitFailed(f"git {words[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
