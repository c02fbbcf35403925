"""Debian's Chromium, driven by Playwright; skipped with its reason where a part is missing."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.browser.portal_stage import PASSWORD, PortalStage, running_portal
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).resolve().parent.parent.parent / "docs" / "screenshots"

Opened = Callable[..., Awaitable["Page"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """Run the browser without any network but this machine's own."""
    playwright = pytest.importorskip("playwright.async_api")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[PortalStage]:
    """Serve a portal of this test alone."""
    async with running_portal() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def opened(chromium: Browser, stage: PortalStage) -> AsyncIterator[Opened]:
    """Open the portal in a browser of its own; what its console says of errors fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def open_page(*, signed_in: bool = False, **options: Any) -> Page:
        options.setdefault("viewport", {"width": 1120, "height": 760})
        context = await chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        contexts.append(context)
        page = await context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(stage.url)
        if signed_in:
            await sign_in(page)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    # A form that comes back with 4xx is a line in the console; anything else is a fault of ours.
    expected = re.compile("Failed to load resource: the server responded with a status of 4")
    assert [text for text in complaints if not expected.match(text)] == []


@pytest.fixture
def shoot() -> Callable[[Page, str], Awaitable[None]]:
    """Take a picture for the documentation, when asked for with ``SCREENSHOTS=1``."""

    async def take(page: Page, name: str) -> None:
        if os.environ.get("SCREENSHOTS"):
            await page.mouse.move(0, 0)
            await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return take


async def sign_in(page: Page, account: str = "acme", password: str = PASSWORD) -> None:
    """Fill in the sign-in form and send it."""
    await page.get_by_label("Account").fill(account)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
