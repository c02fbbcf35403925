"""The service that nginx ``auth_request`` and Caddy ``forward_auth`` ask: PORT REDIS_PORT.

aiohttp on uvloop with redis-py and hiredis. Each question costs one GET of the token's digest, and
is answered with 200 and ``X-Account``, or with 401.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import uvloop
from aiohttp import web
from redis import asyncio as redis

from benchmarks.processes import Program, free_port, is_listening

REFUSED = {"WWW-Authenticate": 'Bearer realm="listener", error="invalid_token"'}


def key_of(token: str) -> str:
    """Return the key under which the peers find a token's account."""
    return "bench:" + base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()


async def find_account(store: redis.Redis, authorization: str) -> str | None:
    """Return the account that a bearer token belongs to."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    account = await store.get(key_of(token))
    return account.decode("latin-1") if isinstance(account, bytes) else None


def make_app(redis_port: int) -> web.Application:
    """Return the service, with a pool of kept-alive connections to Redis."""
    store = redis.Redis(port=redis_port, socket_timeout=0.25)

    async def decide(request: web.Request) -> web.Response:
        account = await find_account(store, request.headers.get("Authorization", ""))
        if account is None:
            return web.Response(status=401, headers=REFUSED)
        return web.Response(headers={"X-Account": account})

    app = web.Application()
    app.router.add_route("*", "/auth", decide)
    return app


def start(directory: Path, *, redis_port: int, cores: str) -> tuple[Program, int]:
    """Start the service as a separate program; return it with its port."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", __name__, str(port), str(redis_port)]
    program = Program(command, cores=cores, output=directory / "decision_service.log")
    program.wait_until(lambda: is_listening(port))
    return program, port


if __name__ == "__main__":
    uvloop.install()
    web.run_app(
        make_app(int(sys.argv[2])),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        keepalive_timeout=300,
        print=lambda *_: None,
    )
