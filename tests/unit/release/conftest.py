"""What the tests of a release share: a git that asks nobody, and a clone to throw away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.release.throwaway_clone import Clone

DAY = "1800000000"  # 2027-01-15


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    identity = {"NAME": "A. Maintainer", "EMAIL": "maintainer@example.com"}
    for name, value in identity.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", DAY)
    return Clone(tmp_path / "clone")
