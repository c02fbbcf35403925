"""The portal's HTTP server."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sidecar.portal.security_headers import SECURITY_HEADERS
from sidecar.wire.web_runner import MOST_CONNECTIONS, BoundedConnection, BoundedRunner


class _PortalConnection(BoundedConnection):
    """One connection of a browser or of an API client."""

    __slots__ = ()
    listener = "portal"
    refusal_headers = SECURITY_HEADERS


class PortalRunner(BoundedRunner):
    """Serves the portal's application."""

    def __init__(
        self, app: web.Application, most_connections: int = MOST_CONNECTIONS, **options: Any
    ) -> None:
        super().__init__(app, _PortalConnection, most_connections, **options)
