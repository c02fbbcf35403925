"""compose.yaml: its parts fit together, and its Redis and its configuration work for real.

Docker is not needed: Redis runs here with the shipped file, the sidecar with the shipped
configuration, and what Compose would do (names, mounts) is put in by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.config.load import load
from tests.command_line import run_command
from tests.ports import free_port
from tests.proxy_process import ROOT
from tests.redis_servers import binary_of, running_redis

PLACE = ROOT / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = ["sidecar", "listener", "redis"]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return the directory that the service `secrets` has filled."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    script = (PLACE / "make-secrets.sh").read_text().replace("/secrets", str(directory))
    subprocess.run(["sh", "-c", script], check=True)
    return directory


def test_the_passwords_are_made_once_and_are_this_clones_own(secrets: Path, tmp_path: Path) -> None:
    first = (secrets / "redis-password").read_text()
    script = (PLACE / "make-secrets.sh").read_text().replace("/secrets", str(secrets))
    subprocess.run(["sh", "-c", script], check=True)
    assert (secrets / "redis-password").read_text() == first
    assert len(first) == 48
    assert first.isalnum()


def test_redis_gives_the_rights_that_are_needed_and_those_that_a_check_asks_for(
    secrets: Path,
) -> None:
    page = (ROOT / "docs" / "reference" / "redis.md").read_text().splitlines()
    least = next(line for line in page if line.startswith("user sidecar ")).split()
    given = (secrets / "users.acl").read_text().splitlines()[1].split()
    of_clusters = {"+asking", "+cluster|info", "+cluster|slots"}
    of_checks = {"+info", "+config|get", "+time"}
    assert {word for word in given if word[0] != ">"} == (
        {word for word in least if word[0] != ">"} - of_clusters | of_checks
    )


def test_redis_as_shipped_keeps_tokens_and_lets_the_sidecar_do_its_work(
    secrets: Path, tmp_path: Path
) -> None:
    """The check has nothing to say of it, but that the sample listener is not there."""
    settings = [
        line
        for line in (PLACE / "redis.conf").read_text().splitlines()
        if line and not line.startswith(("#", "dir", "aclfile"))
    ]
    options = [word for line in settings for word in f"--{line}".split(" ", 1)]
    users = ("--aclfile", str(secrets / "users.acl"))
    with running_redis(binary_of("debian"), tmp_path, *options, *users) as redis:
        config = tmp_path / "sidecar.yaml"
        text = (PLACE / "sidecar.yaml").read_text()
        text = text.replace("@redis:6379", f"@127.0.0.1:{redis.port}")
        text = text.replace("/secrets/", f"{secrets}/")
        config.write_text(text.replace("http://listener:8080", f"unix:{redis.socket}"))
        done = run_command("check", "--connect", "--config", str(config))
        assert (done.returncode, done.stderr) == (0, "")
        asked = ("--account", "acme", "--name", "n", "--days", "1", "--config", str(config))
        assert run_command("token", "create", *asked).returncode == 0
        backup = run_command("store", "export", "--config", str(config))
        assert backup.returncode == 0
        done = run_command("store", "import", "--config", str(config), stdin=backup.stdout)
        assert done.stdout.startswith("0 imported, 1 present already")


def test_what_is_mounted_is_there_and_what_is_named_is_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (
                (ROOT / source).exists()
                if source.startswith("./")
                else source in (COMPOSE["volumes"])
            )
        assert set(service.get("networks", [])) <= COMPOSE["networks"].keys()
        assert set(service.get("depends_on", {})) <= SERVICES.keys()


def test_services_are_confined_and_only_the_sidecar_is_published() -> None:
    for name in LONG_RUNNING:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["sidecar"]
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert "front" not in SERVICES["listener"]["networks"] + SERVICES["redis"]["networks"]


def test_the_end_has_the_time_that_a_drain_may_take(secrets: Path, tmp_path: Path) -> None:
    config = tmp_path / "sidecar.yaml"
    config.write_text((PLACE / "sidecar.yaml").read_text().replace("/secrets/", f"{secrets}/"))
    drain = load(config, {}).drain
    assert SERVICES["sidecar"]["stop_grace_period"] == "30s"
    assert drain.delay + drain.timeout < 30


def test_the_images_are_pinned_by_version() -> None:
    foreign = {service["image"] for service in SERVICES.values() if "build" not in service}
    assert foreign == {"redis:7.4.2-alpine"}


def test_the_sample_listener_runs_by_the_command_that_is_shipped() -> None:
    program, *words, address = SERVICES["listener"]["entrypoint"]
    assert (program, address) == ("python3.11", "0.0.0.0:8080")
    port = free_port()
    command = [sys.executable, *words, f"127.0.0.1:{port}"]
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl here")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ}) as process:
        asked = [curl, "--silent", "--retry", "30", "--retry-connrefused", "--retry-delay", "1"]
        done = subprocess.run(
            [*asked, f"http://127.0.0.1:{port}/x"], capture_output=True, check=False
        )
        process.terminate()
    assert b'"path": "/x"' in done.stdout
