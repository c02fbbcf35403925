"""aiohttp's client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from yarl import URL

from tests.clients.program import Request, response, run


def play(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    return asyncio.run(play_all(requests, authority))


async def play_all(requests: list[Request], authority: str) -> list[dict[str, Any]]:
    context = ssl.create_default_context(cafile=authority)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        return [await ask(session, request) for request in requests]


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


async def ask(session: aiohttp.ClientSession, request: Request) -> dict[str, Any]:
    login = None
    if request.has_login:
        login = aiohttp.BasicAuth(request.user, request.password, "utf-8")
    answered = await send(session, request, None if request.challenge else login)
    if request.challenge and answered["status"] == 401:
        answered = await send(session, request, login)
    return answered


async def send(
    session: aiohttp.ClientSession, request: Request, login: aiohttp.BasicAuth | None
) -> dict[str, Any]:
    body = request.body
    is_encoded = "%" in request.url
    asked = session.request(
        request.method,
        URL(request.url, encoded=is_encoded),
        headers=[*request.headers, *([("Content-Type", "text/plain")] if body else [])],
        data=pieces(body) if request.chunked and body is not None else body,
        auth=login,
        allow_redirects=request.follow,
        expect100=request.expect,
    )
    async with asked as answer:
        return response(answer.status, answer.headers.items(), await answer.read())


run(play)
