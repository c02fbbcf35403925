"""What people do on the page, in a real browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest

from sidecar.core.model import LastUse
from sidecar.portal.sessions import IDLE_SECONDS
from tests.browser.conftest import Opened, sign_in
from tests.browser.portal_stage import PASSWORD, PortalStage

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="module")

Shoot = Callable[["Page", str], Awaitable[None]]
SERIOUS = {"serious", "critical"}
# Between the two schemes nothing differs but colours, and a whole check takes long.
AXE_OPTIONS: dict[Literal["light", "dark"], dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast"]},
}
WIDTHS = (480, 768, 900, 1055, 1060, 1100, 1920)
PHONE = {"width": 360, "height": 740}


async def create(page: Page, name: str, days: str, password: str = PASSWORD) -> None:
    await page.get_by_label("Token Name").fill(name)
    await page.get_by_label("Days").fill(days)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Create token").click()


async def token_on(page: Page) -> str:
    return await page.get_by_label("Token", exact=True).input_value()


async def text_of(page: Page) -> str:
    return await page.locator("main").inner_text()


async def fill_table(stage: PortalStage) -> None:
    """Leave tokens of every state: about to end, unlimited, used, limited to paths, replaced."""
    day = 86400
    stage.now -= 80 * day
    await stage.create("acme", "Warehouse sync", 90)
    stage.now += 75 * day
    erp, _ = await stage.create("acme", "ERP", 0)
    stage.now += 5 * day
    shop, _ = await stage.create("acme", "Shop", 365, paths=["/v1/dynamic/listener/{id}"])
    await stage.config.lifecycle.rotate(shop.id, 3600, "acme")
    await stage.store.record_use([(LastUse(stage.now - 240, "203.0.113.7"), [erp.digest])])
    stage.now += 60


async def test_signing_in_and_out(opened: Opened, shoot: Shoot) -> None:
    page = await opened()
    await shoot(page, "sign-in")
    await sign_in(page, password="wrong")
    assert "The account or the password is wrong" in await text_of(page)
    assert await page.get_by_label("Account").input_value() == "acme"
    assert await page.get_by_label("Password").input_value() == ""
    await shoot(page, "wrong-password")
    await sign_in(page)
    assert "No API keys yet" in await text_of(page)
    await shoot(page, "empty")
    await page.get_by_role("button", name="Sign out").click()
    assert "You are signed out" in await text_of(page)
    await page.go_back()
    assert "Sign in" in await text_of(page)


@pytest.mark.parametrize(("days", "end"), [("30", "23 Dec 2026"), ("0", "Never")])
async def test_a_token_is_created_copied_and_listed(
    stage: PortalStage, opened: Opened, shoot: Shoot, days: str, end: str
) -> None:
    page = await opened(signed_in=True, permissions=["clipboard-read", "clipboard-write"])
    await create(page, "Shop", days)
    assert end in await text_of(page)
    secret = await token_on(page)
    assert await stage.is_live(secret)
    await page.get_by_role("button", name="Copy token").click()
    await page.get_by_text("Copied").wait_for()
    assert await page.evaluate("navigator.clipboard.readText()") == secret
    await shoot(page, "created")
    await page.get_by_role("link", name="Done").click()
    row = page.get_by_role("row", name="Shop")
    assert end in await row.inner_text()
    assert secret not in await page.content()


async def test_reloading_a_new_token_makes_no_second_one(
    stage: PortalStage, opened: Opened
) -> None:
    page = await opened(signed_in=True)
    await create(page, "Shop", "30")
    await page.get_by_label("Token", exact=True).wait_for()  # else there is no page to reload yet
    await page.reload()
    assert "This form was sent before" in await text_of(page)
    assert await stage.names("acme") == ["Shop"]


async def test_a_wrong_password_at_creation_keeps_what_was_entered(
    stage: PortalStage, opened: Opened, shoot: Shoot
) -> None:
    page = await opened(signed_in=True)
    await create(page, "Shop", "soon", "")
    await shoot(page, "errors")
    await page.get_by_role("link", name="Enter a whole number of days").click()
    assert await page.evaluate("document.activeElement.id") == "days"
    await create(page, "Shop", "30", "wrong")
    assert "This is not your password" in await text_of(page)
    assert await page.get_by_label("Token Name").input_value() == "Shop"
    assert await page.get_by_label("Days").input_value() == "30"
    assert await page.get_by_label("Password").input_value() == ""
    assert await stage.names("acme") == []


async def test_what_is_wrong_is_in_view_also_below_a_long_list(
    stage: PortalStage, opened: Opened
) -> None:
    from playwright.async_api import expect

    for number in range(40):
        await stage.create("acme", f"system {number}")
    page = await opened(signed_in=True)
    await create(page, "system 7", "30")
    await expect(page.get_by_role("alert")).to_be_in_viewport()
    await expect(page.get_by_label("Token Name")).to_be_in_viewport()


async def test_the_table_shows_every_state(
    stage: PortalStage, opened: Opened, shoot: Shoot
) -> None:
    await fill_table(stage)
    page = await opened(signed_in=True)
    rows = [await row.inner_text() for row in await page.get_by_role("row").all()]
    by_name = {text.split()[0]: text for text in rows[:0:-1]}
    assert "Expires in 10 days" in by_name["Warehouse"]
    assert "Never" in by_name["ERP"]
    assert "5 minutes ago" in by_name["ERP"]
    assert "from 203.0.113.7" in by_name["ERP"]
    assert "/v1/dynamic/listener/{id}" in by_name["Shop"]
    assert sum("Replaced" in text for text in rows) == 1
    await shoot(page, "keys")
    await page.emulate_media(color_scheme="dark")
    await shoot(page, "keys-dark")


async def test_last_use_changes_when_the_token_is_used(stage: PortalStage, opened: Opened) -> None:
    record, _ = await stage.create("acme", "Shop")
    page = await opened(signed_in=True)
    assert "Not yet" in await page.get_by_role("row", name="Shop").inner_text()
    await stage.store.record_use([(LastUse(stage.now, "203.0.113.7"), [record.digest])])
    await page.reload()
    assert "just now" in await page.get_by_role("row", name="Shop").inner_text()


async def test_a_rotated_token_and_its_successor_work_until_the_overlap_ends(
    stage: PortalStage, opened: Opened, shoot: Shoot
) -> None:
    _, old = await stage.create("acme", "Shop")
    page = await opened(signed_in=True)
    await page.get_by_role("link", name="Rotate Shop").click()
    assert await page.get_by_label("Overlap").input_value() == "1h"
    await page.get_by_label("Password").fill(PASSWORD)
    await shoot(page, "rotate")
    await page.get_by_role("button", name="Rotate token").click()
    new = await token_on(page)
    assert "Works for 1 hour at most" in await text_of(page)
    assert (await stage.is_live(old), await stage.is_live(new)) == (True, True)
    await page.get_by_role("link", name="Done").click()
    assert "Replaced" in await text_of(page)
    assert await page.get_by_role("link", name="Rotate Shop").count() == 1
    await shoot(page, "rotated")
    stage.now += 3601
    assert (await stage.is_live(old), await stage.is_live(new)) == (False, True)


async def test_revoking_asks_first(stage: PortalStage, opened: Opened, shoot: Shoot) -> None:
    _, secret = await stage.create("acme", "Shop")
    page = await opened(signed_in=True)
    await page.get_by_role("link", name="Revoke Shop").click()
    await shoot(page, "revoke")
    await page.get_by_role("link", name="Keep it").click()
    assert await stage.is_live(secret)
    await page.get_by_role("link", name="Revoke Shop").click()
    await page.get_by_role("button", name="Revoke token").click()
    assert "Shop is revoked" in await text_of(page)
    assert not await stage.is_live(secret)
    await shoot(page, "revoked")


async def test_an_idle_session_leads_back_to_the_sign_in(
    stage: PortalStage, opened: Opened, shoot: Shoot
) -> None:
    page = await opened(signed_in=True)
    stage.now += IDLE_SECONDS
    await create(page, "Shop", "30")
    assert "Your session has ended" in await text_of(page)
    await shoot(page, "ended")
    assert await stage.names("acme") == []


async def test_everything_but_copying_works_without_javascript(
    stage: PortalStage, opened: Opened
) -> None:
    page = await opened(java_script_enabled=False)
    await sign_in(page)
    await page.get_by_text("Limit it to some paths").click()
    await page.get_by_label("Paths").fill("/v1/orders/**")
    await create(page, "Shop", "0")
    assert await stage.is_live(await token_on(page))
    assert not await page.get_by_text("Copy token").is_visible()
    await page.get_by_role("link", name="Done").click()
    await page.get_by_role("link", name="Rotate Shop").click()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Rotate token").click()
    await page.get_by_role("link", name="Done").click()
    await page.get_by_role("link", name="Revoke Shop").first.click()
    await page.get_by_role("button", name="Revoke token").click()
    assert "Shop is revoked" in await text_of(page)
    await page.get_by_role("button", name="Sign out").click()
    assert "You are signed out" in await text_of(page)


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control with this name has the focus, and the eye can see that."""
    said = ""
    for _ in range(40):
        await page.keyboard.press("Tab")
        focused = "document.activeElement.labels?.[0] ?? document.activeElement"
        said = " ".join((await page.evaluate(f"({focused}).innerText")).split())
        if said.startswith(name):
            ring = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(ring) == "solid"
            return
    raise AssertionError(f"{name} is not reached by Tab; last was {said!r}")


