"""The container image, built with Buildah and run as Docker would run it.

docs/how-to/deploy-as-a-container.md says what this can't show: Docker's own builder, and the
published base.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import plain_settings
from tests.ports import free_port
from tests.proxy_process import ROOT
from tests.redis_servers import RedisServer
from tests.soak.debian_image import Builder, Container, base_of, require_tools

pytestmark = pytest.mark.soak
MOST_BYTES = 150_000_000
TAG = "auth-sidecar"


@dataclass
class Image:
    """The image that was built, and where it is mounted."""

    root: Path
    settings: dict[str, Any]
    size_bytes: int


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    require_tools()
    builder = Builder(tmp_path_factory.mktemp("image"))
    builder.make_base(*base_of((ROOT / "Dockerfile").read_text()))
    builder.build(TAG)
    with builder.mounted(TAG) as root:
        yield Image(root, builder.settings_of(TAG), builder.size_of(TAG))


@pytest.fixture
def configuration(tmp_path: Path, redis: RedisServer, upstream: str) -> Path:
    """Return a directory to mount, with a world-readable configuration."""
    settings = {
        **plain_settings(redis, upstream),
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "operations": {"address": f"127.0.0.1:{free_port()}"},
        "store": {"url": redis.url},
    }
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    (directory / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    return directory


@pytest.fixture
def container(image: Image, configuration: Path) -> Iterator[Container]:
    made = Container(image.root, image.settings, configuration)
    yield made
    made.kill()


def port_of(configuration: Path, part: str) -> int:
    settings = yaml.safe_load((configuration / "sidecar.yaml").read_text())
    return int(settings[part]["address"].rpartition(":")[2])


def ask(port: int, path: str, token: str = "") -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as client:
        client.request("GET", path, headers={"access_token": token} if token else {})
        return client.getresponse().status


def wait_until_ready(configuration: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError):
            if ask(port_of(configuration, "operations"), "/readyz") == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the container does not become ready")


def test_the_image_is_small_and_holds_no_shell_nor_a_package_manager(image: Image) -> None:
    print(f"\nthe image has {image.size_bytes / 1e6:.1f} MB")
    assert image.size_bytes < MOST_BYTES
    assert not [
        name
        for name in ("bin/sh", "bin/bash", "usr/bin/apt", "usr/bin/dpkg", "opt/sidecar/bin/pip")
        if os.path.lexists(image.root / name)
    ]


def test_the_image_says_how_it_is_run(image: Image) -> None:
    assert image.settings["User"] == "10001:10001"
    assert image.settings["Entrypoint"] == ["sidecar"]
    assert image.settings["Cmd"] == ["run"]
    assert image.settings["StopSignal"] == "SIGTERM"
    assert image.settings["Healthcheck"]["Test"] == ["CMD", "sidecar", "healthcheck"]


def test_nothing_in_the_image_can_be_written_by_its_user(image: Image) -> None:
    for path in image.root.rglob("*"):
        if path.is_symlink() or path.name == "tmp":
            continue
        told = path.stat()
        assert told.st_uid == 0, path
        assert not told.st_mode & 0o002, path


def test_scanners_find_the_packages_and_the_libraries(image: Image) -> None:
    packages = {path.name for path in (image.root / "var/lib/dpkg/status.d").iterdir()}
    assert packages >= {"libc6", "libssl3", "python3.11-minimal"}
    libraries = image.root / "opt/sidecar/lib/python3.11/site-packages"
    assert [*libraries.glob("cryptography-*.dist-info/METADATA")]


def test_every_module_is_there_compiled_and_can_be_imported(
    container: Container, configuration: Path
) -> None:
    program = (
        "import importlib, os, pkgutil, sidecar, ssl, aiohttp.http_parser as parser\n"
        "names = {m.name for m in pkgutil.walk_packages(sidecar.__path__, 'sidecar.')}\n"
        "names -= {'sidecar.__main__', 'sidecar.observability.span_export'}\n"  # from an extra
        "loaded = [importlib.import_module(name) for name in names]\n"
        "made_c = [module for module in loaded if module.__file__.endswith('.so')]\n"
        "assert sidecar.proxy.gateway in made_c\n"
        "assert all(m in made_c or os.path.exists(m.__cached__) for m in loaded)\n"
        "assert parser.HttpRequestParser is not parser.HttpRequestParserPy\n"
        "print(len(ssl.create_default_context().get_ca_certs()))\n"
    )
    container.start("run")
    wait_until_ready(configuration)
    done = container.execute("python3.11", "-c", program)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_it_serves_as_another_user_on_a_read_only_file_system_and_ends_in_order(
    container: Container, configuration: Path
) -> None:
    container.start("run")
    wait_until_ready(configuration)
    asked = ("token", "create", "--account", "acme", "--name", "n", "--days", "1")
    token = container.execute("sidecar", *asked).stdout.strip()
    path = "/v1/dynamic/listener/a1"
    port = port_of(configuration, "listen")
    assert (ask(port, path, token), ask(port, path)) == (200, 401)

    status = container.status()
    assert status["Uid"].split() == ["10001"] * 4
    assert status["NSpid"].split()[-1] == "1"
    assert int(status["CapEff"], 16) == 0
    writing = "open('/tmp/x', 'w')"
    assert "Read-only file system" in container.execute("python3.11", "-c", writing).stderr
    health = container.execute("sidecar", "healthcheck")
    assert (health.returncode, health.stderr) == (0, "")

    os.kill(container.pid, signal.SIGTERM)
    code, output = container.wait()
    assert code == 0, output
    assert json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def test_a_faulty_configuration_ends_it_with_status_2_and_the_place(
    container: Container, configuration: Path
) -> None:
    (configuration / "sidecar.yaml").write_text("routes: [{path: nowhere}]\n")
    container.start("run")
    code, output = container.wait()
    assert code == 2
    assert "/etc/sidecar/sidecar.yaml:1:" in output
