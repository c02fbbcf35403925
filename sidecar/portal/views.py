"""The page: signing in and out, and the table of API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from sidecar.core.model import Denial
from sidecar.core.policy import Account
from sidecar.core.problems import PROBLEM_TYPES
from sidecar.portal.authentication import admit
from sidecar.portal.context import PARTS, Handler
from sidecar.portal.formatting import table_of, wait_of
from sidecar.portal.problem_responses import problem_headers
from sidecar.portal.rendering import failure, page
from sidecar.portal.request_bodies import read_form
from sidecar.portal.request_origin import is_cross_site
from sidecar.portal.sessions import Visit, open_visit
from sidecar.portal.token_models import FieldError

Fields = Mapping[str, str]
Shown = Callable[[web.Request, Visit, Account], Awaitable[web.Response]]
Sent = Callable[[web.Request, Visit, Account, Fields], Awaitable[web.Response]]

_STALE: Final = Denial(
    "cross_site", "Go back to your API keys and try again: the form was not from your session."
)
_SIGN_IN_AGAIN: Final = "The page had been open for too long. Please sign in again."
_DEFAULT_DAYS: Final = 90


def signed_in(shown: Shown) -> Handler:
    """Show something to an account; whoever is not signed in is sent to the front page."""

    async def handle(request: web.Request) -> web.StreamResponse:
        visit = await open_visit(request)
        if visit.account is None:
            raise web.HTTPSeeOther("/")
        return await shown(request, visit, visit.account)

    return handle


def sent_by(sent: Sent) -> Handler:
    """Take a form from an account, if it is our own page's."""

    async def handle(request: web.Request, visit: Visit, account: Account) -> web.Response:
        fields = await read_form(request)
        if isinstance(fields, Denial):
            return failure(request, fields, PROBLEM_TYPES[fields.code].status)
        if is_cross_site(request) or not visit.is_own(fields):
            return failure(request, _STALE, 403)
        return await sent(request, visit, account, fields)

    return signed_in(handle)


async def show_home(request: web.Request) -> web.StreamResponse:
    """Show the sign-in form, or to whom is signed in the keys."""
    visit = await open_visit(request)
    if visit.account is None:
        return _sign_in_page(visit, notice=visit.take_notice())
    return await keys_page(request, visit, visit.account, notice=visit.take_notice())


async def go_home(_request: web.Request) -> web.StreamResponse:
    """Send who types the address of a form to the front page."""
    raise web.HTTPSeeOther("/")


async def sign_in(request: web.Request) -> web.StreamResponse:
    """Take the sign-in form."""
    visit = await open_visit(request)
    fields = await read_form(request)
    if isinstance(fields, Denial):
        return failure(request, fields, PROBLEM_TYPES[fields.code].status)
    # A phone's keyboard writes a space after a name that it has completed.
    name, password = fields.get("account", "").strip(), fields.get("password", "")
    if is_cross_site(request) or not visit.is_own(fields):
        return _sign_in_page(visit, name, [FieldError("", _SIGN_IN_AGAIN)], status=403)
    if missing := _missing(name, password):
        return _sign_in_page(visit, name, missing, status=422)
    account = await admit(request, name, password)
    if isinstance(account, Denial):
        error = FieldError("", sentence(account))
        return _sign_in_page(
            visit, name, [error], status=form_status(account), headers=form_headers(account)
        )
    visit.sign_in(account)
    raise web.HTTPSeeOther("/")


async def sign_out(
    _request: web.Request, visit: Visit, _account: Account, _fields: Fields
) -> web.Response:
    """End the session."""
    visit.sign_out()
    raise web.HTTPSeeOther("/")


async def keys_page(
    request: web.Request,
    visit: Visit,
    account: Account,
    *,
    values: Fields | None = None,
    errors: list[FieldError] | None = None,
    notice: tuple[str, str] | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return the table and the form, which keeps what was entered; never the password."""
    parts = request.app[PARTS]
    terms = parts.terms()
    tokens = await terms.lifecycle.list(account.name)
    days = min(_DEFAULT_DAYS, account.max_token_days or _DEFAULT_DAYS)
    empty = {"name": "", "days": str(days), "kind": "access", "paths": ""}
    kept = {name: (values or empty).get(name, "") for name in empty}
    return page(
        "keys.html",
        visit,
        status=status,
        headers=headers,
        table=table_of(tokens, parts.now(), terms.expiry_notice_seconds, _page_of(request)),
        values=kept,
        errors=errors or [],
        notice=notice,
        can_issue_jwt=terms.can_issue_jwt,
        max_days=account.max_token_days,
    )


def _page_of(request: web.Request) -> int:
    asked = request.query.get("page", "")
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1


def sentence(denial: Denial) -> str:
    """Return what a form says of a password that was not accepted."""
    if denial.code == "too_many_failures":
        wait = wait_of(denial.retry_after_seconds or 1)
        return f"Too many wrong passwords were given. Try again in {wait}."
    if denial.code == "account_disabled":
        return "This account is disabled. Ask your administrator."
    return "The account or the password is wrong. Check both and try again."


def form_status(denial: Denial) -> int:
    """Return the status of a form that is shown again: 401 would need a challenge."""
    status = PROBLEM_TYPES[denial.code].status
    return 403 if status == 401 else status


def form_headers(denial: Denial) -> dict[str, str]:
    """Return what goes with it."""
    headers = problem_headers(denial)
    headers.pop("WWW-Authenticate", None)
    return headers


def _sign_in_page(
    visit: Visit, name: str = "", errors: list[FieldError] | None = None, **more: Any
) -> web.Response:
    more.setdefault("notice", None)
    return page("sign_in.html", visit, name=name, errors=errors or [], **more)


def _missing(name: str, password: str) -> list[FieldError]:
    errors = []
    if not name:
        errors.append(FieldError("account", "Enter the name of your account."))
    if not password:
        errors.append(FieldError("password", "Enter your password."))
    return errors
