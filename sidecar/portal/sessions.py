"""A browser's session: an encrypted cookie that expires, and the tokens that its forms carry.

The cookie holds the whole session, so any worker or replica can read it. It ends after 15 idle
minutes, after 8 hours in any case, when the account's password changes, and when the account is
disabled or removed. The *CSRF token* proves that a form came from our page. The *form token* proves
that a form was not submitted before: whatever creates a token renews it, so that a reload creates
no second one.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_session import AbstractStorage, Session
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from sidecar.core.policy import Account
from sidecar.portal.context import CONTEXT
from sidecar.portal.request_origin import is_secure, prefix_of

IDLE_SECONDS: Final = 15 * 60
LONGEST_SECONDS: Final = 8 * 3600

COOKIE: Final = "portal_session"
SECURE_COOKIE: Final = "__Host-portal_session"
SECURE_COOKIE_BELOW: Final = "__Secure-portal_session"
"""Below a prefix: `__Host-` is for cookies of a whole host."""

_SECRET_CACHE_SECONDS: Final = 60
_TOKEN_BYTES: Final = 24


class SessionCookies(AbstractStorage):
    """aiohttp-session's storage: ``__Host-`` and ``Secure`` where the browser speaks TLS.

    Below a prefix, the cookie is for that path alone.
    """

    def __init__(self) -> None:
        super().__init__(cookie_name=COOKIE)
        self._key = b""
        self._storages: dict[bool, EncryptedCookieStorage] = {}
        self._cached_until = float("-inf")

    async def load_session(self, request: web.Request) -> Session:
        """Return the session; a new one if there is no cookie, or not one of ours."""
        storage = await self._storage_for(request)
        cookie = request.cookies.get(storage.cookie_name, "")
        if not cookie.isascii():
            return await self.new_session()
        return await storage.load_session(request)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse, session: Session
    ) -> None:
        """Set the cookie. It is never deleted: after signing out, it holds an anonymous session."""
        storage = await self._storage_for(request)
        await storage.save_session(request, response, session)

    async def _storage_for(self, request: web.Request) -> EncryptedCookieStorage:
        context = request.app[CONTEXT]
        if context.now() >= self._cached_until:
            self._key = base64.urlsafe_b64encode(await context.secret())
            self._storages = {one: _storage(self._key, one) for one in (False, True)}
            self._cached_until = context.now() + _SECRET_CACHE_SECONDS
        prefix = prefix_of(request)
        if prefix:  # not cached: whoever may send one may send any number
            return _storage(self._key, is_secure(request), prefix)
        return self._storages[is_secure(request)]


COOKIES: Final = web.AppKey("cookies", SessionCookies)
_SESSION: Final = web.RequestKey("session", Session)


def _storage(key: bytes, is_secure: bool, prefix: str = "") -> EncryptedCookieStorage:
    secure_name = SECURE_COOKIE_BELOW if prefix else SECURE_COOKIE
    return EncryptedCookieStorage(
        key.decode(),
        cookie_name=secure_name if is_secure else COOKIE,
        path=prefix or "/",
        secure=is_secure,
        httponly=True,
        samesite="Strict",
    )


class PortalSession:
    """The session of one request: who is signed in, its form tokens and its notice."""

    def __init__(
        self, session: Session, accounts: Mapping[str, Account], now: float, prefix: str = ""
    ) -> None:
        self._session = session
        self._now = now
        self.prefix = prefix
        """What the page's own links begin with (``request_origin.prefix_of``)."""
        self.account = self._find_account(accounts)
        """The account that is signed in; ``None``: the session is anonymous."""
        if self.account is not None:
            session["seen"] = int(now)
        elif "account" in session:
            self._restart(notice="ended")
        elif "csrf" not in session:
            self._restart()

    def __repr__(self) -> str:
        return f"<PortalSession of {self.account.name if self.account else 'nobody'}>"

    @property
    def csrf_token(self) -> str:
        """Proves that a form came from our own page."""
        return str(self._session["csrf"])

    @property
    def form_token(self) -> str:
        """Proves that a form was not submitted before."""
        return str(self._session["form"])

    def has_csrf_token(self, form: Mapping[str, str]) -> bool:
        """Tell whether a form came from a page of this session."""
        return _is_same(form.get("csrf", ""), self.csrf_token)

    def has_form_token(self, form: Mapping[str, str]) -> bool:
        """Tell whether a form that creates a token is submitted for the first time."""
        return _is_same(form.get("form", ""), self.form_token)

    def renew_form_token(self) -> None:
        """Keep the forms shown so far from creating another token."""
        self._session["form"] = secrets.token_urlsafe(_TOKEN_BYTES)

    def sign_in(self, account: Account) -> None:
        """Start a new session of this account."""
        self._restart()
        self._session["account"] = account.name
        self._session["password"] = _fingerprint(account)
        self._session["started"] = self._session["seen"] = int(self._now)
        self.account = account

    def sign_out(self) -> None:
        """Start a new, anonymous session."""
        self._restart(notice="signed_out")
        self.account = None

    def add_notice(self, code: str, about: str = "") -> None:
        """Have the next page show a notice, once."""
        self._session["notice"] = [code, about]

    def pop_notice(self) -> tuple[str, str] | None:
        """Return the notice for this page, and forget it."""
        if "notice" not in self._session:
            return None
        code, about = self._session["notice"]
        del self._session["notice"]
        return code, about

    def _restart(self, notice: str | None = None) -> None:
        self._session.invalidate()
        self._session["csrf"] = secrets.token_urlsafe(_TOKEN_BYTES)
        self.renew_form_token()
        if notice is not None:
            self.add_notice(notice)

    def _find_account(self, accounts: Mapping[str, Account]) -> Account | None:
        session = self._session
        account = accounts.get(session.get("account", ""))
        if account is None or account.disabled:
            return None
        is_active = self._now < session["seen"] + IDLE_SECONDS
        is_young = self._now < session["started"] + LONGEST_SECONDS
        has_same_password = _is_same(session["password"], _fingerprint(account))
        return account if is_active and is_young and has_same_password else None


async def open_session(request: web.Request) -> PortalSession:
    """Return the request's session. May raise ``StoreUnavailable``: its key is in the store."""
    context = request.app[CONTEXT]
    session = request[_SESSION] = await request.app[COOKIES].load_session(request)
    return PortalSession(session, context.config().accounts, context.now(), prefix_of(request))


@web.middleware
async def keep_session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the cookie of a request that has opened its session, whatever its response is."""
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
