"""The systemd unit and its companions, judged by systemd and logrotate themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.config.load import load
from tests.proxy_process import ROOT

PLACE = ROOT / "deploy" / "systemd"
UNIT = (PLACE / "auth-sidecar.service").read_text()
MOST_EXPOSURE = 20  # of 100; systemd calls up to 49 "ok" or better
SPARE_SECONDS = 10


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def setting(name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", UNIT, re.M)
    assert len(found) == 1, name
    return str(found[0])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that is there."""
    path = tmp_path / "auth-sidecar.service"
    path.write_text(UNIT.replace("/opt/auth-sidecar/bin/sidecar", sys.executable))
    return path


def test_systemd_finds_no_fault_with_the_unit(unit: Path) -> None:
    command = [tool("systemd-analyze"), "verify", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = [line for line in done.stderr.splitlines() if "auth-sidecar" in line]
    assert (done.returncode, faults) == (0, [])


def test_systemd_calls_it_hardly_exposed(unit: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=yes"]
    command += [f"--threshold={MOST_EXPOSURE}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


def test_a_restart_waits_for_a_whole_drain() -> None:
    drain = load(ROOT / "config" / "sidecar.yaml", {}).drain
    seconds = int(setting("TimeoutStopSec").removesuffix("s"))
    assert seconds >= drain.delay + drain.timeout + SPARE_SECONDS


def test_descriptors_are_enough_for_the_default_limit_of_connections() -> None:
    limits = load(ROOT / "config" / "sidecar.yaml", {}).limits
    assert int(setting("LimitNOFILE")) > 2 * limits.connections


def test_a_faulty_configuration_is_not_tried_again_and_again() -> None:
    assert setting("RestartPreventExitStatus") == "2"
    assert setting("Type") == "notify"


def test_logrotate_takes_the_rules_and_the_signal_goes_to_the_main_process(tmp_path: Path) -> None:
    text = (PLACE / "logrotate.conf").read_text()
    assert "systemctl kill --kill-whom=main --signal=SIGUSR1 auth-sidecar.service" in text
    rules = tmp_path / "logrotate.conf"
    rules.write_text(
        text.replace("/var/log/auth-sidecar", str(tmp_path)).replace(
            "create 0640 auth-sidecar auth-sidecar", "create 0640"
        )
    )
    rules.chmod(0o644)
    tmp_path.chmod(0o755)
    (tmp_path / "access.log").write_text("a line\n")
    state = ["--state", str(tmp_path / "state")]
    command = [tool("logrotate"), "--debug", "--force", *state, str(rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "running postrotate script" in done.stderr
    assert "error" not in done.stderr
