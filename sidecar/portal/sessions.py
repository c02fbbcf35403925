"""A browser's session: an encrypted cookie that ends early, and the tokens that its forms carry.

The cookie holds all there is, so any worker or replica can read it. It ends after 15 idle minutes,
after 8 hours in any case, when the account's password changes and when the account is disabled or
gone. ``csrf`` shows that a form came from our page; ``form`` that it was not sent before: it is
replaced by whatever makes a token, so that a reload makes no second one.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from aiohttp import web
from aiohttp_session import AbstractStorage, Session
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from sidecar.core.policy import Account
from sidecar.portal.context import PARTS, Handler
from sidecar.portal.request_origin import is_secure

IDLE_SECONDS: Final = 15 * 60
LONGEST_SECONDS: Final = 8 * 3600

COOKIE: Final = "portal_session"
SECURE_COOKIE: Final = "__Host-portal_session"

_SECRET_BELIEVED_SECONDS: Final = 60
_TOKEN_BYTES: Final = 24


class SessionCookies(AbstractStorage):
    """aiohttp-session's storage: ``__Host-`` and ``Secure`` where the browser speaks TLS."""

    def __init__(self) -> None:
        super().__init__(cookie_name=COOKIE)
        self._storages: dict[bool, EncryptedCookieStorage] = {}
        self._believed_until = float("-inf")

    async def load_session(self, request: web.Request) -> Session:
        """Return the session, a new one if the cookie is none of ours."""
        storage = await self._storage_for(request)
        cookie = request.cookies.get(storage.cookie_name, "")
        if not cookie.isascii():
            return await self.new_session()
        return await storage.load_session(request)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse, session: Session
    ) -> None:
        """Set the cookie. It is never deleted: what replaces it is a session of nobody."""
        storage = await self._storage_for(request)
        await storage.save_session(request, response, session)

    async def _storage_for(self, request: web.Request) -> EncryptedCookieStorage:
        parts = request.app[PARTS]
        if parts.now() >= self._believed_until:
            key = base64.urlsafe_b64encode(await parts.secret())
            self._storages = {False: _storage(key, COOKIE), True: _storage(key, SECURE_COOKIE)}
            self._believed_until = parts.now() + _SECRET_BELIEVED_SECONDS
        return self._storages[is_secure(request)]


COOKIES: Final = web.AppKey("cookies", SessionCookies)
_SESSION: Final = web.RequestKey("session", Session)


def _storage(key: bytes, name: str) -> EncryptedCookieStorage:
    return EncryptedCookieStorage(
        key.decode(),
        cookie_name=name,
        secure=name == SECURE_COOKIE,
        httponly=True,
        samesite="Strict",
    )


class Visit:
    """One request of a browser, and what its session says."""

    def __init__(self, session: Session, accounts: Mapping[str, Account], now: float) -> None:
        self._session = session
        self._now = now
        self.account = self._find_account(accounts)
        """Who is signed in; ``None``: nobody."""
        if self.account is not None:
            session["seen"] = int(now)
        elif "account" in session:
            self._begin(notice="ended")
        elif "csrf" not in session:
            self._begin()

    def __repr__(self) -> str:
        return f"<Visit of {self.account.name if self.account else 'nobody'}>"

    @property
    def csrf(self) -> str:
        """What shows that a form came from our own page."""
        return str(self._session["csrf"])

    @property
    def form(self) -> str:
        """What shows that a form was not sent before."""
        return str(self._session["form"])

    def is_own(self, fields: Mapping[str, str]) -> bool:
        """Tell whether a form came from a page of this session."""
        return _is_same(fields.get("csrf", ""), self.csrf)

    def is_first(self, fields: Mapping[str, str]) -> bool:
        """Tell whether a form that makes a token was not sent before."""
        return _is_same(fields.get("form", ""), self.form)

    def renew_form(self) -> None:
        """Make forms sent so far unusable for making another token."""
        self._session["form"] = secrets.token_urlsafe(_TOKEN_BYTES)

    def sign_in(self, account: Account) -> None:
        """Begin a new session, of this account."""
        self._begin()
        self._session["account"] = account.name
        self._session["password"] = _fingerprint(account)
        self._session["started"] = self._session["seen"] = int(self._now)
        self.account = account

    def sign_out(self) -> None:
        """Begin a new session, of nobody."""
        self._begin(notice="signed_out")
        self.account = None

    def leave_notice(self, code: str, about: str = "") -> None:
        """Say something on the next page, once."""
        self._session["notice"] = [code, about]

    def take_notice(self) -> tuple[str, str] | None:
        """Return what is to be said on this page."""
        if "notice" not in self._session:
            return None
        code, about = self._session["notice"]
        del self._session["notice"]
        return code, about

    def _begin(self, notice: str | None = None) -> None:
        self._session.invalidate()
        self._session["csrf"] = secrets.token_urlsafe(_TOKEN_BYTES)
        self.renew_form()
        if notice is not None:
            self.leave_notice(notice)

    def _find_account(self, accounts: Mapping[str, Account]) -> Account | None:
        session = self._session
        account = accounts.get(session.get("account", ""))
        if account is None or account.disabled:
            return None
        is_recent = self._now < session.get("seen", 0) + IDLE_SECONDS
        is_young = self._now < session.get("started", 0) + LONGEST_SECONDS
        is_same = _is_same(session.get("password", ""), _fingerprint(account))
        return account if is_recent and is_young and is_same else None


async def open_visit(request: web.Request) -> Visit:
    """Return who is there. May raise ``StoreUnavailable``: the cookie's key is in the store."""
    parts = request.app[PARTS]
    session = request[_SESSION] = await request.app[COOKIES].load_session(request)
    return Visit(session, parts.terms().accounts, parts.now())


@web.middleware
async def keep_session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the cookie of a request that has opened a visit, whatever its answer is."""
    try:
        response = await handler(request)
    except web.HTTPException as redirect:
        await _save(request, redirect)
        raise
    await _save(request, response)
    return response


async def _save(request: web.Request, response: web.StreamResponse) -> None:
    session = request.get(_SESSION)
    if session is not None:
        await request.app[COOKIES].save_session(request, response, session)


def _fingerprint(account: Account) -> str:
    return blake2b((account.password_hash or "").encode(), digest_size=16).hexdigest()


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
