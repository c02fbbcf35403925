"""Who may come in: the one place where the portal judges a password, for the page and the API."""

from __future__ import annotations

from aiohttp import web

from sidecar.core.model import Denial
from sidecar.core.policy import DISABLED, Account
from sidecar.portal.context import PARTS
from sidecar.portal.request_origin import actor_of, client_of


async def admit(request: web.Request, name: str, password: str) -> Account | Denial:
    """Return the account whose password this is, or why it may not come in.

    That an account is disabled is told only to who knows its password. May raise ``Overloaded``.
    """
    parts = request.app[PARTS]
    accounts = parts.terms().accounts
    client, actor = client_of(request), actor_of(request)
    denial = await parts.admission.authenticate(accounts, name, password, client, actor)
    if denial is not None:
        return denial
    account = accounts[name]
    return DISABLED if account.disabled else account
