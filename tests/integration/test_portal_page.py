"""The page as HTTP: sessions, forms and headers, without a browser's mercy."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp import ClientSession

from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.passwords import hash_password
from sidecar.core.trusted_proxies import TrustedProxies
from sidecar.portal.formatting import as_sentence
from sidecar.portal.sessions import IDLE_SECONDS, LONGEST_SECONDS
from tests.browser.portal_stage import (
    PASSWORD,
    ApiClient,
    PortalStage,
    running_portal,
    secret_of_this_process,
    send,
    sign_in,
    visiting,
)

NEW = {"name": "shop", "days": "30", "kind": "access", "paths": "", "password": PASSWORD}


@pytest.fixture
async def stage() -> AsyncIterator[PortalStage]:
    async with running_portal() as running:
        yield running


@pytest.fixture
async def browser(stage: PortalStage) -> AsyncIterator[ClientSession]:
    async with visiting(stage) as session:
        yield session


PROXIED = TrustedProxies([ip_network("127.0.0.1")])
"""A trusted proxy on this machine."""


async def test_a_token_is_made_and_shown_in_the_answer_alone(
    stage: PortalStage, browser: ClientSession
) -> None:
    page = await sign_in(browser)
    response = await send(browser, "/tokens", page, **NEW)
    shown = await response.text()
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    secret = shown.partition("</textarea>")[0].rpartition(">")[2]
    assert await stage.is_live(secret)
    assert secret not in str(response.headers) + str(response.url)
    assert secret not in await (await browser.get("/")).text()
    assert [line["event"] for line in stage.audit_lines] == ["token_created"]
    assert secret not in repr(stage.audit_lines)


async def test_sending_the_form_again_makes_no_second_token(
    stage: PortalStage, browser: ClientSession
) -> None:
    page = await sign_in(browser)
    assert (await send(browser, "/tokens", page, **NEW)).status == 200
    again = await send(browser, "/tokens", page, **{**NEW, "name": "another"})
    assert again.status == 409
    text = await again.text()
    assert "This form was sent before" in text
    assert 'value="another"' in text
    assert await stage.names("acme") == ["shop"]


async def test_rotating_again_by_the_same_form_makes_no_third_token(
    stage: PortalStage, browser: ClientSession
) -> None:
    record, _ = await stage.create("acme", "shop")
    await sign_in(browser)
    path = f"/tokens/{record.id}/rotate"
    form = await (await browser.get(path)).text()
    asked = {"overlap": "1h", "password": PASSWORD}
    assert (await send(browser, path, form, **asked)).status == 200
    assert (await send(browser, path, form, **asked)).status == 409
    fresh = await (await browser.get(path)).text()
    refused = await send(browser, path, fresh, **asked)
    assert "rotated already" in await refused.text()
    assert len(await stage.tokens("acme")) == 2


async def test_the_form_says_that_an_account_has_as_many_tokens_as_it_may_have(
    stage: PortalStage, browser: ClientSession
) -> None:
    await stage.create("acme", "first")
    stage.change_account("acme", max_tokens=1)
    page = await sign_in(browser)
    refused = await send(browser, "/tokens", page, **NEW)
    assert refused.status == 409
    assert "Account acme has 1 token, and may have 1: revoke one" in await refused.text()
    assert await stage.names("acme") == ["first"]


async def test_a_token_that_was_rotated_stands_right_below_its_successor(
    stage: PortalStage, browser: ClientSession
) -> None:
    """Also among others of the same second."""
    tokens = {name: (await stage.create("acme", name))[0] for name in ("a", "b", "c")}
    successor, _ = await stage.config.lifecycle.rotate(tokens["b"].id, 3600, "acme")
    page = await sign_in(browser)
    ids = (tokens["a"].id, successor.id, tokens["b"].id, tokens["c"].id)
    assert [token_id for _, token_id in sorted((page.index(one), one) for one in ids)] == [*ids]


async def test_a_long_list_has_pages(stage: PortalStage, browser: ClientSession) -> None:
    for number in range(201):
        await stage.create("acme", f"system {number:03}")
        stage.now += 1
    await sign_in(browser)

    async def names(page: str) -> list[str]:
        text = await (await browser.get(f"/{page}")).text()
        return re.findall(r'class="name">(system \d+)<', text)

    assert (await names(""))[::99] == ["system 200", "system 101"]
    assert (await names("?page=2"))[::99] == ["system 100", "system 001"]
    assert await names("?page=3") == ["system 000"] == await names("?page=999999")
    for odd in ("?page=", "?page=0", "?page=-1", "?page=x", "?page=%D9%A3", f"?page={'9' * 5000}"):
        assert await names(odd) == await names("")
    text = await (await browser.get("/?page=2")).text()
    assert "101 to 200 of 201" in text
    assert re.findall(r'href="/\?page=(\d)"', text) == ["1", "3"]


async def test_the_password_is_needed_for_every_new_token_and_never_shown_again(
    stage: PortalStage, browser: ClientSession
) -> None:
    record, _ = await stage.create("acme", "erp")
    page = await sign_in(browser)
    rotate = f"/tokens/{record.id}/rotate"
    for path, fields in (("/tokens", NEW), (rotate, {"overlap": "1h"})):
        for password, status in (("", 422), ("my-typo", 403)):
            response = await send(browser, path, page, **{**fields, "password": password})
            text = await response.text()
            assert response.status == status
            assert 'id="password-error"' in text
            assert "my-typo" not in text
    assert await stage.names("acme") == ["erp"]
    assert stage.gate.failures == [("127.0.0.1", "acme")] * 2


async def test_a_wrong_form_comes_back_with_what_was_entered_and_what_to_do(
    stage: PortalStage, browser: ClientSession
) -> None:
    page = await sign_in(browser)
    wrong = {**NEW, "name": "<b>shop</b>", "days": "soon", "paths": "/ok\nnot-ok"}
    response = await send(browser, "/tokens", page, **wrong)
    text = await response.text()
    assert response.status == 422
    assert 'value="&lt;b&gt;shop&lt;/b&gt;"' in text
    assert 'value="soon"' in text
    assert "/ok\nnot-ok</textarea>" in text
    assert "Enter a whole number of days" in text
    assert "does not start with a slash" in text
    assert PASSWORD not in text


BROKEN_RULES: list[dict[str, str]] = [
    {"name": "n" * 101},
    {"name": "a\u202eb"},
    {"days": "-1"},
    {"days": "36501"},
    {"paths": "v1"},
    {"paths": " ".join(["/a"] * 65)},
    {"paths": "/" + "a" * 2048},
    {"name": "taken"},
]


@pytest.mark.parametrize("change", BROKEN_RULES, ids=lambda change: str(change)[:24])
async def test_command_line_page_and_api_say_the_same_of_a_broken_rule(
    stage: PortalStage, browser: ClientSession, change: dict[str, str]
) -> None:
    await stage.create("acme", "taken")
    form = {**NEW, **change}
    body: dict[str, Any] = {
        "name": form["name"],
        "days": int(form["days"]),
        "kind": form["kind"],
        "paths": form["paths"].split(),
    }
    page = await sign_in(browser)
    shown = await (await send(browser, "/tokens", page, **form)).text()
    _, problem, _ = await ApiClient(browser, "acme").call("POST", "/api/tokens", body)
    with pytest.raises((UsageError, NameTaken)) as caught:  # the command line prints its text
        await stage.create("acme", body["name"], body["days"], paths=body["paths"])
    sentence = as_sentence(caught.value)
    assert sentence in html.unescape(shown)
    assert sentence in [problem["detail"], *(one["detail"] for one in problem.get("errors", ()))]


async def test_a_taken_name_is_reported_beside_its_field(
    stage: PortalStage, browser: ClientSession
) -> None:
    await stage.create("acme", "shop")
    page = await sign_in(browser)
    response = await send(browser, "/tokens", page, **NEW)
    assert response.status == 409
    assert 'id="name-error"' in await response.text()


async def test_unknown_account_and_wrong_password_look_alike(
    stage: PortalStage, browser: ClientSession
) -> None:
    answers = []
    for account in ("acme", "nobody"):
        page = await (await browser.get("/")).text()
        response = await send(browser, "/sign-in", page, account=account, password="wrong")
        answers.append((response.status, (await response.text()).replace(account, "")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 403
    assert stage.gate.failures == [("127.0.0.1", "acme"), ("127.0.0.1", "nobody")]
    assert [line["account"] for line in stage.audit_lines] == ["acme", None]


async def test_spaces_around_the_account_are_no_part_of_it(browser: ClientSession) -> None:
    page = await (await browser.get("/")).text()
    await send(browser, "/sign-in", page, account=" acme ", password=PASSWORD)
    assert "Create new token" in await (await browser.get("/")).text()


async def test_only_the_right_password_reveals_that_an_account_is_disabled(
    browser: ClientSession,
) -> None:
    page = await (await browser.get("/")).text()
    told = await send(browser, "/sign-in", page, account="off", password=PASSWORD)
    assert "This account is disabled" in await told.text()
    untold = await send(browser, "/sign-in", page, account="off", password="wrong")
    assert "disabled" not in await untold.text()


async def test_a_banned_client_sees_how_long_to_wait(
    stage: PortalStage, browser: ClientSession
) -> None:
    stage.gate.ban_seconds = 300
    page = await (await browser.get("/")).text()
    response = await send(browser, "/sign-in", page, account="acme", password=PASSWORD)
    assert (response.status, response.headers["Retry-After"]) == (429, "300")
    assert "Try again in 5 minutes" in await response.text()


FORMS = ["/tokens", "/sign-out", "/tokens/{id}/rotate", "/tokens/{id}/revoke"]


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({}, {"csrf": ""}),
        ({}, {"csrf": "A" * 32}),
        ({"Origin": "https://evil.example"}, {}),
        ({"Origin": "http://127.0.0.1:1"}, {}),
        ({"Origin": ""}, {}),
        ({"Origin": "http://[::1"}, {}),
        ({"Sec-Fetch-Site": "cross-site"}, {}),
        ({"Sec-Fetch-Site": "same-site"}, {}),
    ],
)
async def test_a_form_from_elsewhere_changes_nothing(
    stage: PortalStage,
    browser: ClientSession,
    path: str,
    headers: dict[str, str],
    fields: dict[str, str],
) -> None:
    record, _ = await stage.create("acme", "erp")
    page = await sign_in(browser)
    sent = {**NEW, "overlap": "1h", **fields}
    response = await send(browser, path.format(id=record.id), page, headers, **sent)
    assert response.status == 403
    assert await stage.names("acme") == ["erp"]
    assert "Sign out" in await (await browser.get("/")).text()


async def test_a_form_of_our_own_origin_is_taken(
    stage: PortalStage, browser: ClientSession
) -> None:
    page = await sign_in(browser)
    headers = {"Origin": stage.url, "Sec-Fetch-Site": "same-origin"}
    assert (await send(browser, "/tokens", page, headers, **NEW)).status == 200


async def test_a_sign_in_from_elsewhere_signs_nobody_in(browser: ClientSession) -> None:
    page = await (await browser.get("/")).text()
    evil = {"Sec-Fetch-Site": "cross-site"}
    response = await send(browser, "/sign-in", page, evil, account="acme", password=PASSWORD)
    assert response.status == 403
    assert "Sign out" not in await (await browser.get("/")).text()


async def test_the_csrf_token_of_another_session_is_refused(stage: PortalStage) -> None:
    async with visiting(stage) as mine, visiting(stage) as theirs:
        await sign_in(mine)
        page = await sign_in(theirs, "other")
        assert (await send(mine, "/tokens", page, **NEW)).status == 403


@pytest.mark.parametrize("action", ["rotate", "revoke"])
async def test_another_accounts_token_can_not_be_seen_or_changed(
    stage: PortalStage, browser: ClientSession, action: str
) -> None:
    record, secret = await stage.create("other", "private")
    page = await sign_in(browser)
    path = f"/tokens/{record.id}/{action}"
    asked = await browser.get(path)
    sent = await send(browser, path, page, overlap="0", password=PASSWORD)
    assert (asked.status, sent.status) == (404, 404)
    assert "private" not in page + await asked.text() + await sent.text()
    assert await stage.is_live(secret)


@pytest.mark.parametrize("path", ["/tokens/0123456789abcd/revoke", "/tokens/0123456789abcd/rotate"])
async def test_pages_redirect_anyone_who_is_not_signed_in(
    browser: ClientSession, path: str
) -> None:
    assert (await browser.get(path, allow_redirects=False)).status == 303
    assert (await browser.post(path, data=NEW, allow_redirects=False)).status == 303
    assert (await browser.post("/tokens", data=NEW, allow_redirects=False)).status == 303


async def is_signed_in(browser: ClientSession) -> bool:
    return "Sign out" in await (await browser.get("/")).text()


async def test_a_session_ends_when_it_is_not_used(
    stage: PortalStage, browser: ClientSession
) -> None:
    await sign_in(browser)
    stage.now += IDLE_SECONDS - 1
    assert await is_signed_in(browser)
    stage.now += IDLE_SECONDS - 1
    assert await is_signed_in(browser)
    stage.now += IDLE_SECONDS
    assert "Your session has ended" in await (await browser.get("/")).text()


async def test_a_session_ends_however_much_it_is_used(
    stage: PortalStage, browser: ClientSession
) -> None:
    await sign_in(browser)
    for _ in range(LONGEST_SECONDS // 600):
        assert await is_signed_in(browser)
        stage.now += 600
    assert not await is_signed_in(browser)


async def test_a_form_sent_after_the_session_has_ended_leads_to_the_sign_in(
    stage: PortalStage, browser: ClientSession
) -> None:
    page = await sign_in(browser)
    stage.now += IDLE_SECONDS
    response = await send(browser, "/tokens", page, **NEW)
    assert (response.status, response.headers["Location"]) == (303, "/")
    assert "Your session has ended" in await (await browser.get("/")).text()
    assert await stage.names("acme") == []


@pytest.mark.parametrize("change", ["password", "disabled", "removed"])
async def test_a_changed_account_is_signed_out_at_once(
    stage: PortalStage, browser: ClientSession, change: str
) -> None:
    await sign_in(browser)
    if change == "password":
        stage.change_account("acme", password_hash=hash_password("new"))
    elif change == "disabled":
        stage.change_account("acme", disabled=True)
    else:
        stage.set_accounts(stage.config.accounts["other"])
    assert not await is_signed_in(browser)


async def test_signing_out_ends_the_browsers_session(browser: ClientSession) -> None:
    page = await sign_in(browser)
    response = await send(browser, "/sign-out", page)
    assert response.status == 303
    assert "You are signed out" in await (await browser.get("/")).text()
    assert not await is_signed_in(browser)


async def test_the_cookie_is_for_this_page_alone(stage: PortalStage) -> None:
    async with visiting(stage) as browser:
        cookie = (await browser.get("/")).headers["Set-Cookie"]
    name, _, rest = cookie.partition("=")
    assert name == "portal_session"
    attributes = rest.partition("; ")[2]
    assert attributes == "HttpOnly; Path=/; SameSite=Strict"


@pytest.mark.parametrize(
    ("trusted_proxies", "headers", "is_secure"),
    [
        (PROXIED, {"X-Forwarded-Proto": "https"}, True),
        (PROXIED, {"X-Forwarded-Proto": "http"}, False),
        (None, {"X-Forwarded-Proto": "https"}, False),
        (PROXIED, {"Forwarded": "for=203.0.113.7;proto=https"}, True),
        (PROXIED, {"Forwarded": "for=203.0.113.7;proto=http"}, False),
        (PROXIED, {"Forwarded": "proto=https, for=203.0.113.7"}, False),
        (PROXIED, {"Forwarded": "proto=https", "X-Forwarded-For": "203.0.113.7"}, False),
        (PROXIED, {"Forwarded": "proto=https", "X-Forwarded-Proto": "http"}, False),
        (None, {"Forwarded": "for=203.0.113.7;proto=https"}, False),
    ],
)
async def test_the_cookie_is_secure_where_a_trusted_proxy_speaks_tls(
    trusted_proxies: TrustedProxies | None, headers: dict[str, str], is_secure: bool
) -> None:
    async with (
        running_portal(trusted_proxies=trusted_proxies) as stage,
        ClientSession(stage.url) as browser,
    ):
        cookie = (await browser.get("/", headers=headers)).headers["Set-Cookie"]
    assert cookie.startswith("__Host-portal_session=") == is_secure
    assert ("; Secure" in cookie) == is_secure


@pytest.mark.parametrize(
    "told",
    [
        {"X-Forwarded-Host": "keys.example.com", "X-Forwarded-For": "203.0.113.7:4711"},
        {"Forwarded": "host=keys.example.com;for=203.0.113.7"},
    ],
)
async def test_behind_a_trusted_proxy_origin_and_client_are_what_it_says(
    told: dict[str, str],
) -> None:
    async with running_portal(trusted_proxies=PROXIED) as stage, visiting(stage) as browser:
        page = await (await browser.get("/")).text()
        headers = {"Origin": "https://keys.example.com", **told}
        await send(browser, "/sign-in", page, headers, account="acme", password="wrong")
        assert stage.gate.failures == [("203.0.113.7", "acme")]


async def test_workers_with_one_secret_share_sessions_and_others_do_not() -> None:
    shared = secret_of_this_process()
    async with running_portal(shared) as one, visiting(one) as browser:
        await sign_in(browser)
        for secret, is_known in ((shared, True), (secret_of_this_process(), False)):
            async with running_portal(secret) as other:
                page = await (await browser.get(f"{other.url}/")).text()
            assert ("Sign out" in page) == is_known


@pytest.mark.parametrize("cookie", ["x", "gAAAAA", "é", "a" * 4000, '"'])
async def test_a_foreign_cookie_starts_a_new_session(stage: PortalStage, cookie: str) -> None:
    async with ClientSession(stage.url) as browser:
        response = await browser.get("/", headers={"Cookie": f"portal_session={cookie}"})
    assert response.status == 200
    assert "portal_session=" in response.headers["Set-Cookie"]


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status", "caching"),
    [
        ("GET", "/", 200, "no-store"),
        ("HEAD", "/", 200, "no-store"),
        ("GET", "/tokens", 303, "no-store"),
        ("GET", "/nothing", 404, "no-store"),
        ("DELETE", "/", 405, "no-store"),
        ("GET", "/openapi.json", 200, "no-store"),
        ("GET", "/api/tokens", 401, "no-store"),
        ("GET", "/static/0/portal.css", 404, "no-store"),
    ],
)
async def test_every_answer_says_how_it_is_to_be_handled(
    browser: ClientSession, method: str, path: str, status: int, caching: str
) -> None:
    response = await browser.request(method, path, allow_redirects=False)
    assert response.status == status
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
    assert response.headers["Cache-Control"] == caching
    assert "Permissions-Policy" in response.headers
    assert "Server" not in response.headers


async def test_static_files_are_kept_for_as_long_as_their_name_lasts(
    browser: ClientSession,
) -> None:
    page = await (await browser.get("/")).text()
    path = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    response = await browser.get(path)
    assert (response.status, response.content_type) == (200, "text/css")
    assert "immutable" in response.headers["Cache-Control"]


async def test_pages_hold_no_code_and_no_style_of_their_own(
    stage: PortalStage, browser: ClientSession
) -> None:
    await stage.create("acme", "</script><script>alert(1)</script>", paths=["/a'\"<>*"])
    page = await sign_in(browser)
    shown = await (await send(browser, "/tokens", page, **NEW)).text()
    for text in (page, shown):
        assert "<script>" not in text
        assert " style=" not in text
        assert re.search(r"<[^>]* on\w+=", text) is None
        assert "://" not in text


async def test_the_kind_is_a_question_only_where_jwts_are_issued(
    stage: PortalStage, browser: ClientSession
) -> None:
    assert 'name="kind"' in await sign_in(browser)
    stage.set_accounts(*stage.config.accounts.values(), can_issue_jwt=False)
    page = await (await browser.get("/")).text()
    assert 'name="kind"' not in page
    refused = await send(browser, "/tokens", page, **{**NEW, "kind": "jwt"})
    assert refused.status == 422


async def test_the_form_shows_the_limit_of_an_account(browser: ClientSession) -> None:
    page = await sign_in(browser, "brief")
    assert "30 at most" in page
    refused = await send(browser, "/tokens", page, **{**NEW, "days": "0"})
    assert "from 1 to 30" in await refused.text()


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("application/x-www-form-urlencoded", b"name=%ff", 400),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 40), 400),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 70000, 413),
    ],
)
async def test_an_unreadable_form_is_refused_in_html(
    browser: ClientSession, media_type: str, body: bytes, status: int
) -> None:
    await sign_in(browser)
    headers = {"Content-Type": media_type}
    response = await browser.post("/tokens", data=body, headers=headers)
    assert (response.status, response.content_type) == (status, "text/html")


async def test_the_page_says_that_the_store_is_away(
    stage: PortalStage, browser: ClientSession
) -> None:
    page = await sign_in(browser)
    stage.store.is_away = True
    for response in (await browser.get("/"), await send(browser, "/tokens", page, **NEW)):
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "can&#39;t be looked up or checked" in await response.text()
    stage.store.is_away = False
    assert await is_signed_in(browser)


async def test_revoking_says_so_once_and_is_written_down(
    stage: PortalStage, browser: ClientSession
) -> None:
    record, secret = await stage.create("acme", "shop")
    page = await sign_in(browser)
    path = f"/tokens/{record.id}/revoke"
    assert "Revoke “<bdi>shop</bdi>”?" in await (await browser.get(path)).text()
    assert await stage.is_live(secret)
    assert (await send(browser, path, page)).status == 303
    assert not await stage.is_live(secret)
    assert "is revoked" in await (await browser.get("/")).text()
    assert "is revoked" not in await (await browser.get("/")).text()
    assert (await send(browser, path, page)).status == 404
    assert [line["event"] for line in stage.audit_lines] == ["token_revoked"]
    assert stage.audit_lines[0]["actor"] == "portal"
