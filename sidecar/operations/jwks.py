"""``/.well-known/jwks.json``: the public keys that verify the sidecar's JWTs and assertions.

Shared secrets are never published. A client may cache the document for as long as
``Cache-Control`` allows, and should fetch it again when it meets an unknown ``kid``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from aiohttp import web

PATH = "/.well-known/jwks.json"
KeySet = Callable[[], Mapping[str, object]]
"""Returns the JWK Set in force (``core.key_documents.export_key_set``)."""

_HEADERS = {"Cache-Control": "public, max-age=300"}
_MEDIA_TYPE = "application/jwk-set+json"  # RFC 7517 section 8.5.2


def add_key_set(app: web.Application, key_set: KeySet) -> None:
    """Answer GET and HEAD of ``PATH`` with what ``key_set`` returns."""

    async def publish(request: web.Request) -> web.Response:
        text = json.dumps(key_set())
        return web.Response(text=text, content_type=_MEDIA_TYPE, headers=_HEADERS)

    app.router.add_get(PATH, publish)
