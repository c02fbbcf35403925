"""What the chart has its containers run, run here: Redis, the test of a release, and the notes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.chart.mounted_files import mount
from tests.chart.rendering import (
    CHART,
    NAME,
    SETS,
    Object,
    objects_in,
    objects_of,
    run_helm,
    the,
)
from tests.command_line import run_command
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ROOT, ProxyProcess, create_token
from tests.redis_servers import binary_of

PASSWORD = yaml.safe_load(SETS["trial"].read_text())["secrets"]["redis-password"]


# Redis.


def redis_container() -> Object:
    pod = the("StatefulSet", objects_of("trial"), f"{NAME}-redis")["spec"]["template"]["spec"]
    (found,) = pod["containers"]
    return dict(found)


def redis_files() -> dict[str, str]:
    files: dict[str, str] = the("ConfigMap", objects_of("trial"), f"{NAME}-redis")["data"]
    return files


@contextmanager
def redis_of_the_chart(directory: Path) -> Iterator[int]:
    """Run the chart's Redis by the chart's script, its mounts below a directory; give its port."""
    port = free_port()
    places = {
        one["mountPath"]: directory / one["name"] for one in redis_container()["volumeMounts"]
    }
    for place in places.values():
        place.mkdir()
    inside = re.compile("|".join(map(re.escape, sorted(places, key=len, reverse=True))))

    def outside(text: str) -> str:
        return inside.sub(lambda found: str(places[found[0]]), text)

    for name, text in redis_files().items():
        (places["/etc/redis"] / name).write_text(outside(text))
    with (places["/etc/redis"] / "redis.conf").open("a") as conf:
        conf.write(f"port {port}\nbind 127.0.0.1\n")
    (places["/secrets"] / "redis-password").write_text(PASSWORD)
    programs = Path(binary_of("debian")).parent
    process = subprocess.Popen(
        [outside(word) for word in redis_container()["command"]],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def configuration_for(port: int, directory: Path) -> Path:
    """Write the trial's configuration with the chart's Redis at a port of this machine."""
    config = mount(objects_of("trial"), directory)
    text = config.read_text().replace(f"@{NAME}-redis:6379/", f"@127.0.0.1:{port}/")
    config.write_text(text.replace("http://listener:80", f"http://127.0.0.1:{port}"))
    return config


def wait_for_redis(config: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while run_command("token", "list", "--config", str(config)).returncode != 0:
        assert time.monotonic() < deadline, "Redis did not start"
        time.sleep(0.05)


def probe_redis(secrets: Path, port: int) -> tuple[int, str]:
    """Run the readiness probe of the chart's Redis here."""
    program = shutil.which("redis-cli")
    if program is None:
        pytest.skip("redis-cli (Debian: redis-tools) is not installed")
    *shell, script = redis_container()["readinessProbe"]["exec"]["command"]
    script = script.replace("/secrets/", f"{secrets}/")
    script = script.replace("redis-cli ", f"{program} -p {port} ")
    done = subprocess.run(
        [*shell, script], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def test_the_redis_of_the_chart_does_all_that_the_sidecar_asks_of_it(tmp_path: Path) -> None:
    """`check --connect` warns of no setting that loses tokens; a credential alone is missing."""
    (tmp_path / "redis").mkdir()
    with redis_of_the_chart(tmp_path / "redis") as port:
        config = configuration_for(port, tmp_path)
        wait_for_redis(config)
        assert probe_redis(tmp_path / "redis" / "secrets", port) == (0, "")
        (tmp_path / "redis" / "secrets" / "redis-password").write_text("another")
        assert probe_redis(tmp_path / "redis" / "secrets", port)[0] != 0
        checked = run_command("check", "--connect", "--strict", config=config)
        assert (checked.returncode, checked.stderr) == (0, "")
        settings = yaml.safe_load(config.read_text())
        settings |= {"listen": {"address": f"127.0.0.1:{free_port()}"}}
        settings |= {"operations": {"address": f"127.0.0.1:{free_port()}"}}
        with ProxyProcess(tmp_path, settings) as proxy:
            token = create_token(proxy.config, "acme", "shop")
            with proxy.connect() as sock:
                head = f"GET /v1/dynamic/listener/a HTTP/1.1\r\nHost: a\r\naccess_token: {token}"
                sock.sendall(f"{head}\r\n\r\n".encode())
                # Redis is no HTTP service: whoever sees that it is broken has been let through.
                assert b" 502 " in sock.recv(65536).splitlines()[0]


def test_the_password_of_redis_is_in_no_command(tmp_path: Path) -> None:
    container = str(redis_container())
    assert PASSWORD not in container
    assert "env" not in redis_container()


def test_redis_gives_the_rights_that_compose_gives() -> None:
    """They are compared with docs/reference/redis.md where Compose is tested."""
    compose = (ROOT / "deploy" / "compose" / "make-secrets.sh").read_text()
    (theirs,) = re.findall(r"^user sidecar .*?(~.*)$", compose, re.M)
    (ours,) = re.findall(r"^ *user sidecar .*?(~.*)$", redis_files()["start.sh"], re.M)
    assert ours == theirs


def test_redis_keeps_its_data_and_has_one_version_everywhere() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert redis_container()["image"] == compose["services"]["redis"]["image"]
    settings = (ROOT / "deploy" / "compose" / "redis.conf").read_text()
    for name in ("appendonly", "appendfsync", "maxmemory-policy", "dir", "maxmemory"):
        line = next(line for line in settings.splitlines() if line.startswith(f"{name} "))
        assert line in redis_files()["redis.conf"].splitlines()


# `helm test`.


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Serve one answer on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "exit_status"),
    [
        (200, b'{"ready": true, "reasons": []}', 0),
        (503, b'{"ready": false, "reasons": ["store"]}', 1),
    ],
)
def test_the_test_of_a_release_asks_if_it_is_ready(
    status: int, body: bytes, exit_status: int
) -> None:
    (container,) = the("Pod", objects_of("default"), f"{NAME}-test")["spec"]["containers"]
    program, url = container["args"]
    assert container["command"] == ["python3.11", "-c"]
    with answering(status, body) as port:
        asked = url.replace(f"{NAME}-operations:2022", f"127.0.0.1:{port}")
        done = subprocess.run(
            [sys.executable, "-c", program, asked],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == exit_status
    assert body.decode() in done.stdout + done.stderr


def test_the_test_of_a_release_asks_the_operations_service_and_may() -> None:
    objects = objects_of("default")
    pod = the("Pod", objects, f"{NAME}-test")
    service = the("Service", objects, f"{NAME}-operations")
    port = service["spec"]["ports"][0]["port"]
    url = f"http://{service['metadata']['name']}:{port}/readyz"
    assert pod["spec"]["containers"][0]["args"][1] == url
    rules = the("NetworkPolicy", objects)["spec"]["ingress"]
    (rule,) = (rule for rule in rules if rule["ports"] == [{"port": "operations"}])
    selectors = [
        peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer
    ]
    assert any(labels.items() <= pod["metadata"]["labels"].items() for labels in selectors)


# The notes.


@pytest.fixture(scope="module")
def noted_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the chart that renders its notes into a ConfigMap, as no cluster is here."""
    copy = tmp_path_factory.mktemp("noted") / NAME
    shutil.copytree(CHART, copy)
    notes = copy / "templates" / "NOTES.txt"
    define = '{{- define "notes" -}}\n' + notes.read_text() + "{{- end -}}\n"
    (copy / "templates" / "_notes.tpl").write_text(define)
    notes.unlink()
    (copy / "templates" / "notes.yaml").write_text(
        textwrap.dedent(
            """\
            apiVersion: v1
            kind: ConfigMap
            metadata: {name: notes}
            data:
              notes: |
                {{- include "notes" . | nindent 4 }}
            """
        )
    )
    return copy


def notes_of(chart: Path, values: Path) -> str:
    done = run_helm("template", NAME, str(chart), "--namespace", "shop", "--values", str(values))
    assert done.returncode == 0, done.stderr
    return str(the("ConfigMap", objects_in(done.stdout), "notes")["data"]["notes"])


NOTES: dict[str, list[str]] = {
    "default": [
        "create secret generic auth-sidecar",
        "--from-literal=store-url='redis://sidecar:PASSWORD@redis:6379/0'",
        "There is no account, so nobody may call yet.",
        "networkPolicy.upstream.podLabels ends that",
    ],
    "pod-sidecar": [
        '--from-literal=acme-password-hash="$(sidecar account hash-password)"',
        "exec deploy/auth-sidecar -c sidecar -- sidecar token create --account acme",
        "helm -n shop test auth-sidecar --logs",
        "Your container must listen on 127.0.0.1:9000 alone",
    ],
    "high-availability": ["--from-file=k1.pem", "--from-file=redis-ca.pem"],
    "https": ["port-forward service/auth-sidecar 8080:https", "https://127.0.0.1:8080/"],
    "trial": ["Redis is a single pod"],
    "library": ['- {{- include "auth-sidecar.container" (index .Subcharts "auth-sidecar")'],
}
NOT_NOTED: dict[str, list[str]] = {
    "trial": ["create secret", "There is no account"],
    "network-policy": ["podLabels ends that"],
    "ingress": ["config.trusted_proxies is empty"],
    "unix-socket": ["Your container must listen"],
    "library": ["port-forward"],
}


@pytest.mark.parametrize("name", SETS)
def test_the_notes_say_what_to_do_next(name: str, noted_chart: Path) -> None:
    notes = notes_of(noted_chart, SETS[name])
    assert [line for line in NOTES.get(name, []) if line not in notes] == []
    assert [line for line in NOT_NOTED.get(name, []) if line in notes] == []
    assert "\n\n\n" not in notes


def test_the_notes_warn_of_callers_that_all_look_like_the_proxy(
    noted_chart: Path, tmp_path: Path
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("ingress: {enabled: true, hosts: [{host: a.example.com}]}")
    assert "config.trusted_proxies is empty" in notes_of(noted_chart, values)
