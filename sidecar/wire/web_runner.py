"""What serves the portal and the operations listener: aiohttp, and the bounds that it lacks.

aiohttp waits without end for the first head of a connection, takes any number of connections,
unpacks what is compressed, and says of what it is made. What it can't read it quotes, in its answer
and with a traceback in its log, and that may be the line with the credential: here the kind of an
error is told, and where it was raised.
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

_log = logging.getLogger(__name__)

HEAD_SECONDS: Final = 10.0
"""How long the first head may take, as ``limits.header_timeout`` is by default."""

MOST_CONNECTIONS: Final = 2000
_KEPT_ALIVE_SECONDS: Final = 75.0  # the next head included
_UNREADABLE: Final = (
    b'{"title":"The request is malformed","status":400,"code":"bad_request",'
    b'"detail":"The request can\'t be read.","request_id":"-"}\n'
)
_FAILED: Final = (
    b'{"title":"The proxy failed","status":500,"code":"internal_error",'
    b'"detail":"The request could not be handled.","request_id":"-"}\n'
)


async def hide_server(request: web.Request, response: web.StreamResponse) -> None:
    """Leave out of what this is made; for ``web.Application.on_response_prepare``."""
    response.headers.popall("Server", None)


class _Refusal(web.Response):
    """An answer that no application prepares."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


class BoundedConnection(RequestHandler):
    """One connection, closed unless it has sent a head in time, or if there are too many."""

    __slots__ = ("_head_timer",)

    listener: ClassVar[str] = "operations"
    """What the log calls it."""

    refusal_headers: ClassVar[Mapping[str, str]] = {}
    """What the answer to what can't be read carries."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head; called by the event loop."""
        self._head_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        assert self._manager is not None
        if len(self._manager.connections) > MOST_CONNECTIONS:
            cast(asyncio.Transport, transport).abort()
            return
        self._head_timer = self._loop.call_later(HEAD_SECONDS, self._miss_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timer; called by the event loop."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what went wrong, in one line; called by aiohttp.

        The request has been answered by then, as far as it could be.
        """
        error = kw.get("exc_info")
        if isinstance(error, web.RequestPayloadError):
            _log.info("a body could not be read to its end")
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
        """Answer what could not be parsed, or failed, and close; called by aiohttp."""
        is_unreadable = status < HTTPStatus.INTERNAL_SERVER_ERROR
        if is_unreadable:
            kind = type(exc).__name__
            _log.info("%s: a request that can't be parsed (%s)", self.listener, kind)
        else:
            self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, and can't be another one")
        response = _Refusal(
            status=400 if is_unreadable else 500,
            body=_UNREADABLE if is_unreadable else _FAILED,
            content_type="application/problem+json",
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
    """``web.AppRunner`` with bounded connections, without an access log or signal handlers."""

    def __init__(
        self,
        app: web.Application,
        connection: type[RequestHandler] = BoundedConnection,
        **options: Any,
    ) -> None:
        super().__init__(
            app,
            access_log=None,
            keepalive_timeout=_KEPT_ALIVE_SECONDS,
            auto_decompress=False,
            **options,
        )
        self._connection = connection

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
