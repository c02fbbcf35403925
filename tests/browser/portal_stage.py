"""A portal on a real socket, over a memory store, at a time that tests set."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import ClientResponse, ClientSession, CookieJar, web

from sidecar.auth.hash_pool import verify_in_thread
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord
from sidecar.core.passwords import hash_password
from sidecar.core.policy import Account
from sidecar.core.trusted_proxies import TrustedProxies
from sidecar.observability.audit import AuditLog
from sidecar.portal.app import portal_app
from sidecar.portal.context import PortalConfig, SharedSecret
from sidecar.portal.runner import PortalRunner
from sidecar.store.memory import MemoryStore
from sidecar.tokens.lifecycle import Lifecycle, TokenDetails

PASSWORD = "correct horse"
_HASH = hash_password(PASSWORD)
NOW = 1_795_460_400.0  # 23 November 2026


def secret_of_this_process() -> SharedSecret:
    """Return a secret that no other process shares."""
    secret = os.urandom(32)

    async def read() -> bytes:
        return secret

    return read


def sign(record: TokenRecord) -> str:
    """Stand for the signer of JWTs: the portal does not look into one."""
    return f"eyJhbGciOiJFZERTQSJ9.{record.id}.c2lnbmF0dXJl"


class Store(MemoryStore):
    """A memory store that can be away."""

    is_away = False

    async def list(self, account: str | None = None) -> list[TokenRecord]:
        self._fail_if_away()
        return await super().list(account)

    async def find(self, token_id: str, account: str | None = None) -> TokenRecord | None:
        self._fail_if_away()
        return await super().find(token_id, account)

    async def create(self, record: TokenRecord) -> None:
        self._fail_if_away()
        await super().create(record)

    def _fail_if_away(self) -> None:
        if self.is_away:
            raise StoreUnavailable("Redis did not answer within 0.25 s")


class RecordingGate:
    """A gate that bans when told to, and writes down what it is told."""

    def __init__(self) -> None:
        self.ban_seconds: int | None = None
        self.failures: list[tuple[str, str]] = []
        self.sign_ins: list[tuple[str, str]] = []

    def check(self, client: str, account: str | None = None) -> int | None:
        return self.ban_seconds

    def may_look_up(self, client: str, digest: str, is_limited: bool = False) -> bool:
        return True

    def failures_of(self, client: str, key: str) -> int:
        return len(self.failures)

    def note_failure(self, client: str, account: str | None = None) -> None:
        self.failures.append((client, account or ""))

    def note_sign_in(self, client: str, account: str) -> None:
        self.sign_ins.append((client, account))


class PortalStage:
    """What a test sees and turns: the time, the accounts, the store, the gate, the audit lines."""

    def __init__(
        self, secret: SharedSecret | None = None, trusted_proxies: TrustedProxies | None = None
    ) -> None:
        self.now = NOW
        self.store = Store(lambda: self.now)
        self.gate = RecordingGate()
        self.audit_lines: list[dict[str, Any]] = []
        self.sign_in = PasswordVerifier(verify_in_thread)
        self.url = ""
        self._trusted_proxies = trusted_proxies or TrustedProxies()
        self.set_accounts(
            Account("acme", _HASH),
            Account("brief", _HASH, max_token_days=30),
            Account("other", _HASH),
            Account("off", _HASH, disabled=True),
        )
        audit = AuditLog(self._keep_line, lambda name: name in self.config.accounts)
        self.app = portal_app(
            lambda: self.config,
            self.sign_in,
            throttle=self.gate,
            audit=audit,
            secret=secret or secret_of_this_process(),
            now=lambda: self.now,
        )

    def set_accounts(self, *accounts: Account, can_issue_jwt: bool = True) -> None:
        """Do what a changed configuration does."""
        by_name = {account.name: account for account in accounts}
        signer = sign if can_issue_jwt else None
        lifecycle = Lifecycle(self.store, by_name, "sct_", lambda: self.now, os.urandom, signer)
        self.config = PortalConfig(
            by_name,
            lifecycle,
            can_issue_jwt=can_issue_jwt,
            expiry_notice_seconds=14 * 86400.0,
            trusted_proxies=self._trusted_proxies,
        )

    def change_account(self, name: str, **changes: Any) -> None:
        """Change one account in the configuration."""
        accounts = {**self.config.accounts, name: replace(self.config.accounts[name], **changes)}
        self.set_accounts(*accounts.values())

    async def create(
        self, account: str, name: str, days: int = 30, **more: Any
    ) -> tuple[TokenRecord, str]:
        """Make a token as the command line would."""
        return await self.config.lifecycle.create(account, name, days, **more)

    async def names(self, account: str) -> list[str]:
        """Return the names of an account's live tokens."""
        return [token.record.name for token in await self.tokens(account)]

    async def tokens(self, account: str) -> list[TokenDetails]:
        """Return an account's live tokens."""
        return await self.config.lifecycle.list(account)

    async def is_live(self, secret: str) -> bool:
        """Tell whether the proxy would know this token."""
        return (await self.config.lifecycle.inspect(secret)).record is not None

    def _keep_line(self, lines: bytes, _count: int) -> None:
        self.audit_lines += [json.loads(line) for line in lines.splitlines()]


@asynccontextmanager
async def running_portal(
    secret: SharedSecret | None = None, trusted_proxies: TrustedProxies | None = None
) -> AsyncIterator[PortalStage]:
    """Serve a portal on a free port of this machine."""
    stage = PortalStage(secret, trusted_proxies)
    runner = PortalRunner(stage.app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stage.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield stage
    finally:
        await runner.cleanup()
        stage.sign_in.close()


class ApiClient:
    """The token API as ``curl -u`` uses it."""

    def __init__(self, session: ClientSession, account: str, password: str = PASSWORD) -> None:
        self._session = session
        pair = f"{account}:{password}".encode()
        self._authorization = f"Basic {base64.b64encode(pair).decode()}"

    async def call(
        self, method: str, path: str, body: object = None, **options: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, body (JSON, if there is one) and headers."""
        headers = {"Authorization": self._authorization, **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        async with self._session.request(method, path, headers=headers, **options) as response:
            text = await response.read()
            return response.status, json.loads(text) if text else None, response.headers


@asynccontextmanager
async def visiting(stage: PortalStage) -> AsyncIterator[ClientSession]:
    """Be a browser without JavaScript, with a cookie jar of its own."""
    async with ClientSession(stage.url, cookie_jar=CookieJar(unsafe=True)) as session:
        yield session


def field(html: str, name: str) -> str:
    """Return the value of a hidden field."""
    _, _, rest = html.partition(f'name="{name}" value="')
    return rest.partition('"')[0]


async def send(
    session: ClientSession,
    path: str,
    page: str,
    headers: Mapping[str, str] | None = None,
    /,
    **more: str,
) -> ClientResponse:
    """Send a form with the marks that stand in ``page``; follow nothing."""
    fields = {"csrf": field(page, "csrf"), "form": field(page, "form"), **more}
    return await session.post(path, data=fields, headers=headers, allow_redirects=False)


async def sign_in(session: ClientSession, account: str = "acme", password: str = PASSWORD) -> str:
    """Sign in; return the page that comes."""
    page = await (await session.get("/")).text()
    response = await send(session, "/sign-in", page, account=account, password=password)
    assert response.status == 303, await response.text()
    return await (await session.get("/")).text()