async def test_a_keyboard_is_enough(stage: PortalStage, opened: Opened) -> None:
    page = await opened()
    await tab_to(page, "Skip to content")
    await tab_to(page, "Account")
    await page.keyboard.type("acme")
    await tab_to(page, "Password")
    await page.keyboard.type(PASSWORD)
    await press(page, "Enter")
    await page.get_by_text("No API keys yet").wait_for()
    await tab_to(page, "Token Name")
    await page.keyboard.type("Shop")
    await tab_to(page, "Password")
    await page.keyboard.type(PASSWORD)
    await tab_to(page, "Create token")
    await press(page, "Enter")
    await page.get_by_text("Copy it now").wait_for()
    assert await stage.names("acme") == ["Shop"]
    await tab_to(page, "Done")
    await press(page, "Enter")
    await page.get_by_role("row", name="Shop").wait_for()
    await tab_to(page, "Revoke Shop")
    await press(page, "Enter")
    await page.get_by_text("can’t be undone").wait_for()
    await tab_to(page, "Revoke token")
    await press(page, "Space")
    await page.get_by_text("is revoked").wait_for()
    assert await stage.names("acme") == []


async def test_nothing_overflows_at_360_pixels(
    stage: PortalStage, opened: Opened, shoot: Shoot
) -> None:
    await fill_table(stage)
    await stage.create("acme", "n" * 100, 30, paths=["/" + "long-segment-" * 20])
    page = await opened(viewport=PHONE)
    pages = ["/"]
    await is_narrow(page)
    await sign_in(page)
    pages += [await link.get_attribute("href") or "" for link in await actions(page)]
    for path in pages:
        await page.goto(stage.url + path)
        await is_narrow(page)
    await page.goto(stage.url)
    await create(page, "Phone", "30")
    await is_narrow(page)
    long = next(one for one in await stage.tokens("acme") if one.record.name.startswith("nn"))
    await stage.config.lifecycle.revoke(long.record.id)
    await page.goto(stage.url)
    await shoot(page, "phone")


