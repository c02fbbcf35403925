"""The page's forms that change tokens: create, rotate, revoke. Each asks before it does harm.

What makes a token answers the form itself with the new token: it is in no URL, no cookie and no
memory. The form's mark is spent by then, so that sending it again makes no second one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from sidecar.core.errors import NameTaken
from sidecar.core.model import Denial, TokenKind, TokenRecord
from sidecar.core.policy import Account
from sidecar.core.problems import PROBLEM_TYPES
from sidecar.core.token_rules import InvalidField, TooManyTokens, parse_days
from sidecar.observability.audit import Actor
from sidecar.portal.authentication import admit
from sidecar.portal.context import PARTS
from sidecar.portal.formatting import row_of
from sidecar.portal.rendering import failure, page
from sidecar.portal.request_origin import client_of
from sidecar.portal.sessions import Visit
from sidecar.portal.token_models import (
    DEFAULT_OVERLAP,
    FieldContext,
    FieldError,
    NewToken,
    Rotation,
    as_sentence,
)
from sidecar.portal.views import Fields, form_headers, form_status, keys_page, sentence
from sidecar.tokens.lifecycle import AlreadyRotated, TokenDetails, UnknownToken

OVERLAPS: Final = {
    "0": "None: the old token stops at once",
    "1h": "1 hour",
    "1d": "1 day",
    "7d": "7 days",
}

_SENT_BEFORE: Final = (
    "This form was sent before, and nothing was made this time. "
    "To make another token, enter your password and send it again."
)
_FORM_FIELDS: Final = frozenset({"name", "days", "kind", "paths", "overlap"})
_PASSWORD_AGAIN: Final = "Enter your password: it is needed for every new token."  # noqa: S105
_WRONG_PASSWORD: Final = "This is not your password. Try again."  # noqa: S105


async def create(
    request: web.Request, visit: Visit, account: Account, fields: Fields
) -> web.Response:
    """Take the *Create new token* form; show the new token, or the form with what is wrong."""
    parts = request.app[PARTS]
    context = FieldContext(account, parts.terms().can_issue_jwt)
    asked = NewToken.read(_token_fields(fields), context)
    errors = asked if isinstance(asked, list) else []
    refused = await _judge(request, visit, account, fields, errors)
    if refused or isinstance(asked, list):
        return await keys_page(request, visit, account, values=fields, **refused)
    try:
        record, secret = await parts.terms().lifecycle.create(
            account.name, asked.name, asked.days, kind=TokenKind(asked.kind), paths=asked.paths
        )
    except (NameTaken, TooManyTokens, InvalidField) as error:
        refused = _refused(PROBLEM_TYPES[error.code].status, [_field_error(error)])
        return await keys_page(request, visit, account, values=fields, **refused)
    parts.audit.token_created(record, client_of(request), Actor.PORTAL)
    return _show_secret(request, visit, record, secret)


async def ask_rotate(request: web.Request, visit: Visit, account: Account) -> web.Response:
    """Show the form that rotates one token."""
    return await _confirm(request, visit, account, "rotate.html", overlap=DEFAULT_OVERLAP)


async def rotate(
    request: web.Request, visit: Visit, account: Account, fields: Fields
) -> web.Response:
    """Take that form; show the successor, or the form with what is wrong."""
    parts = request.app[PARTS]
    overlap = fields.get("overlap", "")
    asked = Rotation.read({"overlap": overlap}, FieldContext(account, can_issue_jwt=False))
    errors = asked if isinstance(asked, list) else []
    refused = await _judge(request, visit, account, fields, errors)
    if refused or isinstance(asked, list):
        return await _confirm(request, visit, account, "rotate.html", overlap=overlap, **refused)
    old_id = request.match_info["id"]
    try:
        record, secret = await parts.terms().lifecycle.rotate(
            old_id, asked.overlap_seconds, account.name
        )
    except UnknownToken as error:
        return _unknown(request, error)
    except (AlreadyRotated, TooManyTokens, InvalidField) as error:
        refused = _refused(PROBLEM_TYPES[error.code].status, [_field_error(error)])
        return await _confirm(request, visit, account, "rotate.html", overlap=overlap, **refused)
    parts.audit.token_rotated(record, old_id, client_of(request), Actor.PORTAL)
    return _show_secret(request, visit, record, secret, _end_of_old(overlap))


async def ask_revoke(request: web.Request, visit: Visit, account: Account) -> web.Response:
    """Ask whether one token is really to be revoked."""
    return await _confirm(request, visit, account, "revoke.html")


async def revoke(
    request: web.Request, visit: Visit, account: Account, _fields: Fields
) -> web.Response:
    """Revoke one token, and say so on the front page."""
    parts = request.app[PARTS]
    try:
        record = await parts.terms().lifecycle.revoke(request.match_info["id"], account.name)
    except UnknownToken as error:
        return _unknown(request, error)
    parts.audit.token_revoked(record, client_of(request), Actor.PORTAL)
    visit.leave_notice("revoked", record.name)
    raise web.HTTPSeeOther("/")


async def _confirm(
    request: web.Request, visit: Visit, account: Account, template: str, **values: Any
) -> web.Response:
    parts = request.app[PARTS]
    terms = parts.terms()
    try:
        token = await terms.lifecycle.show(request.match_info["id"], account.name)
    except UnknownToken as error:
        return _unknown(request, error)
    row = row_of(token, parts.now(), terms.expiry_notice_seconds, is_replaced=False)
    values.setdefault("errors", [])
    return page(template, visit, row=row, overlaps=OVERLAPS, **values)


async def _judge(
    request: web.Request,
    visit: Visit,
    account: Account,
    fields: Fields,
    errors: list[FieldError],
) -> dict[str, Any]:
    """Return how the form is shown again; empty: it came for the first time, all fields are right
    and so is the password, which is checked last.
    """
    if not visit.is_first(fields):
        return _refused(409, [FieldError("", _SENT_BEFORE)])
    password = fields.get("password", "")
    if not password:
        errors = [*errors, FieldError("password", _PASSWORD_AGAIN)]
    if errors:
        return _refused(422, errors)
    admitted = await admit(request, account.name, password)
    if not isinstance(admitted, Denial):
        return {}
    error = FieldError("", sentence(admitted))
    if admitted.code == "invalid_password":
        error = FieldError("password", _WRONG_PASSWORD)
    refused = _refused(form_status(admitted), [error])
    return {**refused, "headers": form_headers(admitted)}


def _refused(status: int, errors: list[FieldError]) -> dict[str, Any]:
    return {"status": status, "errors": errors}


def _show_secret(
    request: web.Request,
    visit: Visit,
    record: TokenRecord,
    secret: str,
    old_token: str | None = None,
) -> web.Response:
    visit.renew_form()
    parts = request.app[PARTS]
    token = row_of(TokenDetails(record, None), parts.now(), 0.0, is_replaced=False)
    return page("created.html", visit, row=token, secret=secret, old_token=old_token)


def _end_of_old(overlap: str) -> str:
    if overlap == "0":
        return "No longer works"
    return f"Works for {OVERLAPS.get(overlap, overlap)} at most"


def _token_fields(fields: Fields) -> dict[str, Any]:
    """Return what the form says, typed as the API's body is."""
    typed = fields.get("days", "").strip()
    days: int | str = typed
    with suppress(InvalidField):  # NewToken.read reports it, with all else that is wrong
        days = parse_days(typed)
    return {
        "name": fields.get("name", "").strip(),
        "days": days,
        "kind": fields.get("kind", "access"),
        "paths": fields.get("paths", "").split(),
    }


def _field_error(error: Exception) -> FieldError:
    """Return what the lifecycle refused, for the field that it is about."""
    if isinstance(error, NameTaken):
        return FieldError("name", as_sentence(error))
    field = error.field if isinstance(error, InvalidField) else ""
    return FieldError(field if field in _FORM_FIELDS else "", as_sentence(error))


def _unknown(request: web.Request, error: UnknownToken) -> web.Response:
    denial = Denial(error.code, as_sentence(error))
    return failure(request, denial, PROBLEM_TYPES[error.code].status)
