"""An nginx behind compresses for our callers as for its own, where no ``Via`` forbids it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.config.settings import Settings
from sidecar.runtime.build import build_rules
from tests.in_process import running_proxy
from tests.interop.test_assertion_examples import running_nginx

TEXT = "all work and no play " * 100
LOCATIONS = f"""
        gzip on;
        default_type text/html;
        location /off {{ return 200 "{TEXT}"; }}
        location /any {{ gzip_proxied any; return 200 "{TEXT}"; }}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of an nginx that compresses, as its documentation shows it."""
    with running_nginx(tmp_path_factory.mktemp("nginx"), LOCATIONS) as port:
        yield port


async def fetch(port: int, path: str, *lines: str) -> tuple[bool, bytes]:
    """Return whether the answer is compressed, and its text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = [f"GET {path} HTTP/1.1", "Host: a", "Accept-Encoding: gzip", "Connection: close"]
    writer.write("\r\n".join([*sent, *lines, "", ""]).encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    if b"Transfer-Encoding: chunked" in head:
        size, _, rest = body.partition(b"\r\n")
        body = rest[: int(size, 16)]
    is_compressed = b"Content-Encoding: gzip" in head
    return is_compressed, gzip.decompress(body) if is_compressed else body


@pytest.mark.parametrize(
    ("via", "path", "lines", "is_compressed"),
    [
        (True, "/off", [], False),
        (False, "/off", [], True),
        (True, "/any", [], True),
        (False, "/any", [], True),
        (False, "/off", ["Via: 1.1 cdn"], False),
    ],
)
async def test_an_answer_is_compressed_unless_nginx_sees_a_via(
    nginx: int, via: bool, path: str, lines: list[str], is_compressed: bool
) -> None:
    assert await fetch(nginx, "/off") == (True, TEXT.encode())
    async with running_proxy() as proxy:
        settings = Settings.model_validate(
            {
                "upstreams": {"nginx": {"url": f"http://127.0.0.1:{nginx}", "via": via}},
                "routes": [{"path": "/**", "public": True}],
            },
            context={"directory": Path()},
        )
        proxy.gateway.rules = build_rules(settings, asyncio.get_running_loop())
        assert await fetch(proxy.port, path, *lines) == (is_compressed, TEXT.encode())
        proxy.gateway.rules.upstreams["nginx"].pool.close()
