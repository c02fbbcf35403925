"""A proxy written in an afternoon: aiohttp.web, one ClientSession, one Redis GET per request.

It is a fair one: uvloop, kept-alive connections, streamed bodies, a buffered log. ``python -m
benchmarks.peers.naive PORT UPSTREAM_PORT REDIS_PORT LOG``.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import AsyncIterable
from typing import TextIO

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy
from redis import asyncio as redis
from yarl import URL

from benchmarks.peers import Place, Running
from benchmarks.peers.decision_service import REFUSED, find_account
from benchmarks.processes import Program, free_port, is_listening

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-account")
)
NOT_FORWARDED = HOP_BY_HOP | {"authorization"}
NOT_RETURNED = HOP_BY_HOP | {"content-length"}


class NaiveProxy:
    """The request handler, with its session and its store."""

    def __init__(self, upstream_port: int, redis_port: int, log: TextIO) -> None:
        self._upstream = f"http://127.0.0.1:{upstream_port}"
        self._store = redis.Redis(port=redis_port, socket_timeout=0.25)
        self._log = log
        self._session: ClientSession | None = None

    async def open(self, _app: web.Application) -> None:
        """Open the session in the running loop."""
        self._session = ClientSession(
            connector=TCPConnector(limit=512),
            timeout=ClientTimeout(total=None, sock_connect=3, sock_read=300),
            auto_decompress=False,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Authorize the request, forward it, and log it."""
        start = time.perf_counter()
        account = await find_account(self._store, request.headers.get("Authorization", ""))
        if account is None:
            response: web.StreamResponse = web.Response(status=401, headers=REFUSED)
        else:
            response = await self._forward(request, account)
        self._write_line(request, response, account, time.perf_counter() - start)
        return response

    async def _forward(self, request: web.Request, account: str) -> web.StreamResponse:
        headers = _kept(request.headers, NOT_FORWARDED)
        headers["X-Account"] = account
        headers["X-Request-Id"] = uuid.uuid4().hex
        headers["X-Forwarded-For"] = request.remote or ""
        assert self._session is not None
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            kept = _kept(answer.headers, NOT_RETURNED)
            length = answer.content_length
            if length is not None and length <= 65536:
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
            return await _stream(request, answer.status, kept, length, answer.content.iter_any())

    def _write_line(
        self,
        request: web.Request,
        response: web.StreamResponse,
        account: str | None,
        seconds: float,
    ) -> None:
        line = {
            "time": time.time(),
            "client": request.remote,
            "method": request.method,
            "path": request.path,
            "status": response.status,
            "account": account,
            "total": seconds,
        }
        self._log.write(json.dumps(line) + "\n")


async def _stream(
    request: web.Request,
    status: int,
    headers: CIMultiDict[str],
    length: int | None,
    pieces: AsyncIterable[bytes],
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    await response.prepare(request)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


def _kept(headers: CIMultiDictProxy[str], dropped: frozenset[str]) -> CIMultiDict[str]:
    pairs = headers.items()
    return CIMultiDict((name, value) for name, value in pairs if name.lower() not in dropped)


def start(place: Place) -> Running:
    """Start the proxy as a separate program."""
    place.directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    ports = [str(port), str(place.upstream_port), str(place.redis_port)]
    program = Program(
        [sys.executable, "-m", __name__, *ports, str(place.directory / "access.log")],
        cores=place.cores,
        output=place.directory / "naive.log",
    )
    program.wait_until(lambda: is_listening(port))
    return Running(port, (program,))


def main(port: str, upstream_port: str, redis_port: str, log_path: str) -> None:
    """Serve until terminated."""
    uvloop.install()
    with open(log_path, "a", buffering=65536, encoding="utf-8") as log:
        proxy = NaiveProxy(int(upstream_port), int(redis_port), log)
        app = web.Application(client_max_size=0)
        app.on_startup.append(proxy.open)
        app.router.add_route("*", "/{rest:.*}", proxy.handle)
        web.run_app(
            app,
            host="127.0.0.1",
            port=int(port),
            access_log=None,
            keepalive_timeout=300,
            print=lambda *_: None,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
