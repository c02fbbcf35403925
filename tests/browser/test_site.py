"""The documentation site in a real browser: search, keyboard, schemes, versions, accessibility."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.patience import PATIENCE_SECONDS
from website import build, versions

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = (
    "",
    "tutorial/first-ten-minutes/",
    "how-to/upgrade/",
    "reference/configuration/",
    "reference/commands/",
    "architecture/",
    "explanation/performance/",
)
WIDTHS = (360, 768, 1280, 1920)
SERIOUS = {"serious", "critical"}
OTHER_VERSION = "0.1"
VERSION = "0.2"
IS_TYPING = """() => {
    let focused = document.activeElement;
    while (focused?.shadowRoot) focused = focused.shadowRoot.activeElement;
    return focused instanceof HTMLInputElement;
}"""
"""A script that tells whether keys go into a field: the search takes a moment to open."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve two versions of the site; return the address of the newer one."""
    pytest.importorskip("zensical")
    directory = tmp_path_factory.mktemp("site")
    site = build.build(directory / "built", has_versions=True)
    for version in (OTHER_VERSION, VERSION):
        versions.add(site, directory / "pages", version)
    handler = functools.partial(Quiet, directory=str(directory / "pages"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{VERSION}/"
        server.shutdown()


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser, site_url: str) -> AsyncIterator[Page]:
    """Open a page; an error, or a request to anybody else, fails the test."""
    context = await chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    page = await context.new_page()
    complaints: list[str] = []
    own = site_url.removesuffix(f"{VERSION}/")

    def look_at(url: str) -> None:
        if not url.startswith((own, "data:", "blob:")):
            complaints.append(f"requested {url}")

    page.on("request", lambda request: look_at(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "response",
        lambda answer: complaints.append(answer.url) if answer.status >= 400 else None,
    )
    await page.goto(site_url)
    yield page
    await context.close()
    assert complaints == []


async def test_the_search_finds_a_key_by_keyboard_alone(page: Page) -> None:
    await page.keyboard.press("/")
    await page.wait_for_function(IS_TYPING)
    await page.keyboard.type("outage_grace")
    await page.get_by_text("results").first.wait_for()
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"\?h=outage_grace"))
    assert page.url.endswith("/reference/configuration/?h=outage_grace#store.outage_grace")
    row = page.get_by_role("row").filter(has=page.locator(".key:target"))
    assert "while Redis is away" in await row.inner_text()


async def test_the_first_stop_of_the_keyboard_skips_to_the_content(page: Page) -> None:
    await page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert await focused.inner_text() == "Skip to content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.closest('.md-content, main') !== null")


async def test_the_picker_lists_both_versions_and_leads_to_the_other(page: Page) -> None:
    picker = page.locator(".md-version")
    await picker.wait_for()
    await picker.get_by_role("button").focus()
    await picker.get_by_role("link", name=OTHER_VERSION).wait_for()
    links = await picker.locator("a").evaluate_all("links => links.map(link => link.href)")
    assert [link.rstrip("/").rsplit("/", 1)[1] for link in links] == [VERSION, OTHER_VERSION]
    await picker.get_by_role("link", name=OTHER_VERSION).click()
    await page.wait_for_url(f"**/{OTHER_VERSION}/")


async def test_an_old_version_says_that_there_is_a_newer_one(page: Page, site_url: str) -> None:
    banner = page.get_by_text("This is not the latest release.")
    assert not await banner.is_visible()
    await page.goto(site_url.replace(VERSION, OTHER_VERSION))
    await banner.wait_for()
    await page.get_by_role("link", name="Read the latest.").click()
    await page.wait_for_url("**/latest/**")


async def test_the_scheme_follows_the_system_and_can_be_switched(page: Page) -> None:
    async def scheme() -> str | None:
        return await page.locator("body").get_attribute("data-md-color-scheme")

    await page.emulate_media(color_scheme="dark")
    await page.reload()
    assert await scheme() == "slate"
    await page.get_by_title("Switch to light mode").first.click()
    await page.wait_for_selector('body[data-md-color-scheme="default"]')
    await page.reload()
    assert await scheme() == "default"


async def test_a_block_of_code_can_be_copied(page: Page, site_url: str) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy to clipboard").nth(1).click()
    await page.wait_for_function(
        "navigator.clipboard.readText().then(text => text.trim() == 'make run')"
    )


async def test_diagrams_are_drawn_without_a_script_and_legible_in_the_dark(
    page: Page, site_url: str
) -> None:
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{site_url}architecture/")
    text = page.locator(".diagram svg text").first
    assert await text.evaluate("text => getComputedStyle(text).fill") == await page.locator(
        "body"
    ).evaluate("body => getComputedStyle(body).color")
    assert await page.locator("pre.mermaid, .mermaid").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
async def test_no_page_is_wider_than_the_window(page: Page, site_url: str, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    for path in PAGES:
        await page.goto(f"{site_url}{path}")
        overflow = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(page: Page, site_url: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.async_playwright").Axe()
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for path in PAGES:
        await page.goto(f"{site_url}{path}")
        found = (await axe.run(page, options={"resultTypes": ["violations"]})).response
        serious = [
            (one["id"], [node["html"][:200] for node in one["nodes"][:4]], len(one["nodes"]))
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]
        assert serious == [], path
