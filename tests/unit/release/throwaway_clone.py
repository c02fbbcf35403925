"""A small clone that a release can be made in, which a test changes as it likes."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHANGELOG = """\
# Changelog

What changed.

## [Unreleased]

### For callers

- A new thing.
"""
CHART = "apiVersion: v2\nname: auth-sidecar\nversion: 0.1.0\nappVersion: {}\n"
FILES = {
    ".gitignore": "dist/\n",
    "CHANGELOG.md": CHANGELOG,
    "Makefile": "test:\n\t@touch dist-tested; rm dist-tested; echo tested\n",
    "deploy/helm/auth-sidecar/Chart.yaml": CHART.format('"0.1.0"'),
    "deploy/image/requirements.txt": "aiohttp==3.14.5 \\\n    --hash=sha256:0\nredis==6\n",
    "deploy/kubernetes/pod.yaml": "image: auth-sidecar:0.1.0        # by digest\n",
    "docs/how-to/upgrade.md": "# Upgrade\n\n### 0.1.0, not released yet\n\nThe first version.\n",
    "setup.cfg": "[options]\ninstall_requires =\n    aiohttp>=3.14.3\n    redis[hiredis]>=5\n",
    "sidecar/__init__.py": '"""A proxy."""\n\n__version__ = "0.1.0"\n',
}


class Clone:
    """A clone of one commit on ``main``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit(FILES)

    def git(self, *words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def commit(self, files: dict[str, str]) -> None:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Change something")

    def read(self, name: str) -> str:
        return (self.root / name).read_text("utf-8")
