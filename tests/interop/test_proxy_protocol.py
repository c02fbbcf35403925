"""PROXY headers: HAProxy sends them to us, and nginx and HAProxy read the same ones beside us."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import plain_settings, redis_binary
from tests.interop.decision_fronts import pick_port
from tests.interop.peers import HAPROXY_HEAD, NGINX_HEAD, running_peer
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import running_redis
from tests.unit.core.test_proxy_protocol import READ, REFUSED
from tests.upstream_recorder import Recorder

SENDERS = {
    "send-proxy": "send-proxy",
    "send-proxy-v2": "send-proxy-v2",
    "send-proxy-v2 with TLVs": "send-proxy-v2 proxy-v2-options unique-id,crc32c",
}
SENDER = (
    HAPROXY_HEAD
    + """
frontend all
    bind 127.0.0.1:{port}
    unique-id-format %ID
    default_backend sidecar
backend sidecar
    server one 127.0.0.1:{sidecar} {how} check inter 100ms
"""
)
READERS = {
    "nginx": NGINX_HEAD
    + """
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        set_real_ip_from 127.0.0.0/8;
        real_ip_header proxy_protocol;
        location / {{ return 200 $remote_addr; }}
    }}
}}
""",
    "haproxy": HAPROXY_HEAD
    + """
frontend told
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string %[src]
""",
}
ASK = b"GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    with ExitStack() as stack:
        place = tmp_path_factory.mktemp("sidecar")
        redis = stack.enter_context(running_redis(redis_binary(), place))
        recorder = Recorder()
        stack.callback(recorder.close)
        settings = plain_settings(redis, recorder.url)
        settings["listen"] = {"address": f"127.0.0.1:{free_port()}", "proxy_protocol": True}
        settings["trusted_proxies"] = ["127.0.0.0/8"]
        yield stack.enter_context(ProxyProcess(place, settings))


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with ExitStack() as stack:
        ports = {}
        for name, text in READERS.items():
            place, port = tmp_path_factory.mktemp(name), pick_port()
            filled = text.format(port=port, directory=place, connections=64)
            stack.enter_context(running_peer(name, place, port, filled))
            ports[name] = port
        yield ports


def clients(sidecar: ProxyProcess, count: int) -> list[str]:
    """Return the clients of the access log, once it has ``count`` lines."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len(sidecar.access_lines()) < count:
        assert time.monotonic() < end
        time.sleep(0.01)
    return [line["client"] for line in sidecar.access_lines()]


@pytest.mark.parametrize("how", SENDERS)
def test_haproxy_says_who_calls_and_its_checks_pass(
    sidecar: ProxyProcess, tmp_path: Path, how: str
) -> None:
    port, before = pick_port(), len(sidecar.access_lines())
    text = SENDER.format(port=port, sidecar=sidecar.port, how=SENDERS[how])
    with running_peer("haproxy", tmp_path, port, text):
        time.sleep(0.5)  # some health checks: connections that say LOCAL, or nothing
        for number in range(3):
            source = (f"127.0.0.{number + 20}", 0)
            asking = http.client.HTTPConnection("127.0.0.1", port, 20, source_address=source)
            asking.request("GET", "/status")
            assert asking.getresponse().status == 200
            asking.close()
    assert clients(sidecar, before + 3)[before:] == [f"127.0.0.{n + 20}" for n in range(3)]


def read_by(port: int, header: bytes) -> str:
    """Return the body of the answer, or that the connection was closed."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as asking:
        try:
            asking.sendall(header + ASK)
            answer = b""
            while piece := asking.recv(4096):
                answer += piece
        except ConnectionError:
            return "closed"
    if not answer:
        return "closed"
    return answer.partition(b"\r\n\r\n")[2].decode().strip() if b" 200 " in answer else "refused"


@pytest.mark.parametrize(("header", "client"), READ)
def test_each_header_that_a_peer_reads_is_read_alike(
    sidecar: ProxyProcess, readers: dict[str, int], header: bytes, client: str
) -> None:
    before = len(sidecar.access_lines())
    assert read_by(sidecar.port, header) not in ("closed", "refused")
    ours = clients(sidecar, before + 1)[-1]
    assert ours == (client or "127.0.0.1")
    for name, port in readers.items():
        theirs = read_by(port, header).removeprefix("::ffff:")
        without_address = theirs in ("127.0.0.1", "closed", "refused", "unix:", "")
        assert theirs == ours or without_address, name


@pytest.mark.parametrize("begun", REFUSED)
def test_what_we_refuse_is_never_served(sidecar: ProxyProcess, begun: bytes) -> None:
    assert read_by(sidecar.port, begun) == "closed"
