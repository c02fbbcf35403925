"""A page of another origin, in a real browser, calls a route and reads its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.in_process import TOKEN, Peer, Proxy, running_proxy
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")

FETCH = """
async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    const body = await answer.text();
    const code = body.startsWith("{") ? JSON.parse(body).code : body;
    return [answer.status, code, answer.headers.get("X-Request-Id") !== null];
  } catch (error) {
    return [0, error.name, false];
  }
}
"""
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    """Serve an empty page; yield its origin."""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text="<title>shop</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def staged(chromium: Browser) -> AsyncIterator[tuple[Proxy, Any]]:
    """Yield a proxy, and what a page of another origin gets from it."""

    async def answer(peer: Peer) -> None:
        while await peer.until(b"\r\n\r\n"):
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async with page_server() as origin:
        cors = {"origins": [origin], "expose_headers": ["X-Request-Id"]}
        routes: list[dict[str, Any]] = [
            {"path": "/named/**", "methods": ["GET", "PUT"], "cors": cors},
            {"path": "/others/**", "cors": {"origins": ["https://shop.example"]}},
            {"path": "/few/**", "cors": {**cors, "headers": ["X-A"]}},
            {"path": "/any/**", "cors": {"origins": ["*"]}},
            {"path": "/plain/**"},
        ]
        async with running_proxy(answer, routes=routes) as proxy:
            context = await chromium.new_context()
            context.set_default_timeout(PATIENCE_SECONDS * 1000)
            page = await context.new_page()
            await page.goto(origin)

            async def fetch(path: str, **options: Any) -> list[Any]:
                url = f"http://127.0.0.1:{proxy.port}{path}"
                told: list[Any] = await page.evaluate(FETCH, [url, options])
                return told

            yield proxy, fetch
            await context.close()


async def test_a_page_of_a_named_origin_reads_answers_and_refusals(chromium: Browser) -> None:
    async with staged(chromium) as (proxy, fetch):
        assert await fetch("/named/a", headers=BEARER) == [200, "hello", False]
        assert await fetch("/named/a", method="PUT", body="x", headers=BEARER) == [
            200,
            "hello",
            False,
        ]
        wrong = {"Authorization": "Bearer nobody-knows-this-one"}
        assert await fetch("/named/a", headers=wrong) == [401, "invalid_token", True]
        assert await fetch("/named/a") == [401, "missing_credentials", True]
        methods = [entry.method for entry in proxy.entries]
        assert methods == ["OPTIONS", "GET", "PUT", "GET", "GET"], "one preflight serves them all"


async def test_a_page_of_any_origin_reads_them_where_all_are_named(chromium: Browser) -> None:
    async with staged(chromium) as (_, fetch):
        assert await fetch("/any/a", headers=BEARER) == [200, "hello", False]
        assert (await fetch("/any/a"))[:2] == [401, "missing_credentials"]


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/others/a", {"headers": BEARER}),
        ("/others/a", {}),
        ("/plain/a", {"headers": BEARER}),
        ("/plain/a", {}),
        ("/named/a", {"method": "DELETE"}),
        ("/few/a", {"headers": BEARER}),
        ("/named/a", {"headers": BEARER, "credentials": "include"}),
    ],
)
async def test_a_page_reads_nothing_that_it_may_not(
    chromium: Browser, path: str, options: dict[str, Any]
) -> None:
    async with staged(chromium) as (_, fetch):
        assert await fetch(path, **options) == [0, "TypeError", False]
