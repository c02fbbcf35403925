"""The HTTP API of an account's tokens: each call carries the account's name and password."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from pydantic import BaseModel

from sidecar.core.credentials import CredentialRules, accept
from sidecar.core.errors import NameTaken
from sidecar.core.headers import HeaderRules
from sidecar.core.model import Denial, Form, PasswordCredential, TokenKind
from sidecar.core.policy import Account
from sidecar.core.problems import denial_for
from sidecar.core.token_rules import InvalidField, TooManyTokens
from sidecar.observability.audit import Actor
from sidecar.portal.authentication import admit
from sidecar.portal.context import PARTS, Handler, Parts
from sidecar.portal.problem_responses import problem_response
from sidecar.portal.request_bodies import read_json
from sidecar.portal.request_origin import client_of, is_cross_site, is_hidden_site
from sidecar.portal.token_models import (
    FieldContext,
    FieldError,
    MadeToken,
    NewToken,
    Rotation,
    Token,
    as_sentence,
)
from sidecar.tokens.lifecycle import AlreadyRotated, UnknownToken

Action = Callable[[web.Request, Parts, Account], Awaitable[web.Response]]

_SAFE: Final = frozenset({"GET", "HEAD"})

_WRITTEN_AT_ONCE: Final = 100
_HEADERS: Final = HeaderRules((), ())
_CREDENTIALS: Final = CredentialRules((), ())
_BASIC_ALONE: Final = frozenset({Form.BASIC})


async def _list(request: web.Request, parts: Parts, account: Account) -> web.Response:
    written = []
    for one in await parts.terms().lifecycle.list(account.name):
        written.append(Token.of(one.record, one.last_use).model_dump_json())
        if len(written) % _WRITTEN_AT_ONCE == 0:
            await asyncio.sleep(0)  # thousands of tokens must not hold up everybody's requests
    return _json(f"[{','.join(written)}]".encode())


async def _create(request: web.Request, parts: Parts, account: Account) -> web.Response:
    terms = parts.terms()
    fields = await read_json(request)
    if isinstance(fields, Denial):
        return problem_response(request, fields)
    asked = NewToken.read(fields, FieldContext(account, terms.can_issue_jwt))
    if isinstance(asked, list):
        return problem_response(request, denial_for("invalid_fields"), asked)
    record, secret = await terms.lifecycle.create(
        account.name, asked.name, asked.days, kind=TokenKind(asked.kind), paths=asked.paths
    )
    parts.audit.token_created(record, client_of(request), Actor.API)
    return _made(MadeToken.made(record, secret))


async def _show(request: web.Request, parts: Parts, account: Account) -> web.Response:
    found = await parts.terms().lifecycle.show(request.match_info["id"], account.name)
    return _json(Token.of(found.record, found.last_use).model_dump_json().encode())


async def _revoke(request: web.Request, parts: Parts, account: Account) -> web.Response:
    record = await parts.terms().lifecycle.revoke(request.match_info["id"], account.name)
    parts.audit.token_revoked(record, client_of(request), Actor.API)
    return web.Response(status=204)


async def _rotate(request: web.Request, parts: Parts, account: Account) -> web.Response:
    fields = await read_json(request, may_be_empty=True)
    if isinstance(fields, Denial):
        return problem_response(request, fields)
    terms = parts.terms()
    asked = Rotation.read(fields, FieldContext(account, terms.can_issue_jwt))
    if isinstance(asked, list):
        return problem_response(request, denial_for("invalid_fields"), asked)
    old_id = request.match_info["id"]
    record, secret = await terms.lifecycle.rotate(old_id, asked.overlap_seconds, account.name)
    parts.audit.token_rotated(record, old_id, client_of(request), Actor.API)
    return _made(MadeToken.made(record, secret))


def _json(body: bytes, status: int = 200, location: str | None = None) -> web.Response:
    headers = {} if location is None else {"Location": location}
    return web.Response(
        status=status, body=body + b"\n", content_type="application/json", headers=headers
    )


def _made(token: MadeToken) -> web.Response:
    return _json(token.model_dump_json().encode(), 201, f"/api/tokens/{token.id}")


def _signed_in(action: Action) -> Handler:
    """Let an action be done by whoever the request's password belongs to."""

    async def handle(request: web.Request) -> web.Response:
        if request.method not in _SAFE and (is_cross_site(request) or is_hidden_site(request)):
            return problem_response(request, denial_for("cross_site"))
        account = await _admit(request)
        if isinstance(account, Denial):
            return problem_response(request, account)
        try:
            return await action(request, request.app[PARTS], account)
        except InvalidField as error:
            field_error = FieldError(error.field, as_sentence(error))
            return problem_response(request, denial_for(error.code), [field_error])
        except (NameTaken, TooManyTokens, UnknownToken, AlreadyRotated) as error:
            return problem_response(request, Denial(error.code, as_sentence(error)))

    return handle


async def _admit(request: web.Request) -> Account | Denial:
    scan = _HEADERS.scan(request.raw_headers)
    credential = accept(_CREDENTIALS.extract(scan, None).credential, _BASIC_ALONE)
    if not isinstance(credential, PasswordCredential):
        assert isinstance(credential, Denial)  # no other form is accepted
        return credential
    return await admit(request, credential.account, credential.password)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path: what it takes, what it gives, what can be refused."""

    method: str
    path: str
    action: Action
    summary: str
    status: int
    gives: type[BaseModel] | None
    takes: type[BaseModel] | None = None
    codes: tuple[str, ...] = ()
    """Problems besides those that every operation has."""
    is_body_required: bool = True
    gives_list: bool = False

    @property
    def handler(self) -> Handler:
        """What serves it."""
        return _signed_in(self.action)


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
        gives_list=True,
    ),
    Operation(
        "POST",
        "/api/tokens",
        _create,
        "Make a token; its secret is in this answer alone",
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
        "Revoke a token: it is refused from now on",
        204,
        None,
        codes=("unknown_token",),
    ),
    Operation(
        "POST",
        "/api/tokens/{id}/rotate",
        _rotate,
        "Make a successor of same name, paths and lifetime; the old one lives for the overlap",
        201,
        MadeToken,
        Rotation,
        (*_BODY_CODES, "unknown_token", "already_rotated", "too_many_tokens"),
        is_body_required=False,
    ),
)
