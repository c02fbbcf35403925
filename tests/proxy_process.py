"""A real ``sidecar run`` process for tests: written configuration, readiness, captured output.

``access_log: {path: "-"}`` (the default) makes standard output the access log.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from tests.command_line import run_command
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
SIDECAR = (sys.executable, "-m", "sidecar")
# Tests trust no authority but their own, and reading the system's is a tenth of each start.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}


def run_sidecar(
    *arguments: str,
    config: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run one ``sidecar`` command to its end, in a process of its own."""
    named = ("--config", str(config)) if config else ()
    return subprocess.run(
        [*SIDECAR, *arguments, *named],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **(environment or {})},
    )


def create_token(config: Path, account: str, name: str, days: int = 1, *more: str) -> str:
    """Create a token with the command line, in this process; return it."""
    asked = ("token", "create", "--account", account, "--name", name, "--days", str(days), *more)
    done = run_command(*asked, config=config)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class ProxyProcess:
    """One sidecar; a context manager that starts it ready and stops it with SIGTERM, status 0."""

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        """Write ``settings`` as YAML into ``directory``, with free ports where none are named.

        ``program`` is a Python file to run in place of ``-m sidecar``.
        """
        self._command: Sequence[str] = (sys.executable, str(program)) if program else SIDECAR
        self.settings: dict[str, Any] = {**settings}
        if "listen" not in settings:
            self.settings["listen"] = {"address": f"127.0.0.1:{free_port()}"}
        if "operations" not in settings:
            self.settings["operations"] = {"address": f"127.0.0.1:{free_port()}"}
        self.config = directory / "sidecar.yaml"
        self.config.write_text(yaml.safe_dump(self.settings, sort_keys=False))
        self._environment = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers: list[threading.Thread] = []

    @property
    def address(self) -> tuple[str, int] | str:
        """What to connect to: (host, port), or the path of a unix socket; the first of several."""
        listed = self.settings["listen"]["address"]
        return _parse_address(listed[0] if isinstance(listed, list) else listed)

    def settings_elsewhere(self) -> dict[str, Any]:
        """Return the same settings less the addresses, for another process."""
        own = ("listen", "operations")
        return {key: value for key, value in self.settings.items() if key not in own}

    @property
    def port(self) -> int:
        address = self.address
        assert isinstance(address, tuple)
        return address[1]

    @property
    def pid(self) -> int:
        """The supervisor."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the processes that serve, the oldest first."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in children if self._is_worker(Path("/proc", pid))]

    def _is_worker(self, process: Path) -> bool:
        try:
            is_sidecar = bytes(self.config) in (process / "cmdline").read_bytes()
            return is_sidecar and b"SIDECAR_REHEARSAL" not in (process / "environ").read_bytes()
        except OSError:  # it has ended meanwhile
            return False

    @property
    def worker(self) -> int:
        """The process that serves, where there is but one."""
        (only,) = self.workers()
        return only

    @property
    def stdout(self) -> str:
        return self._output["stdout"].decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self._output["stderr"].decode("utf-8", "replace")

    def access_lines(self) -> list[dict[str, Any]]:
        """Return the lines of the access log so far that tell of a request."""
        return [line for line in self._lines() if "status" in line]

    def audit_lines(self) -> list[dict[str, Any]]:
        """Return the lines of the access log so far that tell of an event."""
        return [line for line in self._lines() if "event" in line]

    def _lines(self) -> list[dict[str, Any]]:
        complete = self.stdout.rpartition("\n")[0]
        return [json.loads(line) for line in complete.split("\n") if line]

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "run", "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=self._environment,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pipes = {"stdout": self._process.stdout, "stderr": self._process.stderr}
        for name, pipe in pipes.items():
            reader = threading.Thread(target=self._collect, args=(name, pipe), daemon=True)
            reader.start()
            self._readers.append(reader)
        self._wait_until_ready()

    def _collect(self, name: str, pipe: IO[bytes]) -> None:
        while piece := os.read(pipe.fileno(), 65536):
            self._output[name] += piece
            if name == "stderr":
                os.write(2, piece)  # so that pytest shows it with a test that fails
        pipe.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.is_ready() and self._accepts()):
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"sidecar ended at once: {self.stderr or self.stdout}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"sidecar not ready in time: {self.stderr or self.stdout}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        """Ask ``/readyz`` on the operations listener."""
        address = _parse_address(self.settings["operations"]["address"])
        assert isinstance(address, tuple)
        asking = http.client.HTTPConnection(*address, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(asking):
            asking.request("GET", "/readyz")
            return asking.getresponse().status == 200
        return False

    def _accepts(self) -> bool:
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def connect(self, timeout_seconds: float = PATIENCE_SECONDS) -> socket.socket:
        """Open a plain connection to the proxy."""
        address = self.address
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family)
        sock.settimeout(timeout_seconds)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def rss_bytes(self) -> int:
        """Return the resident memory of the one worker now."""
        for line in Path(f"/proc/{self.worker}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process has no resident memory")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def signal_workers(self, number: int) -> None:
        for pid in self.workers():
            os.kill(pid, number)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end and for all output; return the exit status."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"sidecar did not end: {self.stderr[-2000:]}") from None
        for reader in self._readers:
            reader.join(5)
        return status

    def stop(self) -> None:
        """SIGTERM; the exit status must be 0 (unless it had been stopped before)."""
        if self.is_running:
            self.signal(signal.SIGTERM)
            status = self.wait()
            assert status == 0, f"exit status {status}: {self.stderr[-2000:]}"

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(5)

    def __enter__(self) -> ProxyProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _parse_address(address: str) -> tuple[str, int] | str:
    if address.startswith("unix:"):
        return address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    return {"[::]": "127.0.0.1"}.get(host, host), int(port)
