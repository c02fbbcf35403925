"""The portal's HTTP server: of a request that can't be parsed, nothing is repeated or logged.

aiohttp puts the offending line into its log and into its answer, and that line may be the one with
the password.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_log = logging.getLogger(__name__)

_KEPT_ALIVE_SECONDS: Final = 75.0
_BODY: Final = (
    b'{"title":"The request is malformed","status":400,"code":"bad_request",'
    b'"detail":"The request can\'t be read.","request_id":"-"}\n'
)


class _Connection(RequestHandler):
    """One connection of a browser or of a caller of the API."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.Response:
        """Answer what could not be parsed, and close; called by aiohttp."""
        _log.info("portal: a request that can't be parsed (%s)", type(exc).__name__)
        response = web.Response(
            status=400 if status < 500 else 500,
            body=_BODY,
            content_type="application/problem+json",
            headers={"Cache-Control": "no-store"},
        )
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class PortalRunner(web.AppRunner):
    """``web.AppRunner`` of the portal's application, without an access log or signal handlers."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, access_log=None, keepalive_timeout=_KEPT_ALIVE_SECONDS, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=made._loop,
            **made._kwargs,
        )
