"""Builds the image with Buildah from the shipped Dockerfile, on a Debian made by debootstrap.

That Debian replaces the base image that the Dockerfile names: the same release and packages,
without the files that Debian removes from its slim images. A container is a process with its own
mount and process namespaces, which sees the image read-only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.proxy_process import ROOT

TOOLS = ("buildah", "debootstrap", "unshare", "nsenter", "chroot")
LEFT_OUT = ("doc", "info", "lintian", "linda", "locale", "man", "groff", "bug")
BUILD_SECONDS = 1500


def require_tools() -> None:
    """Skip the test if an image can't be built here."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0:
        pytest.skip("only root can make a Debian root and mount it")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def base_of(dockerfile: str) -> tuple[str, str]:
    """Return the base image that the Dockerfile names, and the Debian release in it."""
    found = re.search(r"^ARG BASE=(debian:(\d+)\.\d+-slim)$", dockerfile, re.M)
    assert found is not None, "the base is not pinned to a point release"
    return found[1], {"12": "bookworm", "13": "trixie"}[found[2]]


class Builder:
    """Buildah, with its own storage under ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._command = ["buildah", "--storage-driver", "vfs", "--root", str(directory / "storage")]
        self._command += ["--runroot", str(directory / "run")]

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [*self._command, *words],
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def make_base(self, name: str, release: str) -> None:
        """Make the replacement of the base image."""
        root = self._directory / "debian"
        bootstrap = ["debootstrap", "--variant=minbase", release, str(root)]
        subprocess.run(bootstrap, check=True, capture_output=True, timeout=BUILD_SECONDS)
        for emptied in ("var/lib/apt/lists", "var/cache/apt", "var/log"):
            shutil.rmtree(root / emptied)
            (root / emptied).mkdir()
        for part in LEFT_OUT:
            shutil.rmtree(root / "usr/share" / part, ignore_errors=True)
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(root), "/")
        self.run("commit", "--quiet", "--format", "docker", container, f"docker.io/library/{name}")
        self.run("rm", container)
        shutil.rmtree(root)

    def build(self, tag: str) -> None:
        """Build the image as `docker build .` would, from the base made before."""
        words = ["bud", "--isolation", "chroot", "--format", "docker", "--pull-never"]
        if "PIP_CERT" in os.environ:  # a network with an authority of its own
            settings = self._directory / "pip.conf"
            settings.write_text("[global]\ncert = /tmp/authority.pem\n")
            words += ["--volume", f"{os.environ['PIP_CERT']}:/tmp/authority.pem:ro"]
            words += ["--volume", f"{settings}:/etc/pip.conf:ro"]
        self.run(*words, "--tag", tag, str(ROOT))

    def size_of(self, tag: str) -> int:
        """Return the size of the image's layers on disk, in bytes."""
        (image,) = json.loads(self.run("images", "--json", tag))
        text = str(image["size"])
        number, unit = text.split()
        return int(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])

    def settings_of(self, tag: str) -> dict[str, Any]:
        """Return the configuration of the image as Docker reads it."""
        told = json.loads(self.run("inspect", "--type", "image", tag))
        settings: dict[str, Any] = told["Docker"]["config"]
        return settings

    @contextmanager
    def mounted(self, tag: str) -> Iterator[Path]:
        """Yield the mount point of the image's file system."""
        container = self.run("from", "--pull-never", tag)
        try:
            yield Path(self.run("mount", container))
        finally:
            self.run("rm", container)


class Container:
    """The process of the image, run as Docker does with ``--read-only`` and ``--network host``."""

    def __init__(self, root: Path, settings: dict[str, Any], configuration: Path) -> None:
        self._root = root
        self._environment = dict(item.split("=", 1) for item in settings["Env"])
        self._user = settings["User"]
        self._entry = settings["Entrypoint"]
        self._script = f"""set -e
            mount --bind {root} {root}
            mount --bind {configuration} {root}/etc/sidecar
            mount --rbind /dev {root}/dev
            mount -t proc proc {root}/proc
            mount -o remount,ro,bind {root}
            exec "$@" """
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str) -> None:
        """Start it as process 1."""
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*apart, "sh", "-c", self._script, "sh", *self._as_user(*self._entry, *words)],
            env={**self._environment, "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `docker exec` does."""
        entering = ["nsenter", "--target", str(self.pid), "--mount", "--pid"]
        return subprocess.run(
            [*entering, *self._as_user(*words)],
            env={**self._environment, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _as_user(self, *words: str) -> list[str]:
        program, *rest = words
        place = f"/opt/sidecar/bin/{program}" if "/" not in program else program
        return ["chroot", f"--userspec={self._user}", "--groups=", str(self._root), place, *rest]

    @property
    def pid(self) -> int:
        """Return the process ID, on the host, of the container's process 1."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for _ in range(200):
            found = children.read_text().split()
            if found:
                return int(found[0])
            time.sleep(0.05)
        raise AssertionError("the container has no process")

    def status(self) -> dict[str, str]:
        """Return the kernel's status of process 1 (proc(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return the exit status and the output."""
        assert self._process is not None
        output, _ = self._process.communicate(timeout=60)
        return self._process.returncode, output.decode()

    def kill(self) -> None:
        """Kill it, whatever its state."""
        if self._process is not None and self._process.stdout is not None:
            if self._process.poll() is None:
                with suppress(ProcessLookupError):  # `--kill-child` ends at a change of the user
                    os.kill(self.pid, signal.SIGKILL)
            self._process.kill()
            self._process.stdout.close()
            self._process.wait()
