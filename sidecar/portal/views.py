"""The page's views: signing in and out, and the table of API keys; who may see a view, and when.

A *rejection* is a form that is shown again, with what to correct.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from sidecar.core.model import Denial
from sidecar.core.policy import Account
from sidecar.core.problems import PROBLEM_TYPES
from sidecar.portal.authentication import authenticate
from sidecar.portal.context import CONTEXT
from sidecar.portal.formatting import format_wait, token_table
from sidecar.portal.problem_responses import problem_headers
from sidecar.portal.rendering import render_error, render_page
from sidecar.portal.request_bodies import read_form
from sidecar.portal.request_origin import is_cross_site
from sidecar.portal.sessions import PortalSession, open_session
from sidecar.portal.token_models import FieldError

FormData = Mapping[str, str]
PageView = Callable[[web.Request, PortalSession, Account], Awaitable[web.Response]]
FormView = Callable[[web.Request, PortalSession, Account, FormData], Awaitable[web.Response]]

_WRONG_CSRF_TOKEN: Final = Denial(
    "cross_site",
    "Go back to your API keys and try again: the form did not come from your session.",
)
_SIGN_IN_AGAIN: Final = "The page was open for too long. Please sign in again."
_DEFAULT_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a form is shown again: the response's status and headers, and the errors to show."""

    status: int
    errors: list[FieldError]
    headers: Mapping[str, str] = field(default_factory=dict)


def login_required(view: PageView) -> Handler:
    """Let only signed-in accounts see a view; redirect anyone else to the front page."""

    async def handle(request: web.Request) -> web.StreamResponse:
        session = await open_session(request)
        if session.account is None:
            raise web.HTTPSeeOther("/")
        return await view(request, session, session.account)

    return handle


def form_view(view: FormView) -> Handler:
    """Accept a form from a signed-in account, if it came from a page of its session."""

    async def handle(
        request: web.Request, session: PortalSession, account: Account
    ) -> web.Response:
        form = await read_form(request)
        if isinstance(form, Denial):
            return render_error(request, form)
        if is_cross_site(request) or not session.has_csrf_token(form):
            return render_error(request, _WRONG_CSRF_TOKEN)
        return await view(request, session, account, form)

    return login_required(handle)


async def show_home(request: web.Request) -> web.StreamResponse:
    """Show the table of API keys, or the sign-in form in an anonymous session."""
    session = await open_session(request)
    if session.account is None:
        return _render_sign_in(session, notice=session.pop_notice())
    return await render_keys(request, session, session.account, notice=session.pop_notice())


async def redirect_home(_request: web.Request) -> web.StreamResponse:
    """Redirect a browser that opens a form's address to the front page."""
    raise web.HTTPSeeOther("/")


async def sign_in(request: web.Request) -> web.StreamResponse:
    """Accept the sign-in form."""
    session = await open_session(request)
    form = await read_form(request)
    if isinstance(form, Denial):
        return render_error(request, form)
    # A phone's keyboard writes a space after a name that it has completed.
    name, password = form.get("account", "").strip(), form.get("password", "")
    if is_cross_site(request) or not session.has_csrf_token(form):
        return _render_sign_in(session, name, Rejection(403, [FieldError("", _SIGN_IN_AGAIN)]))
    if missing := _missing(name, password):
        return _render_sign_in(session, name, Rejection(422, missing))
    account = await authenticate(request, name, password)
    if isinstance(account, Denial):
        return _render_sign_in(session, name, reject_password(account))
    session.sign_in(account)
    raise web.HTTPSeeOther("/")


async def sign_out(
    _request: web.Request, session: PortalSession, _account: Account, _form: FormData
) -> web.Response:
    """End the session."""
    session.sign_out()
    raise web.HTTPSeeOther("/")


async def render_keys(
    request: web.Request,
    session: PortalSession,
    account: Account,
    *,
    form: FormData | None = None,
    rejection: Rejection | None = None,
    notice: tuple[str, str] | None = None,
) -> web.Response:
    """Return the table and the *Create new token* form.

    The form keeps what was entered in ``form``, but never the password.
    """
    context = request.app[CONTEXT]
    config = context.config()
    tokens = await config.lifecycle.list(account.name)
    days = min(_DEFAULT_DAYS, account.max_token_days or _DEFAULT_DAYS)
    empty = {"name": "", "days": str(days), "kind": "access", "paths": ""}
    kept = {name: (form or empty).get(name, "") for name in empty}
    return render_page(
        "keys.html",
        session,
        status=rejection.status if rejection else 200,
        headers=rejection.headers if rejection else None,
        table=token_table(tokens, context.now(), config.expiry_notice_seconds, _page_of(request)),
        values=kept,
        errors=rejection.errors if rejection else [],
        notice=notice,
        can_issue_jwt=config.can_issue_jwt,
        max_days=account.max_token_days,
    )


def _page_of(request: web.Request) -> int:
    number = request.query.get("page", "")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 1


def reject_password(denial: Denial) -> Rejection:
    """Return how a form is shown again after a password that was not accepted.

    The status is 403 in place of 401, which would need a challenge.
    """
    status = PROBLEM_TYPES[denial.code].status
    headers = problem_headers(denial)
    headers.pop("WWW-Authenticate", None)
    error = FieldError("", _explain(denial))
    return Rejection(403 if status == 401 else status, [error], headers)


def _explain(denial: Denial) -> str:
    if denial.code == "too_many_failures":
        wait = format_wait(denial.retry_after_seconds or 1)
        return f"There were too many wrong passwords. Try again in {wait}."
    if denial.code == "account_disabled":
        return "This account is disabled. Ask your administrator."
    return "The account or the password is wrong. Check both and try again."


def _render_sign_in(
    session: PortalSession,
    name: str = "",
    rejection: Rejection | None = None,
    notice: tuple[str, str] | None = None,
) -> web.Response:
    return render_page(
        "sign_in.html",
        session,
        status=rejection.status if rejection else 200,
        headers=rejection.headers if rejection else None,
        name=name,
        errors=rejection.errors if rejection else [],
        notice=notice,
    )


def _missing(name: str, password: str) -> list[FieldError]:
    errors = []
    if not name:
        errors.append(FieldError("account", "Enter the name of your account."))
    if not password:
        errors.append(FieldError("password", "Enter your password."))
    return errors
