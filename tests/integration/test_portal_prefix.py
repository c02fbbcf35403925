"""The page below a prefix that a trusted proxy has taken off the path."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from aiohttp import ClientSession

from sidecar.core.trusted_proxies import TrustedProxies
from tests.browser.portal_stage import PASSWORD, ApiClient, PortalStage, field, running_portal

PROXIED = TrustedProxies([ip_network("127.0.0.1")])
BELOW = {"X-Forwarded-Prefix": "/keys"}
LINKS = re.compile(r'(?:href|src|action)="([^"#][^"]*)"')


@pytest.fixture
async def stage() -> AsyncIterator[PortalStage]:
    async with running_portal(trusted_proxies=PROXIED) as running:
        yield running


class Visitor:
    """A browser that sees the page below a prefix; it keeps the one cookie by itself."""

    def __init__(self, session: ClientSession, headers: dict[str, str]) -> None:
        self._session = session
        self._headers = headers
        self._cookie = ""
        self.set_cookie = ""
        self.location = ""

    async def get(self, path: str) -> str:
        headers = {**self._headers, "Cookie": self._cookie}
        async with self._session.get(path, headers=headers, allow_redirects=False) as response:
            self._note(response.headers.get("Set-Cookie"), response.headers.get("Location"))
            return await response.text()

    async def post(self, path: str, page: str, **fields: str) -> str:
        sent = {"csrf": field(page, "csrf"), "form": field(page, "form"), **fields}
        headers = {**self._headers, "Cookie": self._cookie}
        async with self._session.post(
            path, data=sent, headers=headers, allow_redirects=False
        ) as response:
            self._note(response.headers.get("Set-Cookie"), response.headers.get("Location"))
            return await response.text()

    def _note(self, cookie: str | None, location: str | None) -> None:
        self.location = location or ""
        if cookie is not None:
            self.set_cookie = cookie
            self._cookie = cookie.partition(";")[0]


async def test_all_links_forms_and_files_of_every_page_are_below_it(stage: PortalStage) -> None:
    record, _ = await stage.create("acme", "first")
    async with ClientSession(stage.url) as session:
        visitor = Visitor(session, BELOW)
        pages = [await visitor.get("/")]
        await visitor.post("/sign-in", pages[0], account="acme", password=PASSWORD)
        assert visitor.location == "/keys/"
        pages.append(await visitor.get("/"))
        for path in (f"/tokens/{record.id}/rotate", f"/tokens/{record.id}/revoke", "/nothing"):
            pages.append(await visitor.get(path))
        new = {"name": "n", "days": "30", "kind": "access", "paths": "", "password": PASSWORD}
        pages.append(await visitor.post("/tokens", pages[1], **new))
        for page in pages:
            links = LINKS.findall(page)
            assert links
            assert [link for link in links if not link.startswith("/keys/")] == []
        for link in LINKS.findall(pages[0]):
            if "/static/" in link:
                async with session.get(link.removeprefix("/keys"), headers=BELOW) as response:
                    assert response.status == 200


@pytest.mark.parametrize("path", ["/tokens", "/sign-in", "/tokens/x/rotate"])
async def test_redirects_stay_below_it(stage: PortalStage, path: str) -> None:
    async with ClientSession(stage.url) as session:
        visitor = Visitor(session, BELOW)
        await visitor.get(path)
        assert visitor.location == "/keys/"


@pytest.mark.parametrize(
    ("headers", "name", "path"),
    [
        ({}, "portal_session", "/"),
        (BELOW, "portal_session", "/keys"),
        ({"X-Forwarded-Prefix": "/a/b/"}, "portal_session", "/a/b"),
        ({"X-Forwarded-Proto": "https"}, "__Host-portal_session", "/"),
        ({**BELOW, "X-Forwarded-Proto": "https"}, "__Secure-portal_session", "/keys"),
    ],
)
async def test_the_cookie_is_for_that_path_alone(
    stage: PortalStage, headers: dict[str, str], name: str, path: str
) -> None:
    async with ClientSession(stage.url) as session:
        visitor = Visitor(session, headers)
        await visitor.get("/")
        assert visitor.set_cookie.startswith(f"{name}=")
        assert f"; Path={path};" in visitor.set_cookie
        assert ("; Secure" in visitor.set_cookie) == ("X-Forwarded-Proto" in headers)


async def test_the_api_names_its_addresses_below_it(stage: PortalStage) -> None:
    async with ClientSession(stage.url) as session:
        api = ApiClient(session, "acme")
        body = {"name": "n", "days": 30}
        status, made, headers = await api.call("POST", "/api/tokens", body, headers=BELOW)
        assert (status, headers["Location"]) == (201, f"/keys/api/tokens/{made['id']}")
        _, document, _ = await api.call("GET", "/openapi.json", headers=BELOW)
        assert document["servers"] == [{"url": "/keys/"}]
        _, document, _ = await api.call("GET", "/openapi.json")
        assert document["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    "sent",
    [
        "//evil.example",
        "/keys//evil.example",
        "https://evil.example",
        "/https://evil.example",
        "keys",
        "/",
        "",
        "/..",
        "/a/../b",
        "/./a",
        "/a b",
        '/"><script>alert(1)</script>',
        "/'onmouseover='x",
        "/a\\b",
        "/\\evil.example",
        "/a%2fb",
        "/a?b",
        "/a#b",
        "/a;b",
        "/a, /b",
        "/a\tb",
        "/é",
        "/" + "a" * 300,
    ],
)
async def test_anything_but_a_plain_path_counts_as_none(stage: PortalStage, sent: str) -> None:
    async with ClientSession(stage.url) as session:
        visitor = Visitor(session, {"X-Forwarded-Prefix": sent})
        page = await visitor.get("/")
        assert 'action="/sign-in"' in page
        assert "; Path=/;" in visitor.set_cookie
        await visitor.get("/tokens")
        assert visitor.location == "/"


async def test_two_prefixes_are_none(stage: PortalStage) -> None:
    headers = [("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b")]
    async with (
        ClientSession(stage.url) as session,
        session.get("/", headers=headers) as response,
    ):
        assert 'action="/sign-in"' in await response.text()


async def test_who_is_not_trusted_has_no_say_in_it() -> None:
    async with running_portal() as stage, ClientSession(stage.url) as session:
        visitor = Visitor(session, BELOW)
        assert 'action="/sign-in"' in await visitor.get("/")
        assert "; Path=/;" in visitor.set_cookie
