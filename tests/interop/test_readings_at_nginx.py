"""What nginx serves is what was judged, though it merges slashes and decodes them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.config.settings import Settings
from sidecar.runtime.build import build_rules
from tests.in_process import TOKEN, running_proxy
from tests.interop.test_assertion_examples import running_nginx

LOCATIONS = """
        location / { return 200 "open"; }
        location /admin/ { return 200 "secret"; }
"""
ROUTES = [
    {"path": "/admin/**", "encoded_slash": True},
    {"path": "/**", "public": True, "encoded_slash": True},
]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of an nginx that shows its secret to whoever asks it."""
    with running_nginx(tmp_path_factory.mktemp("nginx"), LOCATIONS) as port:
        yield port


async def ask(port: int, path: str, *lines: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *lines, "", ""]
    writer.write("\r\n".join(head).encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "path",
    ["/admin/x", "//admin/x", "///admin//x", "/admin//x", "/admin%2Fx", "/%2fadmin%2fx"],
)
async def test_the_service_alone_would_show_it(nginx: int, path: str) -> None:
    assert await ask(nginx, path) == (200, b"secret")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/x", 401),
        ("//admin/x", 400),
        ("///admin//x", 400),
        ("/admin//x", 401),
        ("//admin/x?a", 400),
        ("/;/admin/x", 400),
        ("/a//b", 200),
        ("//a", 200),
        ("/a;v=1", 200),
        ("/admin%2Fx", 400),
        ("/%2Fadmin/x", 400),
        ("/%2fadmin%2fx", 400),
        ("/a%2F..%2Fadmin/x", 400),
        ("/admin/a%2Fb", 401),
        ("/a%2Fb", 200),
    ],
)
async def test_behind_the_sidecar_no_spelling_shows_it_without_a_token(
    nginx: int, path: str, status: int
) -> None:
    async with running_proxy() as proxy:
        settings = Settings.model_validate(
            {
                "upstreams": {"nginx": {"url": f"http://127.0.0.1:{nginx}"}},
                "routes": ROUTES,
                "accounts": {"acme": {}},
            },
            context={"directory": Path()},
        )
        proxy.gateway.rules = build_rules(settings, asyncio.get_running_loop())
        told, body = await ask(proxy.port, path)
        assert told == status
        assert body == b"open" if status == 200 else b"secret" not in body
        bearer = f"Authorization: Bearer {TOKEN}"
        assert await ask(proxy.port, "/admin/x", bearer) == (200, b"secret")
        proxy.gateway.rules.upstreams["nginx"].pool.close()
