"""Who may come in: the one place where the portal judges a password, for the page and the API."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from sidecar.core.model import Denial
from sidecar.core.policy import DISABLED, Account
from sidecar.portal.callers import actor_of, client_of
from sidecar.portal.parts import PARTS

WRONG: Final = Denial("invalid_password", "The account or the password is wrong.")
_BANNED: Final = "Too many wrong passwords were given; try again later."


async def admit(request: web.Request, name: str, password: str) -> Account | Denial:
    """Return the account whose password this is, or why it may not come in.

    An unknown account and a wrong password are one denial. That an account is disabled is told
    only to who knows its password. May raise ``Overloaded``.
    """
    parts, client = request.app[PARTS], client_of(request)
    retry_after_seconds = parts.gate.check(client, name)
    if retry_after_seconds is not None:
        return Denial("too_many_failures", _BANNED, retry_after_seconds)
    accounts = parts.terms().accounts
    if not await parts.sign_in.check(accounts, name, password):
        parts.gate.note_failure(client, name)
        parts.audit.sign_in_failed(name, client, actor_of(request))
        return WRONG
    parts.gate.note_sign_in(client, name)
    account = accounts[name]
    return DISABLED if account.disabled else account
