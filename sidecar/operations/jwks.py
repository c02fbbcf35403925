"""``/.well-known/jwks.json``: the public keys that JWTs and assertions are verified with.

Shared secrets are never among them. Whoever keeps a copy should look again at an unknown ``kid``,
and may keep it for as long as ``Cache-Control`` says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from aiohttp import web

PATH = "/.well-known/jwks.json"
KeySet = Callable[[], Mapping[str, object]]
"""Gives the JWK Set in force (``sidecar.core.key_documents.export_key_set``)."""

_HEADERS = {"Cache-Control": "public, max-age=300"}
_MEDIA_TYPE = "application/jwk-set+json"  # RFC 7517 section 8.5.2


def add_key_set(app: web.Application, key_set: KeySet) -> None:
    """Answer ``PATH`` with what ``key_set`` gives, GET and HEAD."""

    async def publish(request: web.Request) -> web.Response:
        text = json.dumps(key_set())
        return web.Response(text=text, content_type=_MEDIA_TYPE, headers=_HEADERS)

    app.router.add_get(PATH, publish)
