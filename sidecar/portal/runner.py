"""The portal's HTTP server."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sidecar.portal.security_headers import HEADERS
from sidecar.wire.web_runner import BoundedConnection, BoundedRunner


class _Connection(BoundedConnection):
    """One connection of a browser or of a caller of the API."""

    __slots__ = ()
    listener = "portal"
    refusal_headers = HEADERS


class PortalRunner(BoundedRunner):
    """What serves the portal's application."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, _Connection, **options)
