"""A service to try the sidecar with: it answers with the account and the request that it received.

``python -m sidecar.cli.sample_listener HOST:PORT`` runs it alone.
"""

from __future__ import annotations

import sys

from aiohttp import web

_CREDENTIAL_HEADERS = ("Authorization", "access_token", "jwt_token", "username", "password")
_CREDENTIAL_KEYS = ("access_token", "token", "jwt_token")


def sample_app() -> web.Application:
    """Return an application that answers every request with a JSON description of it."""
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", _answer)
    return app


async def _answer(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "account": request.headers.get("X-Account"),
            "method": request.method,
            "path": request.rel_url.raw_path,
            "query": request.rel_url.raw_query_string,
            "body_bytes": await _count_body(request),
            "credential_arrived": _has_credential(request),
        }
    )


async def _count_body(request: web.Request) -> int:
    return sum([len(piece) async for piece in request.content.iter_any()])


def _has_credential(request: web.Request) -> bool:
    return any(name in request.headers for name in _CREDENTIAL_HEADERS) or any(
        key in request.rel_url.query for key in _CREDENTIAL_KEYS
    )


def _serve(address: str) -> None:
    host, _, port = address.rpartition(":")
    web.run_app(sample_app(), host=host, port=int(port))


if __name__ == "__main__":
    _serve(sys.argv[1])
