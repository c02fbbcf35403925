"""Which code the sidecar under test runs: a checkout, interpreted or compiled to C.

A checkout runs as it is: it comes first on the path of the benchmark's own interpreter, so that two
versions of the code differ in nothing else. When two trees are compared, both are compiled or both
are interpreted.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from benchmarks.processes import UnavailableError

_OURS = Path(__file__).resolve().parents[1]
_PACKAGE = "sidecar"


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout, and where to import its modules from: as Python, as C, or both."""

    checkout: Path
    interpreted: Path | None
    compiled: Path | None

    @property
    def root(self) -> Path:
        """Where to import from: the compiled modules if there are any."""
        root = self.compiled or self.interpreted
        assert root is not None
        return root

    @property
    def form(self) -> str:
        """``compiled`` or ``interpreted``."""
        return "compiled" if self.compiled else "interpreted"

    def __str__(self) -> str:
        commit = _commit_of(self.checkout)
        return f"{self.checkout}{f' at {commit}' if commit else ''}, {self.form}"


def ours() -> Tree:
    """Return the tree that the benchmark belongs to, compiled if ``make compiled`` has built it.

    Modules that were compiled from older sources are ignored (``make bench`` builds them anew); the
    heading of the report then says ``interpreted``.
    """
    return find(_OURS, ignores_stale=True)


def find(directory: Path, *, ignores_stale: bool = False) -> Tree:
    """Return the tree in a directory: a checkout, perhaps with ``build/compiled``, or a tree that
    was compiled in place.

    Modules compiled for another Python do not count. Raises ``UnavailableError`` if there is no
    sidecar, or if ``build/compiled`` was made from other sources than the checkout's and
    ``ignores_stale`` is false.
    """
    directory = directory.resolve()
    if not (directory / _PACKAGE / "__main__.py").is_file():
        raise UnavailableError(f"{directory} holds no sidecar package")
    if _is_compiled(directory):
        return Tree(directory, interpreted=None, compiled=directory)
    built = directory / "build" / "compiled"
    if not _is_compiled(built):
        return Tree(directory, interpreted=directory, compiled=None)
    if _sources(built) != _sources(directory):
        if ignores_stale:
            return Tree(directory, interpreted=directory, compiled=None)
        raise UnavailableError(f"{built} is not of these sources: `make -C {directory} compiled`")
    return Tree(directory, interpreted=directory, compiled=built)


def match(ours: Tree, old: Tree) -> tuple[Tree, Tree]:
    """Return both trees in one form, compiled if both can be.

    Raises ``UnavailableError`` if one is only compiled and the other only interpreted.
    """
    if ours.compiled and old.compiled:
        return ours, old
    for tree, other in ((ours, old), (old, ours)):
        if tree.interpreted is None:
            raise UnavailableError(
                f"{tree.checkout} is compiled and {other.checkout} is not, so they can't be"
                f" compared: `make -C {other.checkout} compiled`"
            )
    return replace(ours, compiled=None), replace(old, compiled=None)


def _is_compiled(root: Path) -> bool:
    return any(root.glob(f"{_PACKAGE}/**/*{EXTENSION_SUFFIXES[0]}"))


def _sources(root: Path) -> dict[str, bytes]:
    package = root / _PACKAGE
    return {str(file.relative_to(root)): file.read_bytes() for file in package.rglob("*.py")}


def _commit_of(checkout: Path) -> str:
    """Return the commit that is checked out, with a ``+`` for local changes; empty without git."""
    try:
        said = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=10"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return said.stdout.strip()
