"""The portal's web application: its routes, the headers of every response, and its failures."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from sidecar.auth.password_auth import PasswordAuth, ThrottlePort
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.core.error_location import error_location
from sidecar.core.errors import Fault
from sidecar.core.model import Denial
from sidecar.core.problems import PROBLEM_TYPES, denial_for
from sidecar.observability.audit import AuditLog, keep_no_audit
from sidecar.portal import token_views, views
from sidecar.portal.api import OPERATIONS
from sidecar.portal.context import (
    PARTS,
    Handler,
    Parts,
    SharedSecret,
    Terms,
    secret_of_this_process,
)
from sidecar.portal.openapi import describe
from sidecar.portal.problem_responses import API_CODES, REQUEST_ID, problem_response
from sidecar.portal.rendering import failure, serve_static
from sidecar.portal.request_bodies import BODY_TOO_LARGE, MAX_BODY_BYTES
from sidecar.portal.security_headers import HEADERS
from sidecar.portal.sessions import COOKIES, SessionCookies, keep_session
from sidecar.wire.web_runner import hide_server

_log = logging.getLogger(__name__)

_CODE_OF_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}


def portal_app(
    terms: Callable[[], Terms],
    sign_in: PasswordVerifier,
    *,
    gate: ThrottlePort | None = None,
    audit: AuditLog | None = None,
    secret: SharedSecret | None = None,
    now: Callable[[], float] = time.time,
) -> web.Application:
    """Return the application: the page at ``/``, the API at ``/api/tokens``, ``/openapi.json``.

    ``terms`` is asked anew for each request, so that a new configuration is seen at once. Without a
    shared ``secret``, sessions end with the process and belong to one worker.
    """
    app = web.Application(
        middlewares=[_answer_failures, keep_session],
        client_max_size=MAX_BODY_BYTES,
    )
    app[COOKIES] = SessionCookies()
    audit = audit or keep_no_audit()
    app[PARTS] = Parts(
        terms,
        PasswordAuth(sign_in, gate, audit),
        audit,
        secret or secret_of_this_process(),
        now,
    )
    app.on_response_prepare.extend((hide_server, _set_headers))
    _add_pages(app.router)
    for operation in OPERATIONS:
        app.router.add_route(
            operation.method,
            operation.path,
            operation.handler,
            expect_handler=_meet_expectation,
        )
    return app


def _add_pages(router: web.UrlDispatcher) -> None:
    _add(router, "GET", "/", views.show_home)
    _add(router, "POST", "/sign-in", views.sign_in)
    _add(router, "POST", "/sign-out", views.sent_by(views.sign_out))
    _add(router, "POST", "/tokens", views.sent_by(token_views.create))
    for path in ("/sign-in", "/sign-out", "/tokens"):
        _add(router, "GET", path, views.go_home)
    _add(router, "GET", "/tokens/{id}/rotate", views.signed_in(token_views.ask_rotate))
    _add(router, "POST", "/tokens/{id}/rotate", views.sent_by(token_views.rotate))
    _add(router, "GET", "/tokens/{id}/revoke", views.signed_in(token_views.ask_revoke))
    _add(router, "POST", "/tokens/{id}/revoke", views.sent_by(token_views.revoke))
    _add(router, "GET", "/static/{version}/{name}", serve_static)
    _add(router, "GET", "/openapi.json", _serve_description)


def _add(router: web.UrlDispatcher, method: str, path: str, handler: Handler) -> None:
    add = router.add_get if method == "GET" else router.add_post
    add(path, handler, expect_handler=_meet_expectation)


async def _meet_expectation(request: web.Request) -> web.StreamResponse | None:
    """Ask for the body if that is waited for; refuse what else is expected (RFC 9110 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp then still begins the response itself
        return None
    request[REQUEST_ID] = secrets.token_hex(8)
    return _fail(request, Denial("bad_request", "What the request expects is not known here."))


_DESCRIPTION: Final = json.dumps(describe(), indent=2).encode() + b"\n"


async def _serve_description(_request: web.Request) -> web.Response:
    return web.Response(body=_DESCRIPTION, content_type="application/json")


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    if REQUEST_ID in request:
        response.headers["X-Request-Id"] = request[REQUEST_ID]


@web.middleware
async def _answer_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[REQUEST_ID] = secrets.token_hex(8)
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _fail(request, _denial_of(error))
    except Fault as fault:
        code = fault.code if fault.code in API_CODES else "internal_error"
        _log.warning("request %s: %s: %s", request[REQUEST_ID], fault.code, fault)
        return _fail(request, denial_for(code))
    except Exception as error:
        # The message and the locals may hold a password; the type and the place do not.
        _log.error("request %s: %s", request[REQUEST_ID], error_location(error))
        return _fail(request, denial_for("internal_error"))


def _denial_of(error: web.HTTPException) -> Denial:
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return BODY_TOO_LARGE
    denial = denial_for(_CODE_OF_STATUS.get(error.status, "bad_request"))
    if "Allow" not in error.headers:
        return denial
    allow = tuple(error.headers["Allow"].replace(" ", "").split(","))
    return Denial(denial.code, denial.detail, allow=allow)


def _fail(request: web.Request, denial: Denial) -> web.Response:
    if request.path.startswith("/api/") or request.path == "/openapi.json":
        return problem_response(request, denial)
    return failure(request, denial, PROBLEM_TYPES[denial.code].status)