async def test_nothing_is_cut_off_at_any_width(stage: PortalStage, opened: Opened) -> None:
    await fill_table(stage)
    page = await opened(signed_in=True)
    await page.locator(".keys").wait_for()
    table = "document.querySelector('.keys').parentElement"
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("window.innerWidth") == width
        assert await page.evaluate(f"{table}.scrollWidth <= {table}.clientWidth"), width
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def is_narrow(page: Page) -> None:
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], page.url


async def actions(page: Page) -> list[Any]:
    return await page.locator(".actions a").all()


async def test_axe_finds_nothing_serious_on_any_page_light_or_dark(
    stage: PortalStage, opened: Opened
) -> None:
    axe = pytest.importorskip("axe_playwright_python.async_playwright").Axe()
    await fill_table(stage)
    # The policy forbids the check's own script, too.
    page = await opened(bypass_csp=True)

    async def check(state: str) -> None:
        for scheme, options in AXE_OPTIONS.items():
            await page.emulate_media(color_scheme=scheme)
            found = (await axe.run(page, options=options)).response["violations"]
            serious = [
                (one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS
            ]
            assert serious == [], f"{state}, {scheme}"

    await check("sign in")
    await sign_in(page, password="wrong")
    await check("wrong password")
    await sign_in(page)
    await check("keys")
    await page.set_viewport_size({"width": 360, "height": 740})
    await check("keys on a phone")
    await create(page, "", "soon", "")
    await check("errors")
    await page.goto(stage.url)
    await create(page, "Partner", "30")
    await check("created")
    await page.goto(stage.url)
    await page.get_by_role("link", name="Rotate Partner").click()
    await check("rotate")
    await page.goto(stage.url)
    await page.get_by_role("link", name="Revoke Partner").click()
    await check("revoke")
    await page.get_by_role("button", name="Revoke token").click()
    await check("revoked")
    await page.goto(f"{stage.url}/nothing")
    await check("nothing there")
