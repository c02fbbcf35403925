"""What becomes of answers that are not HTTP/1.1 to the letter, here and at four peers.

``pytest -s`` prints a row for each: the sidecar must do as its table says, whatever the peers do.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import redis_binary
from tests.interop.answer_cases import NAMES, LooseService, outcome
from tests.interop.early_proxies import (
    Hops,
    place_caddy,
    place_envoy,
    place_haproxy,
    place_nginx,
)
from tests.interop.test_assertion_examples import running
from tests.ports import free_port
from tests.proxy_process import ProxyProcess
from tests.redis_servers import running_redis

PLACERS = {
    "nginx": place_nginx,
    "envoy": place_envoy,
    "haproxy": place_haproxy,
    "caddy": place_caddy,
}
REFUSED = (
    "white space before the first name",
    "CR in the reason",
    "status of two digits",
    "status of four digits",
    "white space before the status line",
    "lower-case protocol",
    "HTTP/2.0",
    "line without a colon",
    "empty name",
    "space within a name",
    "delimiter within a name",
    "control character in a value",
    "NUL in a value",
    "CR in a value",
    "Content-Length and Transfer-Encoding",
    "Content-Length twice, different",
    "Content-Length: +2",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "white space before a chunk size",
    "bare LF after a chunk size",
    "bare LF after a chunk",
    "chunk size 0x2",
    "101 nobody asked for",
    "end within the head",
    "101 without Upgrade",
    "101 with Connection: close",
)
AS_IT_IS = (
    "space before the colon of Content-Length",
    "control character in the reason",
    "DEL in the reason",
    "two spaces before the status",
    "empty lines before the status line",
    "HTTP/1.2",
    "Content-Length twice, the same",
    "Content-Length: 2, 2",
)
IN_CHUNKS = (
    "space before the colon of Transfer-Encoding",
    "HTTP/1.0 with Transfer-Encoding",
    "chunk extension",
    "chunk extension with white space",
    "white space after a chunk size",
)
EXPECTED = {
    **dict.fromkeys(REFUSED, "502"),
    **dict.fromkeys(AS_IT_IS, "200 OK | ok"),
    **dict.fromkeys(IN_CHUNKS, r"200 OK | 2\r\nok\r\n0\r\n\r\n"),
    "obs-fold": r"200 OK | X-A: b c | ok",
    "no reason": r"200  | ok",
    "no reason and no space": r"200  | ok",
    "tab in the reason": r"200 O\tK | ok",
    "UTF-8 in the reason": r"200 F\xc3\xbcr | ok",
    "status 600": r"600 OK | ok",
    "status 999": r"999 OK | ok",
    "UTF-8 in a value": r"200 OK | X-A: \xc3\xbc | ok",
    "204 with a length and a body": r"204 No Content | ",
    "304 with a length and a body": r"304 Not Modified | ",
    "101": r"101 Switching Protocols | hi",
    "101 without Connection": r"101 Switching Protocols | hi",
    "101 with Connection: keep-alive, Upgrade": r"101 Switching Protocols | hi",
}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Yield the ports of the sidecar and of its peers; of those that are installed."""
    service = LooseService()
    hops = Hops(service.port, service.port, Path("/nowhere"))
    with ExitStack() as stack:
        stack.callback(service.close)
        redis = stack.enter_context(running_redis(redis_binary(), tmp_path_factory.mktemp("redis")))
        settings = {
            "upstreams": {"tcp": {"url": f"http://127.0.0.1:{service.port}"}},
            "routes": [{"path": "/tcp/**", "public": True}],
            "accounts": {"acme": {}},
            "store": {"url": redis.unix_url},
        }
        sidecar = stack.enter_context(ProxyProcess(tmp_path_factory.mktemp("sidecar"), settings))
        found = {"sidecar": sidecar.port}
        for name, place_peer in PLACERS.items():
            if name != "envoy" and shutil.which(name) is None:
                continue
            port = free_port()
            command = place_peer(tmp_path_factory.mktemp(name), port, hops)
            found[name] = stack.enter_context(running(command, port, add_port=False))
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_a_loose_answer_is_put_right_passed_on_or_refused(ports: dict[str, int], name: str) -> None:
    found = {proxy: outcome(port, name) for proxy, port in ports.items()}
    print(f"| {name} | " + " | ".join(f"`{text}`" for text in found.values()) + " |")
    assert found["sidecar"] == EXPECTED.get(name, "200 OK | X-A: b | ok")
