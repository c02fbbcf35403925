"""What serves the portal and the operations listener: aiohttp, and the bounds that it lacks.

aiohttp waits without end for the first head of a connection, takes any number of connections,
unpacks what is compressed, and logs a body that can't be read with all that was on the stack.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_log = logging.getLogger(__name__)

HEAD_SECONDS: Final = 10.0
"""How long the first head may take, as ``limits.header_timeout`` is by default."""

MOST_CONNECTIONS: Final = 2000
_KEPT_ALIVE_SECONDS: Final = 75.0  # the next head included


class BoundedConnection(RequestHandler):
    """One connection, closed unless it has sent a head in time, or if there are too many."""

    __slots__ = ("_head_timer",)

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
        """Log what went wrong, an unreadable body in one line; called by aiohttp.

        The request has been answered by then, as far as it could be.
        """
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            _log.info("a body could not be read to its end")
        else:
            super().log_exception(*args, **kw)

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
