"""The source archive: a wheel can be built from it, so it must leave out nothing committed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from builder.wheel import SOURCE

ROOT = Path(__file__).resolve().parents[3]


def named_in_manifest() -> set[str]:
    text = (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
    lines = re.findall(r"^(?:graft|include) (.+)$", text, re.M)
    return {name for line in lines for name in line.split()}


def committed() -> set[str]:
    """Return the files and directories at the top of what git tracks."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("this is not a clone")
    return {line.split("/")[0] for line in listing.stdout.decode().splitlines()}


def test_it_names_all_that_is_committed() -> None:
    assert committed() - named_in_manifest() == set()


def test_it_names_nothing_that_is_not_there() -> None:
    assert [name for name in named_in_manifest() if not (ROOT / name).exists()] == []


def test_the_image_is_built_from_what_a_wheel_is_built_from() -> None:
    """Whatever the build copies must get past `.dockerignore` and into the Dockerfile."""
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--)(.+) \./", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    names = {name for line in copied for name in line.split()}
    assert set(SOURCE) <= names
    assert {name.rstrip("/!").lstrip("!") for name in let_in if name.startswith("!")} >= set(SOURCE)
