"""Runs aiohttp for the portal and the operations listener, with the limits that it lacks.

By default aiohttp waits forever for the first head of a connection, accepts any number of
connections, decompresses bodies, and names itself and its version. It quotes what it cannot parse,
in its response and with a traceback in the log, and that may be the line with the credential. Here
the log names the kind of an error and where it was raised, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from sidecar.core.error_location import error_location
from sidecar.core.problems import MEDIA_TYPE, denial_for, problem_document

_log = logging.getLogger(__name__)

HEAD_SECONDS: Final = 10.0
"""How long the first head may take: the default of ``limits.header_timeout``."""

MOST_CONNECTIONS: Final = 2000
_KEPT_ALIVE_SECONDS: Final = 75.0  # includes the next head
_NO_REQUEST_ID: Final = "-"
_UNREADABLE: Final = problem_document(denial_for("bad_request"), _NO_REQUEST_ID)
_FAILED: Final = problem_document(denial_for("internal_error"), _NO_REQUEST_ID)


async def hide_server(request: web.Request, response: web.StreamResponse) -> None:
    """Remove the ``Server`` header; for ``web.Application.on_response_prepare``."""
    response.headers.popall("Server", None)


class _Refusal(web.Response):
    """A response that does not pass through an application, and so not through ``hide_server``."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


class BoundedConnection(RequestHandler):
    """One connection; closed if it sends no head in time, or if there are too many."""

    __slots__ = ("_head_timer",)

    listener: ClassVar[str] = "operations"
    """The listener's name in the log."""

    refusal_headers: ClassVar[Mapping[str, str]] = {}
    """Headers of the response to a request that cannot be parsed."""

    most_connections: ClassVar[int] = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for a head; called by the event loop."""
        self._head_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        assert self._manager is not None
        if len(self._manager.connections) > min(self.most_connections, MOST_CONNECTIONS):
            cast(asyncio.Transport, transport).abort()
            return
        self._head_timer = self._loop.call_later(HEAD_SECONDS, self._miss_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the timer; called by the event loop."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error in one line; called by aiohttp, after the response if one was possible."""
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            _log.info("a request body could not be read to its end")
        elif isinstance(error, BaseException):
            _log.error("%s: a request failed: %s", self.listener, error_location(error))
        else:
            _log.error("%s: a request failed", self.listener)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.Response:
        """Respond to a request that cannot be parsed, or failed, and close; called by aiohttp."""
        is_unreadable = status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_unreadable:
            kind = type(exc).__name__
            _log.info("%s: a request that can't be parsed (%s)", self.listener, kind)
        else:
            self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already begun")
        response = _Refusal(
            status=400 if is_unreadable else 500,
            body=_UNREADABLE if is_unreadable else _FAILED,
            content_type=MEDIA_TYPE,
            headers={**self.refusal_headers, "Cache-Control": "no-store"},
        )
        response.force_close()
        return response

    def _miss_head(self) -> None:
        if self._request_count == 0:
            self.force_close()


class _Server(web.Server):
    connection: type[RequestHandler]

    def __call__(self) -> RequestHandler:
        return self.connection(self, loop=self._loop, **self._kwargs)


class BoundedRunner(web.AppRunner):
    """``web.AppRunner`` with ``BoundedConnection``, without an access log or signal handlers.

    ``most_connections``: what the process's descriptors leave room for, if that is less than usual.
    """

    def __init__(
        self,
        app: web.Application,
        connection: type[BoundedConnection] = BoundedConnection,
        most_connections: int = MOST_CONNECTIONS,
        **options: Any,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=_KEPT_ALIVE_SECONDS,
            auto_decompress=False,
            **options,
        )
        self._connection = type(
            connection.__name__,
            (connection,),
            {"__slots__": (), "most_connections": most_connections},
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=made._loop,
            **made._kwargs,
        )
        server.connection = self._connection
        return server
