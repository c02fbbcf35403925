"""The page at https://…/tokens/ of another site: nginx and Caddy take the prefix off."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar

from sidecar.core.trusted_proxies import TrustedProxies
from tests.browser.portal_stage import PASSWORD, running_portal, send
from tests.interop.decision_fronts import pick_port
from tests.interop.peers import CADDY_HEAD, NGINX_HEAD, running_peer

CONFIGURATIONS = {
    "nginx": NGINX_HEAD
    + """
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 404; }}
        location /tokens/ {{
            proxy_pass http://127.0.0.1:{portal}/;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Prefix /tokens;
        }}
    }}
}}
""",
    "caddy": CADDY_HEAD
    + """
}}
http://127.0.0.1:{port} {{
    handle_path /tokens/* {{
        reverse_proxy 127.0.0.1:{portal} {{
            header_up X-Forwarded-Prefix /tokens
        }}
    }}
    respond 404
}}
""",
}
LINKS = re.compile(r'(?:href|src|action)="([^"#][^"]*)"')


@pytest.mark.parametrize("front", CONFIGURATIONS)
async def test_the_whole_page_works_below_the_prefix(front: str, tmp_path: Path) -> None:
    trusted = TrustedProxies([ip_network("127.0.0.1")])
    port = pick_port()
    async with running_portal(trusted_proxies=trusted) as stage:
        portal = stage.url.rpartition(":")[2]
        text = CONFIGURATIONS[front].format(
            port=port, portal=portal, directory=tmp_path, connections=64
        )
        with running_peer(front, tmp_path, port, text):
            jar = CookieJar(unsafe=True)
            async with ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as browser:
                page = await (await browser.get("/tokens/")).text()
                for link in LINKS.findall(page):
                    if "/static/" in link:
                        assert (await browser.get(link)).status == 200
                action = link_of(page, "sign-in")
                signed_in = await send(browser, action, page, account="acme", password=PASSWORD)
                assert signed_in.status == 303
                page = await (await browser.get(signed_in.headers["Location"])).text()
                new = {"name": "n", "days": "30", "kind": "access", "paths": ""}
                made = await send(browser, link_of(page, "tokens"), page, password=PASSWORD, **new)
                assert made.status == 200
                assert await stage.names("acme") == ["n"]
                page = await (await browser.get("/tokens/")).text()
                asked = await (await browser.get(link_of(page, "revoke"))).text()
                gone = await send(browser, link_of(asked, "revoke"), asked)
                assert gone.headers["Location"] == "/tokens/"
                assert await stage.names("acme") == []
                assert {cookie["path"] for cookie in jar} == {"/tokens"}


def link_of(page: str, end: str) -> str:
    """Return the one link of a page whose path ends so."""
    found = {str(link).partition("#")[0] for link in LINKS.findall(page)}
    return next(link for link in found if link.endswith(f"/{end}"))
