"""The HTTP API to an account's tokens; each request carries the account's name and password."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from sidecar.core.credential_faults import spell_out
from sidecar.core.credentials import CredentialRules
from sidecar.core.errors import NameTaken
from sidecar.core.headers import HeaderRules
from sidecar.core.model import Denial, Form, PasswordCredential, TokenKind
from sidecar.core.policy import Account, accept
from sidecar.core.problems import denial_for
from sidecar.core.token_rules import InvalidField, TooManyTokens
from sidecar.observability.audit import Actor
from sidecar.portal.authentication import authenticate
from sidecar.portal.context import CONTEXT, PortalContext
from sidecar.portal.formatting import as_sentence
from sidecar.portal.problem_responses import problem_response
from sidecar.portal.request_bodies import read_json
from sidecar.portal.request_origin import client_of, is_cross_site, is_opaque_origin
from sidecar.portal.token_models import (
    FieldError,
    MadeToken,
    NewToken,
    Rotation,
    Token,
    TokenLimits,
)
from sidecar.tokens.lifecycle import AlreadyRotated, UnknownToken

ApiView = Callable[[web.Request, PortalContext, Account], Awaitable[web.Response]]

_SAFE: Final = frozenset({"GET", "HEAD"})

_BATCH_TOKENS: Final = 100
_HEADERS: Final = HeaderRules((), ())
_CREDENTIALS: Final = CredentialRules((), ())
_BASIC_ONLY: Final = frozenset({Form.BASIC})


async def _list(request: web.Request, context: PortalContext, account: Account) -> web.Response:
    objects = []
    for token in await context.config().lifecycle.list(account.name):
        objects.append(Token.of(token.record, token.last_use).model_dump_json())
        if len(objects) % _BATCH_TOKENS == 0:
            await asyncio.sleep(0)  # thousands of tokens must not delay all other requests
    return _json(f"[{','.join(objects)}]".encode())


async def _create(request: web.Request, context: PortalContext, account: Account) -> web.Response:
    config = context.config()
    fields = await read_json(request)
    if isinstance(fields, Denial):
        return problem_response(request, fields)
    wanted = NewToken.read(fields, TokenLimits(account, config.can_issue_jwt))
    if isinstance(wanted, list):
        return problem_response(request, denial_for("invalid_fields"), wanted)
    record, secret = await config.lifecycle.create(
        account.name, wanted.name, wanted.days, kind=TokenKind(wanted.kind), paths=wanted.paths
    )
    context.audit.token_created(record, client_of(request), Actor.API)
    return _made(MadeToken.made(record, secret))


async def _show(request: web.Request, context: PortalContext, account: Account) -> web.Response:
    found = await context.config().lifecycle.show(request.match_info["id"], account.name)
    return _json(Token.of(found.record, found.last_use).model_dump_json().encode())


async def _revoke(request: web.Request, context: PortalContext, account: Account) -> web.Response:
    record = await context.config().lifecycle.revoke(request.match_info["id"], account.name)
    context.audit.token_revoked(record, client_of(request), Actor.API)
    return web.Response(status=204)


async def _rotate(request: web.Request, context: PortalContext, account: Account) -> web.Response:
    fields = await read_json(request, may_be_empty=True)
    if isinstance(fields, Denial):
        return problem_response(request, fields)
    config = context.config()
    wanted = Rotation.read(fields, TokenLimits(account, config.can_issue_jwt))
    if isinstance(wanted, list):
        return problem_response(request, denial_for("invalid_fields"), wanted)
    old_id = request.match_info["id"]
    record, secret = await config.lifecycle.rotate(old_id, wanted.overlap_seconds, account.name)
    context.audit.token_rotated(record, old_id, client_of(request), Actor.API)
    return _made(MadeToken.made(record, secret))


def _json(body: bytes, status: int = 200, location: str | None = None) -> web.Response:
    headers = {} if location is None else {"Location": location}
    return web.Response(
        status=status, body=body + b"\n", content_type="application/json", headers=headers
    )


def _made(token: MadeToken) -> web.Response:
    return _json(token.model_dump_json().encode(), 201, f"/api/tokens/{token.id}")


def _with_account(view: ApiView) -> Handler:
    """Run a view for the account that the request's password belongs to."""

    async def handle(request: web.Request) -> web.Response:
        if request.method not in _SAFE and (is_cross_site(request) or is_opaque_origin(request)):
            return problem_response(request, denial_for("cross_site"))
        account = await _authenticate(request)
        if isinstance(account, Denial):
            return problem_response(request, account)
        try:
            return await view(request, request.app[CONTEXT], account)
        except InvalidField as error:
            field_error = FieldError(error.field, as_sentence(error))
            return problem_response(request, denial_for(error.code), [field_error])
        except (NameTaken, TooManyTokens, UnknownToken, AlreadyRotated) as error:
            return problem_response(request, Denial(error.code, as_sentence(error)))

    return handle


async def _authenticate(request: web.Request) -> Account | Denial:
    scan = _HEADERS.scan(request.raw_headers)
    credential = accept(_CREDENTIALS.extract(scan, None).credential, _BASIC_ONLY)
    if not isinstance(credential, PasswordCredential):
        assert isinstance(credential, Denial)  # no other form is accepted
        return spell_out(credential, _CREDENTIALS, request.raw_headers, "", _BASIC_ONLY)
    return await authenticate(request, credential.account, credential.password)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path: what it accepts, what it returns, how it can be refused."""

    method: str
    path: str
    view: ApiView
    summary: str
    status: int
    response_model: type[BaseModel] | None
    request_model: type[BaseModel] | None = None
    codes: tuple[str, ...] = ()
    """Problem codes beside those of every operation."""
    is_body_required: bool = True
    returns_list: bool = False

    @property
    def handler(self) -> Handler:
        """The handler that serves it."""
        return _with_account(self.view)


EVERY_OPERATION_CODES: Final = (
    "bad_request",
    "ambiguous_credentials",
    "missing_credentials",
    "malformed_credentials",
    "invalid_password",
    "account_disabled",
    "cross_site",
    "too_many_failures",
    "internal_error",
    "store_unavailable",
    "overloaded",
)
_BODY_CODES: Final = (
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
    "invalid_fields",
)

OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/tokens",
        _list,
        "List the account's live tokens, oldest first",
        200,
        Token,
        returns_list=True,
    ),
    Operation(
        "POST",
        "/api/tokens",
        _create,
        "Create a token; its secret is in this response alone",
        201,
        MadeToken,
        NewToken,
        (*_BODY_CODES, "name_taken", "too_many_tokens"),
    ),
    Operation(
        "GET", "/api/tokens/{id}", _show, "Show one token", 200, Token, codes=("unknown_token",)
    ),
    Operation(
        "DELETE",
        "/api/tokens/{id}",
        _revoke,
        "Revoke a token; it is refused from now on",
        204,
        None,
        codes=("unknown_token",),
    ),
    Operation(
        "POST",
        "/api/tokens/{id}/rotate",
        _rotate,
        "Create a successor with the same name, paths and lifetime; the old token lives on a while",
        201,
        MadeToken,
        Rotation,
        (*_BODY_CODES, "unknown_token", "already_rotated", "too_many_tokens"),
        is_body_required=False,
    ),
)
