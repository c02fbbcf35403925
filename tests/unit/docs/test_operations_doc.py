"""What the pages for those who run it say is there, is there: alerts, files, tests, libraries."""

from __future__ import annotations

import re
from configparser import ConfigParser

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.proxy_process import ROOT

RUNBOOK = ROOT / "docs" / "how-to" / "respond-to-an-alert.md"
PAGES = {
    page.stem: page.read_text()
    for page in (RUNBOOK, ROOT / "docs" / "explanation" / "threat-model.md")
}
LOCK = (ROOT / "deploy" / "image" / "requirements.txt").read_text()


def test_the_runbook_has_every_alert_and_no_other() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/auth-sidecar.rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert set(re.findall(r"^\| `(Sidecar\w+)` \|", RUNBOOK.read_text(), re.M)) == alerts


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_are_named_are_there(page: str) -> None:
    named = re.findall(r"`((?:tests|deploy|docs|config)/[\w./-]+)`", PAGES[page])
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_image_has_each_library_by_version_and_hash() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+) \\$", LOCK, re.M))
    assert len(pinned) == LOCK.count("==")
    for entry in re.split(r"^(?=\w)", LOCK, flags=re.M)[1:]:
        assert "--hash=sha256:" in entry
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for line in setup["options"]["install_requires"].split("\n"):
        if line and not line.startswith("#"):
            needed = Requirement(line)
            version = pinned[canonicalize_name(needed.name)]
            assert needed.specifier.contains(Version(version)), line
            for extra in needed.extras:
                assert canonicalize_name(extra) in pinned
