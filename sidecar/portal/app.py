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
from aiohttp.typedefs import Handler

from sidecar.auth.password_auth import PasswordAuth, ThrottlePort
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.core.error_location import error_location
from sidecar.core.errors import Fault
from sidecar.core.headers import read_expectations
from sidecar.core.model import Denial
from sidecar.core.problems import denial_for
from sidecar.observability.audit import AuditLog
from sidecar.portal import token_views, views
from sidecar.portal.api import OPERATIONS
from sidecar.portal.context import (
    CONTEXT,
    PortalConfig,
    PortalContext,
    SharedSecret,
)
from sidecar.portal.openapi import describe
from sidecar.portal.problem_responses import API_CODES, REQUEST_ID, problem_response
from sidecar.portal.rendering import render_error, serve_static
from sidecar.portal.request_bodies import BODY_TOO_LARGE, MAX_BODY_BYTES
from sidecar.portal.request_origin import prefix_of
from sidecar.portal.security_headers import SECURITY_HEADERS
from sidecar.portal.sessions import COOKIES, SessionCookies, keep_session
from sidecar.wire.web_runner import hide_server

_log = logging.getLogger(__name__)

_CODE_OF_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}


def portal_app(
    config: Callable[[], PortalConfig],
    passwords: PasswordVerifier,
    *,
    throttle: ThrottlePort,
    audit: AuditLog,
    secret: SharedSecret,
    now: Callable[[], float] = time.time,
) -> web.Application:
    """Return the application: the page at ``/``, the API at ``/api/tokens``, ``/openapi.json``.

    ``config`` is called for each request, so that a new configuration takes effect at once.
    """
    app = web.Application(
        middlewares=[_answer_failures, keep_session],
        client_max_size=MAX_BODY_BYTES,
    )
    app[COOKIES] = SessionCookies()
    password_auth = PasswordAuth(passwords, throttle, audit)
    app[CONTEXT] = PortalContext(config, password_auth, audit, secret, now)
    app.on_response_prepare.extend((hide_server, _set_headers))
    _add_views(app.router)
    for operation in OPERATIONS:
        app.router.add_route(
            operation.method,
            operation.path,
            operation.handler,
            expect_handler=_handle_expect,
        )
    return app


def _add_views(router: web.UrlDispatcher) -> None:
    _add(router, "GET", "/", views.show_home)
    _add(router, "POST", "/sign-in", views.sign_in)
    _add(router, "POST", "/sign-out", views.form_view(views.sign_out))
    _add(router, "POST", "/tokens", views.form_view(token_views.create))
    for path in ("/sign-in", "/sign-out", "/tokens"):
        _add(router, "GET", path, views.redirect_home)
    _add(router, "GET", "/tokens/{id}/rotate", views.login_required(token_views.ask_rotate))
    _add(router, "POST", "/tokens/{id}/rotate", views.form_view(token_views.rotate))
    _add(router, "GET", "/tokens/{id}/revoke", views.login_required(token_views.ask_revoke))
    _add(router, "POST", "/tokens/{id}/revoke", views.form_view(token_views.revoke))
    _add(router, "GET", "/static/{version}/{name}", serve_static)
    _add(router, "GET", "/openapi.json", _serve_openapi)


def _add(router: web.UrlDispatcher, method: str, path: str, handler: Handler) -> None:
    add = router.add_get if method == "GET" else router.add_post
    add(path, handler, expect_handler=_handle_expect)


async def _handle_expect(request: web.Request) -> web.StreamResponse | None:
    """Ask for the body with a 100; refuse any other expectation (RFC 9110 section 10.1.1)."""
    values = tuple(value for name, value in request.raw_headers if name.lower() == b"expect")
    expected = read_expectations(values)
    if not expected:
        return None
    if expected == {b"100-continue"}:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp then still begins the response itself
        return None
    request[REQUEST_ID] = secrets.token_hex(8)
    return _fail(
        request,
        Denial(
            "bad_request",
            "Send no Expect field, or `100-continue`: nothing else is known.",
            status=HTTPStatus.EXPECTATION_FAILED,
        ),
    )


_OPENAPI_DOCUMENT: Final = json.dumps(describe(), indent=2).encode() + b"\n"


async def _serve_openapi(request: web.Request) -> web.Response:
    server = b'"url": "%b/"' % prefix_of(request).encode()
    document = _OPENAPI_DOCUMENT.replace(b'"url": "/"', server, 1)
    return web.Response(body=document, content_type="application/json")


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    location = response.headers.get("Location", "")
    if location.startswith("/"):
        response.headers["Location"] = prefix_of(request) + location
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
    return render_error(request, denial)
