"""Who is calling, by what a trusted proxy wrote: nginx, Caddy and HAProxy beside us."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import plain_settings, redis_binary
from tests.interop.decision_fronts import pick_port
from tests.interop.peers import CADDY_HEAD, HAPROXY_HEAD, NGINX_HEAD, running_peer
from tests.proxy_process import ProxyProcess
from tests.redis_servers import running_redis

CONFIGURATIONS = {
    "nginx": NGINX_HEAD
    + """
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        set_real_ip_from 127.0.0.0/8;
        real_ip_header X-Forwarded-For;
        real_ip_recursive on;
        location / {{ return 200 $remote_addr; }}
    }}
}}
""",
    "caddy": CADDY_HEAD  # 2.6 tells no client: it is asked whether it would be one of these
    + """
}}
http://127.0.0.1:{port} {{
    @four remote_ip forwarded 198.51.100.9
    @six remote_ip forwarded 2a00::5
    respond @four 198.51.100.9
    respond @six 2a00::5
    respond other
}}
""",
    "haproxy": HAPROXY_HEAD
    + """
frontend told
    bind 127.0.0.1:{port}
    http-request set-src req.hdr(x-forwarded-for,-1) if {{ src 127.0.0.0/8 }}
    http-request return status 200 content-type text/plain lf-string %[src]
""",
}


def guess(name: str) -> dict[str, str]:
    """Return the field of a wrong password, for an account whose name holds no colon."""
    sent = f"{name}:wrong".replace(":", "-", name.count(":"))
    return {"Authorization": f"Basic {base64.b64encode(sent.encode()).decode()}"}


class Peers:
    """Three proxies that tell whom they take for the caller, and the sidecar."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._ports: dict[str, int] = {}
        for name, text in CONFIGURATIONS.items():
            place = directory / name
            place.mkdir()
            port = self._ports[name] = pick_port()
            filled = text.format(port=port, directory=place, connections=64)
            stack.enter_context(running_peer(name, place, port, filled))
        redis = stack.enter_context(running_redis(redis_binary(), directory))
        settings = plain_settings(redis, f"http://127.0.0.1:{pick_port()}")
        settings["trusted_proxies"] = ["127.0.0.0/8"]
        settings["throttle"] = {"failures": 3, "window": "1m", "ban": "1m"}
        place = directory / "sidecar"
        place.mkdir()
        self.sidecar = stack.enter_context(ProxyProcess(place, settings))
        self._seen = 0

    def told(self, fields: dict[str, str]) -> dict[str, str]:
        """Return whom each takes for the caller, ``sidecar`` among them."""
        told = {}
        for name, port in self._ports.items():
            told[name] = self._ask(port, fields)[1].strip()
        self._ask(self.sidecar.port, fields)
        return {**told, "sidecar": self.last_client()}

    def last_client(self) -> str:
        while len(lines := self.sidecar.access_lines()) == self._seen:
            pass
        self._seen = len(lines)
        return str(lines[-1]["client"])

    def status(self, fields: dict[str, str]) -> int:
        answer = self._ask(self.sidecar.port, fields)[0]
        self.last_client()
        return answer

    @staticmethod
    def _ask(port: int, fields: dict[str, str]) -> tuple[int, str]:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            asking.request("GET", "/v1/dynamic/listener/1", headers=fields)
            answer = asking.getresponse()
            return answer.status, answer.read().decode()
        finally:
            asking.close()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(tmp_path_factory.mktemp("peers"), stack)


@pytest.mark.parametrize(
    ("written", "client"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("198.51.100.9:1234", "198.51.100.9"),
        ("203.0.113.7, 198.51.100.9", "198.51.100.9"),
        ("198.51.100.9, 127.0.0.9", "198.51.100.9"),
        ("198.51.100.9,", "198.51.100.9"),
        ("[2a00::5]:4711", "2a00::5"),
        ("[2a00::5]", "2a00::5"),
        ("2a00::5", "2a00::5"),
        ("2a00::5%eth0", "2a00::5"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
        ('"198.51.100.9"', "198.51.100.9"),
        ('"[2a00::5]:80"', "2a00::5"),
        ("unknown", "unknown"),
        ("203.0.113.7, unknown", "unknown"),
        ("203.0.113.7, _hidden, 127.0.0.9", "unknown"),
    ],
)
def test_the_client_is_found_wherever_a_peer_finds_it(
    peers: Peers, written: str, client: str
) -> None:
    told = peers.told({"X-Forwarded-For": written})
    assert told["sidecar"] == client, told


@pytest.mark.parametrize(
    ("field", "guesser", "other"),
    [
        ("X-Forwarded-For", "198.51.100.21:1234", "198.51.100.22:1234"),
        ("X-Forwarded-For", "[2a00:1::5]:4711", "[2a00:2::5]:4711"),
        ("X-Forwarded-For", '"198.51.100.23"', '"198.51.100.24"'),
        ("X-Forwarded-For", "198.51.100.25,", "198.51.100.26,"),
        ("Forwarded", "for=198.51.100.27", "for=198.51.100.28"),
        ("Forwarded", 'for="[2a00:3::5]:4711"', 'for="[2a00:4::5]:4711"'),
    ],
)
def test_three_bad_passwords_of_one_caller_ban_that_one_alone(
    peers: Peers, field: str, guesser: str, other: str
) -> None:
    for number in range(3):
        assert peers.status({field: guesser, **guess(f"a{number}{guesser}")}) == 401
    assert peers.status({field: guesser, **guess(f"b{guesser}")}) == 429
    assert peers.status({field: other, **guess(f"b{other}")}) == 401


def test_callers_that_the_proxy_does_not_name_never_ban_each_other(peers: Peers) -> None:
    for number in range(6):
        assert peers.status({"X-Forwarded-For": "unknown", **guess(f"unknown-{number}")}) == 401
