"""The page's views that change tokens: create, rotate, revoke. Each asks before it does harm.

The new token is in the response to the form, and nowhere else: in no URL, no cookie and no memory.
The form token is renewed with it, so that submitting the form again creates no second one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from sidecar.core.errors import NameTaken
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.policy import Account
from sidecar.core.problems import PROBLEM_TYPES
from sidecar.core.token_rules import DEFAULT_OVERLAP, InvalidField, TooManyTokens, parse_days
from sidecar.observability.audit import Actor
from sidecar.portal.authentication import authenticate
from sidecar.portal.context import CONTEXT
from sidecar.portal.formatting import as_sentence, token_row
from sidecar.portal.rendering import render_error, render_page
from sidecar.portal.request_origin import client_of
from sidecar.portal.sessions import PortalSession
from sidecar.portal.token_models import (
    FieldError,
    NewToken,
    Rotation,
    TokenLimits,
)
from sidecar.portal.views import FormData, Rejection, reject_password, render_keys
from sidecar.tokens.lifecycle import AlreadyRotated, TokenDetails, UnknownToken

OVERLAPS: Final = {
    "0": "None: the old token stops at once",
    "1h": "1 hour",
    "1d": "1 day",
    "7d": "7 days",
}

_SUBMITTED_BEFORE: Final = (
    "This form was sent before, so no second token was created. "
    "To create another token, enter your password and send the form again."
)
_FORM_FIELDS: Final = frozenset({"name", "days", "kind", "paths", "overlap"})
_PASSWORD_NEEDED: Final = "Enter your password: it is needed for every new token."  # noqa: S105
_WRONG_PASSWORD: Final = "This is not your password. Try again."  # noqa: S105


async def create(
    request: web.Request, session: PortalSession, account: Account, form: FormData
) -> web.Response:
    """Accept the *Create new token* form; show the new token, or the form with what to correct."""
    context = request.app[CONTEXT]
    config = context.config()
    wanted = NewToken.read(_read_token_form(form), TokenLimits(account, config.can_issue_jwt))
    errors = wanted if isinstance(wanted, list) else []
    rejection = await _check_form(request, session, account, form, errors)
    if rejection or isinstance(wanted, list):
        return await render_keys(request, session, account, form=form, rejection=rejection)
    try:
        record, secret = await config.lifecycle.create(
            account.name, wanted.name, wanted.days, kind=TokenKind(wanted.kind), paths=wanted.paths
        )
    except (NameTaken, TooManyTokens, InvalidField) as error:
        rejection = _reject(error)
        return await render_keys(request, session, account, form=form, rejection=rejection)
    context.audit.token_created(record, client_of(request), Actor.PORTAL)
    return _render_secret(request, session, record, secret)


async def ask_rotate(
    request: web.Request, session: PortalSession, account: Account
) -> web.Response:
    """Show the form that rotates one token."""
    return await _render_token(request, session, account, "rotate.html", overlap=DEFAULT_OVERLAP)


async def rotate(
    request: web.Request, session: PortalSession, account: Account, form: FormData
) -> web.Response:
    """Accept that form; show the successor, or the form with what to correct."""
    context = request.app[CONTEXT]
    config = context.config()
    overlap = form.get("overlap", "")
    wanted = Rotation.read({"overlap": overlap}, TokenLimits(account, config.can_issue_jwt))
    errors = wanted if isinstance(wanted, list) else []
    rejection = await _check_form(request, session, account, form, errors)
    if rejection or isinstance(wanted, list):
        return await _render_token(
            request, session, account, "rotate.html", rejection, overlap=overlap
        )
    old_id = request.match_info["id"]
    try:
        record, secret = await config.lifecycle.rotate(old_id, wanted.overlap_seconds, account.name)
    except UnknownToken as error:
        return _render_unknown(request, error)
    except (AlreadyRotated, TooManyTokens, InvalidField) as error:
        return await _render_token(
            request, session, account, "rotate.html", _reject(error), overlap=overlap
        )
    context.audit.token_rotated(record, old_id, client_of(request), Actor.PORTAL)
    return _render_secret(request, session, record, secret, _end_of_old(overlap))


async def ask_revoke(
    request: web.Request, session: PortalSession, account: Account
) -> web.Response:
    """Ask whether one token is really to be revoked."""
    return await _render_token(request, session, account, "revoke.html")


async def revoke(
    request: web.Request, session: PortalSession, account: Account, _form: FormData
) -> web.Response:
    """Revoke one token, and say so on the front page."""
    context = request.app[CONTEXT]
    try:
        record = await context.config().lifecycle.revoke(request.match_info["id"], account.name)
    except UnknownToken as error:
        return _render_unknown(request, error)
    context.audit.token_revoked(record, client_of(request), Actor.PORTAL)
    session.add_notice("revoked", record.name)
    raise web.HTTPSeeOther("/")


async def _render_token(
    request: web.Request,
    session: PortalSession,
    account: Account,
    template: str,
    rejection: Rejection | None = None,
    **values: Any,
) -> web.Response:
    """Return a form that is about one token."""
    context = request.app[CONTEXT]
    config = context.config()
    try:
        token = await config.lifecycle.show(request.match_info["id"], account.name)
    except UnknownToken as error:
        return _render_unknown(request, error)
    return render_page(
        template,
        session,
        status=rejection.status if rejection else 200,
        headers=rejection.headers if rejection else None,
        row=token_row(token, context.now(), config.expiry_notice_seconds, is_replaced=False),
        overlaps=OVERLAPS,
        errors=rejection.errors if rejection else [],
        **values,
    )


async def _check_form(
    request: web.Request,
    session: PortalSession,
    account: Account,
    form: FormData,
    errors: list[FieldError],
) -> Rejection | None:
    """Return why the form is shown again, or ``None``; the password is checked last.

    ``errors`` are those of the other fields.
    """
    if not session.has_form_token(form):
        return Rejection(409, [FieldError("", _SUBMITTED_BEFORE)])
    password = form.get("password", "")
    if not password:
        errors = [*errors, FieldError("password", _PASSWORD_NEEDED)]
    if errors:
        return Rejection(422, errors)
    admitted = await authenticate(request, account.name, password)
    if not isinstance(admitted, Denial):
        return None
    rejection = reject_password(admitted)
    if admitted.code == "invalid_password":
        wrong_password = [FieldError("password", _WRONG_PASSWORD)]
        return Rejection(rejection.status, wrong_password, rejection.headers)
    return rejection


def _reject(error: NameTaken | AlreadyRotated | TooManyTokens | InvalidField) -> Rejection:
    """Return how the form is shown again after the lifecycle refused it."""
    field = error.field if isinstance(error, InvalidField) else ""
    if isinstance(error, NameTaken):
        field = "name"
    shown_at = field if field in _FORM_FIELDS else ""
    errors = [FieldError(shown_at, as_sentence(error))]
    return Rejection(PROBLEM_TYPES[error.code].status, errors)


def _render_secret(
    request: web.Request,
    session: PortalSession,
    record: TokenRecord,
    secret: str,
    old_token: str | None = None,
) -> web.Response:
    session.renew_form_token()
    now = request.app[CONTEXT].now()
    row = token_row(TokenDetails(record, None), now, 0.0, is_replaced=False)
    return render_page("created.html", session, row=row, secret=secret, old_token=old_token)


def _render_unknown(request: web.Request, error: UnknownToken) -> web.Response:
    return render_error(request, Denial(error.code, as_sentence(error)))


def _end_of_old(overlap: str) -> str:
    if overlap == "0":
        return "No longer works"
    return f"Works for {OVERLAPS.get(overlap, overlap)} at most"


def _read_token_form(form: FormData) -> dict[str, Any]:
    """Return the form's fields with the types that the API's body has."""
    typed = form.get("days", "").strip()
    days: int | str = typed
    with suppress(InvalidField):  # NewToken.read reports it, with all else that is wrong
        days = parse_days(typed)
    return {
        "name": form.get("name", "").strip(),
        "days": days,
        "kind": form.get("kind", "access"),
        "paths": form.get("paths", "").split(),
    }
