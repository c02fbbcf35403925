"""Every place and spelling of a credential, in every state: at the proxy and at ``/auth`` alike."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from sidecar.config.settings import Settings
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.passwords import hash_password
from sidecar.core.tokens import digest, generate
from sidecar.observability.access_log import LineFormatter
from sidecar.operations.decision import Decisions
from sidecar.operations.health import Health
from sidecar.operations.listener import operations_app
from sidecar.runtime.build import build_rules
from tests.in_process import Proxy, on_uvloop, running_proxy

PASSWORD = "correct horse battery"
ACCOUNTS = {"jane+erp@example.com": {"password_hash": hash_password(PASSWORD)}, "other": {}}
ACCOUNT = "jane+erp@example.com"

Sent = tuple[str, list[str]]
"""What is added to the path, and header lines."""


def basic(text: str, encoding: str = "utf-8") -> str:
    return base64.b64encode(text.encode(encoding)).decode()


def line(start: str) -> Callable[[str], Sent]:
    return lambda secret: ("", [start + secret])


def in_query(name: str, around: str = "") -> Callable[[str], Sent]:
    return lambda secret: (f"?a=1&{name}={around}{secret}{around}&b=%2F", [])


def in_basic(pair: str) -> Callable[[str], Sent]:
    return lambda secret: ("", [f"Authorization: Basic {basic(pair.format(secret))}"])


def in_pair(pair: str) -> Callable[[str], Sent]:
    def send(secret: str) -> Sent:
        account, _, password = pair.format(secret).partition(":")
        return "", [f"username: {account}", f"password: {password}"]

    return send


TOKEN_PLACES: dict[str, tuple[str, Callable[[str], Sent]]] = {
    "Bearer": ("bearer", line("Authorization: Bearer ")),
    "bEARER, spaces": ("bearer", line("authorization: bEARER   ")),
    "Bearer, a tab": ("bearer", line("Authorization: Bearer\t")),
    "Token": ("bearer", line("Authorization: Token ")),
    "access_token scheme": ("bearer", line("Authorization: access_token ")),
    "Access_Token scheme, a tab": ("bearer", line("Authorization: Access_Token\t ")),
    "jwt_token scheme": ("bearer", line("Authorization: jwt_token ")),
    "no scheme": ("bearer", line("Authorization: ")),
    "no scheme, white space": ("bearer", lambda secret: ("", [f"Authorization: \t{secret} \t"])),
    "access_token header": ("header", line("access_token: ")),
    "jwt_token header": ("header", line("jwt_token: \t")),
    "access_token query": ("query", in_query("access_token")),
    "token query": ("query", in_query("token")),
    "jwt_token query, white space": ("query", in_query("jwt_token", "%20%0A")),
    "Basic, as the user": ("basic", in_basic("{}:")),
    "Basic, as the password": ("basic", in_basic(":{}")),
    "Basic, with its account": ("basic", in_basic(ACCOUNT + ":{}")),
    "the pair, as the user": ("basic", in_pair("{}:")),
    "the pair, as the password": ("basic", in_pair(":{}")),
    "the pair, with its account": ("basic", in_pair(ACCOUNT + ":{}")),
}
PASSWORD_PLACES: dict[str, Callable[[str], Sent]] = {
    "Basic": in_basic("{}"),
    "Basic, spaces": lambda pair: ("", [f"Authorization: basic \t {basic(pair)} "]),
    "Basic, unpadded": lambda pair: ("", [f"Authorization: Basic {basic(pair).rstrip('=')}"]),
    "Basic, Latin-1": lambda pair: ("", [f"Authorization: Basic {basic(pair, 'latin-1')}"]),
    "the pair": in_pair("{}"),
    "the pair, white space": lambda pair: (
        "",
        [f"PASSWORD: \t{pair.partition(':')[2]} ", f"UserName:  {pair.partition(':')[0]}\t"],
    ),
}
PASSWORDS = {
    f"{ACCOUNT}:{PASSWORD}": (200, None),
    f"{ACCOUNT}:wrong": (401, "invalid_password"),
    f"{ACCOUNT}:p\u00e4sswort": (401, "invalid_password"),
    f"nobody:{PASSWORD}": (401, "invalid_password"),
    f":{PASSWORD[:12]}": (401, "malformed_credentials"),
}
STATES = {
    "valid": (200, None),
    "expired": (401, "invalid_token"),
    "revoked": (401, "invalid_token"),
    "unknown": (401, "invalid_token"),
}
BEARER, BASIC = 'Bearer realm="listener"', 'Basic realm="listener", charset="UTF-8"'


@dataclass
class Bench:
    """A proxy and its decision endpoint, with a token in each state."""

    proxy: Proxy
    client: TestClient  # type: ignore[type-arg]
    tokens: dict[str, str]

    async def ask_both(self, sent: Sent, path: str = "/calls/1") -> list[tuple[int, str, str]]:
        """Return status, code and challenge, as the proxy and as ``/auth`` give them."""
        return [await self.call(sent, path), await self.ask(sent, path)]

    async def call(self, sent: Sent, path: str) -> tuple[int, str, str]:
        added, lines = sent
        caller = await self.proxy.caller()
        request = [f"GET {path}{added} HTTP/1.1", "Host: a", *lines, "", ""]
        await caller.send("\r\n".join(request).encode("latin-1"))
        head, body = await caller.response()
        await caller.close()
        status = int(head.split(b" ")[1])
        challenges = [
            part.partition(b": ")[2].decode()
            for part in head.split(b"\r\n")
            if part.lower().startswith(b"www-authenticate")
        ]
        code = json.loads(body)["code"] if status != 200 else ""
        return status, code, ", ".join(challenges)

    async def ask(self, sent: Sent, path: str) -> tuple[int, str, str]:
        added, lines = sent
        headers = [(name, value) for name, _, value in (text.partition(": ") for text in lines)]
        headers += [("X-Original-Method", "GET"), ("X-Original-URI", f"{path}{added}")]
        async with self.client.get("/auth?statuses=all", headers=CIMultiDict(headers)) as answer:
            code = answer.headers.get("X-Auth-Code", "")
            return answer.status, code, answer.headers.get("WWW-Authenticate", "")

    def written(self) -> str:
        """Return all that the service received and the log would hold."""
        received = b"".join(self.proxy.upstream.received).decode("latin-1")
        lines = [LineFormatter("sct_").line(entry, 0.0) for entry in self.proxy.entries]
        return received + "".join(lines)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async def ping() -> None:
        return None

    async with running_proxy(accounts=ACCOUNTS) as proxy:
        tokens = {state: generate("sct_", os.urandom) for state in STATES}
        tokens["other"] = generate("sct_", os.urandom)
        now = time.time()
        for number, (state, token) in enumerate(tokens.items()):
            account = "other" if state == "other" else ACCOUNT
            ends = now + 0.001 if state == "expired" else None
            record = TokenRecord(
                f"id-{number:08}", account, state, TokenKind.ACCESS, digest(token), now, ends
            )
            if state != "unknown":
                await proxy.store.create(record)
            if state == "revoked":
                await proxy.store.revoke(record)
        decisions = Decisions(proxy.gateway, lambda entry, now: proxy.entries.append(entry))
        app = operations_app(Health(ping, lambda: False), decisions=decisions)
        async with TestClient(TestServer(app)) as client:
            yield Bench(proxy, client, tokens)


@pytest.mark.parametrize("place", TOKEN_PLACES)
@on_uvloop
async def test_a_token_gets_the_same_verdict_in_every_place_and_is_seen_nowhere(place: str) -> None:
    """Three times each, so that the caches answer as well."""
    form, send = TOKEN_PLACES[place]
    async with bench() as stage:
        for (state, (status, code)), _ in product(STATES.items(), range(3)):
            verdicts = await stage.ask_both(send(stage.tokens[state]))
            for found, told, challenge in verdicts:
                assert (state, found, told or None) == (state, status, code)
                assert challenge.startswith(BEARER if status == 401 else "")
                assert challenge.endswith(BASIC if status == 401 else "")
                assert ('error="invalid_token"' in challenge) is (status == 401)
            assert [entry.form for entry in stage.proxy.entries[-2:]] == [form, form]
        written = stage.written()
        assert f"X-Account: {ACCOUNT}" in written
        for token in stage.tokens.values():
            assert token[4:16] not in written
            assert basic(f":{token}")[:16] not in written
        assert "username:" not in written.lower()
        assert "password:" not in written.lower()


@pytest.mark.parametrize("place", TOKEN_PLACES)
@on_uvloop
async def test_a_token_beside_another_credential_is_ambiguous_and_beside_itself_is_not(
    place: str,
) -> None:
    _, send = TOKEN_PLACES[place]
    async with bench() as stage:
        added, lines = send(stage.tokens["valid"])
        is_in_pair, is_in_authorization = "pair" in place, "uthorization" in "".join(lines)
        others = [f"access_token: {stage.tokens['other']}", "jwt_token: x"]
        if not is_in_pair:
            others += ["password: x", f"username: {ACCOUNT}\r\npassword: {PASSWORD}"]
        for other in others:
            more = [*lines, *other.split("\r\n")]
            for verdict in await stage.ask_both((added, more)):
                assert verdict[:2] == (400, "ambiguous_credentials")
        same = [f"jwt_token: \t{stage.tokens['valid']} ", "password: " * (not is_in_pair)]
        if not is_in_authorization:
            same.append(f"Authorization: {stage.tokens['valid']}")
        for verdict in await stage.ask_both((added, [*lines, *filter(None, same)])):
            assert verdict[:1] == (200,)


@pytest.mark.parametrize("place", PASSWORD_PLACES)
@on_uvloop
async def test_a_password_gets_the_same_verdict_in_every_spelling(place: str) -> None:
    send = PASSWORD_PLACES[place]
    async with bench() as stage:
        for (pair, (status, code)), _ in product(PASSWORDS.items(), range(2)):
            for found, told, challenge in await stage.ask_both(send(pair)):
                assert (pair, found, told or None) == (pair, status, code)
                assert challenge.endswith(BASIC if status == 401 else "")
        written = stage.written()
        assert PASSWORD not in written
        assert basic(f"{ACCOUNT}:{PASSWORD}")[:40] not in written
        assert "username:" not in written.lower()


@pytest.mark.parametrize("pair", ["other:{}", "Jane+erp@example.com:{}", "nobody:{}"])
@pytest.mark.parametrize("place", [in_basic, in_pair])
@on_uvloop
async def test_a_token_with_a_user_name_that_is_not_its_accounts_is_invalid(
    place: Callable[[str], Callable[[str], Sent]], pair: str
) -> None:
    """Also when the token is well known here, and when it stands alone in another place."""
    async with bench() as stage:
        token = stage.tokens["valid"]
        added, lines = place(pair)(token)
        for _ in range(3):
            assert [v[0] for v in await stage.ask_both(line("access_token: ")(token))] == [200] * 2
            for more in ([], [f"access_token: {token}"]):
                for verdict in await stage.ask_both((added, [*lines, *more])):
                    assert verdict[:2] == (401, "invalid_token")


@pytest.mark.parametrize(
    ("lines", "forwarded"),
    [
        (["username: somebody"], ["username: somebody"]),
        (["UserName: a", "username: b"], ["UserName: a", "username: b"]),
        (["username: somebody", "password: x"], []),
        (["username: 0123456789abcdef", "password:"], []),
        (["Password: x"], []),
    ],
)
@on_uvloop
async def test_a_user_name_is_forwarded_exactly_if_no_password_came(
    lines: list[str], forwarded: list[str]
) -> None:
    async with bench() as stage:
        assert (await stage.call(("", lines), "/public/x"))[0] == 200
        received = stage.proxy.upstream.received[-1].decode().split("\r\n")
        assert [one for one in received if one[:8].lower() in ("username", "password")] == forwarded


@on_uvloop
async def test_an_upstream_that_gets_credentials_gets_the_pair() -> None:
    async with running_proxy(accounts=ACCOUNTS, forward_credentials=True) as proxy:
        stage = Bench(proxy, None, {})  # type: ignore[arg-type]
        lines = [f"username: {ACCOUNT}", f"password: {PASSWORD}"]
        assert (await stage.call(("", lines), "/calls/1"))[0] == 200
        assert "\r\n".join(lines).encode() in proxy.upstream.received[0]


@on_uvloop
async def test_other_rules_read_the_same_bytes_anew_whatever_was_cached() -> None:
    """A form that is switched off, or another prefix of tokens, takes effect at once."""
    async with bench() as stage:
        token, gateway = stage.tokens["valid"], stage.proxy.gateway
        places = [line("Authorization: "), in_basic(ACCOUNT + ":{}"), in_pair(ACCOUNT + ":{}")]

        async def codes() -> list[str]:
            return [(await stage.call(place(token), "/calls/1"))[1] for place in places]

        for _ in range(4):
            assert await codes() == ["", "", ""]
        before = gateway.rules
        changes: list[tuple[dict[str, object], list[str]]] = [
            ({"credentials": {"schemes": ["Bearer"]}}, ["malformed_credentials", "", ""]),
            ({"tokens": {"prefix": "x_"}}, ["", "invalid_password", "invalid_password"]),
            ({"credentials": {"password_fields": None}}, ["", "", "missing_credentials"]),
        ]
        for change, wanted in changes:
            settings = Settings.model_validate(
                {
                    "upstreams": {"service": {"url": "http://127.0.0.1:9"}},
                    "routes": [{"path": "/**"}],
                    "accounts": ACCOUNTS,
                    **change,
                },
                context={"directory": Path()},
            )
            rules = build_rules(settings, asyncio.get_running_loop())
            gateway.rules = replace(rules, upstreams=before.upstreams)
            for _ in range(3):
                assert await codes() == wanted
            gateway.rules = before
            assert await codes() == ["", "", ""]
