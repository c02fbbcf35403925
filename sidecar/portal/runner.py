"""The portal's HTTP server: of a request that can't be parsed, nothing is repeated or logged.

aiohttp puts the offending line into its log and into its answer, and that line may be the one with
the password.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web

from sidecar.portal.headers import HEADERS
from sidecar.web_runner import BoundedConnection, BoundedRunner

_log = logging.getLogger(__name__)

_BODY: Final = (
    b'{"title":"The request is malformed","status":400,"code":"bad_request",'
    b'"detail":"The request can\'t be read.","request_id":"-"}\n'
)


class _Refusal(web.Response):
    """An answer that no application prepares."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


class _Connection(BoundedConnection):
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
        response = _Refusal(
            status=400 if status < 500 else 500,
            body=_BODY,
            content_type="application/problem+json",
            headers={**HEADERS, "Cache-Control": "no-store"},
        )
        response.force_close()
        return response


class PortalRunner(BoundedRunner):
    """What serves the portal's application."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, _Connection, **options)
