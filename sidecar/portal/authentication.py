"""The one place where the portal checks a password, for the page and the API alike."""

from __future__ import annotations

from aiohttp import web

from sidecar.core.model import Denial
from sidecar.core.policy import DISABLED, Account
from sidecar.portal.context import CONTEXT
from sidecar.portal.request_origin import actor_of, client_of


async def authenticate(request: web.Request, name: str, password: str) -> Account | Denial:
    """Return the account that this password belongs to, or the denial.

    Only a caller that knows the password learns that an account is disabled. May raise
    ``Overloaded``.
    """
    context = request.app[CONTEXT]
    accounts = context.config().accounts
    client, actor = client_of(request), actor_of(request)
    denial = await context.password_auth.authenticate(accounts, name, password, client, actor)
    if denial is not None:
        return denial
    account = accounts[name]
    return DISABLED if account.disabled else account
