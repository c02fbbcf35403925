"""jose, the JavaScript library for JWTs, from npm: the newest version that Node here runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE_SECONDS

_FIRST_FOR_6 = 20
"""jose 6 takes Web Cryptography from the globals, which Node 18, Debian 12's, lacks."""


def install_jose(folder: Path) -> Path:
    """Install it below ``folder``, and return the module to import; skip where that can't be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    is_new = _major_version(node) >= _FIRST_FOR_6
    version, module = ("6", "webapi/index.js") if is_new else ("5", "node/esm/index.js")
    options = ("--no-audit", "--no-fund", "--prefix", str(folder))
    try:
        command = [npm, "install", *options, f"jose@{version}"]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("jose can't be installed from npm")
    return folder / "node_modules/jose/dist" / module


def _major_version(node: str) -> int:
    done = subprocess.run([node, "--version"], check=True, capture_output=True, text=True)
    found = re.match(r"v(\d+)\.", done.stdout)
    assert found is not None
    return int(found[1])
