"""The version: how one is written, which is greater, and every place of the tree that holds it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

# What SemVer, PEP 440, Helm and the tag of an image all take; they agree on no other candidates.
_VERSION: Final = re.compile(
    r"(?P<x>0|[1-9]\d*)\.(?P<y>0|[1-9]\d*)\.(?P<z>0|[1-9]\d*)(?:-rc\.(?P<rc>0|[1-9]\d*))?"
)
_WRITTEN: Final = r"(?P<version>\d+\.\d+\.\d+(?:-rc\.\d+)?)"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """``X.Y.Z`` or, before it, ``X.Y.Z-rc.N``."""

    major: int
    minor: int
    patch: int
    is_final: bool
    candidate: int

    def final(self) -> Version:
        """Return the release that this is, or is a candidate of."""
        return replace(self, is_final=True, candidate=0)

    def __str__(self) -> str:
        candidate = "" if self.is_final else f"-rc.{self.candidate}"
        return f"{self.major}.{self.minor}.{self.patch}{candidate}"


def parse_version(text: str) -> Version | None:
    """Return the version that a text is, without a ``v`` before it; ``None`` if it is none."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    x, y, z, candidate = found.groups()
    return Version(int(x), int(y), int(z), candidate is None, int(candidate or 0))


@dataclass(frozen=True, slots=True)
class Place:
    """Files that hold the version where ``pattern`` matches; a file has to, if ``is_required``."""

    files: str
    what: str
    pattern: re.Pattern[str]
    is_required: bool


PLACES: Final = (
    Place(
        "sidecar/__init__.py",
        "__version__",
        re.compile(rf'^__version__ = "{_WRITTEN}"$', re.M),
        True,
    ),
    Place(
        "deploy/helm/auth-sidecar/Chart.yaml",
        "version",
        re.compile(rf'^version: "?{_WRITTEN}"?$', re.M),
        True,
    ),
    Place(
        "deploy/helm/auth-sidecar/Chart.yaml",
        "appVersion",
        re.compile(rf'^appVersion: "?{_WRITTEN}"?$', re.M),
        True,
    ),
    Place(
        "deploy/helm/examples/*/Chart.yaml",
        "the dependency",
        re.compile(rf'^ *- name: auth-sidecar\n +version: "?\^?{_WRITTEN}', re.M),
        False,
    ),
    *(
        Place(files, what, re.compile(pattern, re.M), False)
        for files in ("deploy/**/*.yaml", "deploy/**/*.md", "docs/how-to/*.md")
        for what, pattern in (
            ("the image", rf"\bauth-sidecar:{_WRITTEN}"),
            ("the image's tag", rf'\bnewTag: "?{_WRITTEN}'),
            ("the label", rf'\bapp\.kubernetes\.io/version: "?{_WRITTEN}'),
            ("the chart", rf"\bhelm\.sh/chart: auth-sidecar-{_WRITTEN}"),
            ("the chart", rf"/auth-sidecar --version {_WRITTEN}"),
            ("the release", rf"^VERSION={_WRITTEN}$"),
        )
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A version that a file holds; ``version`` is empty where it should be and is not."""

    file: str
    what: str
    version: str

    def __str__(self) -> str:
        return f"{self.file} ({self.what}) {self.version or 'names none'}"


def find_versions(root: Path) -> Iterator[Found]:
    """Yield the version at each place; the first one is the program's own."""
    for place in PLACES:
        if place.is_required and not (root / place.files).is_file():
            yield Found(place.files, place.what, "")
        for path in sorted(root.glob(place.files)):
            name = str(path.relative_to(root))
            versions = [at["version"] for at in place.pattern.finditer(path.read_text("utf-8"))]
            yield from (Found(name, place.what, version) for version in versions)
            if place.is_required and not versions:
                yield Found(name, place.what, "")


def with_version(root: Path, version: str) -> dict[Path, str]:
    """Return the new text of each file that another version than this one stands in."""
    texts: dict[Path, str] = {}
    for place in PLACES:
        for path in root.glob(place.files):
            old = texts.get(path, path.read_text("utf-8"))
            new = place.pattern.sub(lambda at: _put(at, version), old)
            if new != old:
                texts[path] = new
    return texts


def _put(at: re.Match[str], version: str) -> str:
    start, end = (edge - at.start() for edge in at.span("version"))
    return at[0][:start] + version + at[0][end:]
