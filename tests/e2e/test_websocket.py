"""WebSocket tunnels, with the clients and servers that people have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
import websockets
from aiohttp import WSMsgType, web

from tests.e2e.conftest import Tokens
from tests.proxy_process import ProxyProcess


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Echo every message, after one that names the account."""
    assert "access_token" not in request.query_string
    socket = web.WebSocketResponse(protocols=["chat"])
    await socket.prepare(request)
    await socket.send_str(",".join(request.headers.getall("X-Account")))
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


@contextlib.asynccontextmanager
async def echo_server(port: int) -> AsyncIterator[None]:
    application = web.Application()
    application.router.add_get("/echo", echo)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def echo_with_aiohttp(url: str, token: str, count: int) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, headers=headers, protocols=["chat"]) as socket,
    ):
        assert socket.protocol == "chat"
        assert await socket.receive_str() == "acme"
        for number in range(count):
            await socket.send_str(f"message {number}")
            assert await socket.receive_str() == f"message {number}"
        await socket.send_bytes(b"\0\xff" * 200_000)
        assert await socket.receive_bytes() == b"\0\xff" * 200_000


async def echo_with_websockets(url: str, token: str, count: int) -> None:
    async with websockets.connect(f"{url}?access_token={token}", proxy=None) as socket:
        assert await socket.recv() == "acme"
        for number in range(count):
            await socket.send(f"message {number}")
            assert await socket.recv() == f"message {number}"
        await socket.ping()


CLIENTS = [echo_with_aiohttp, echo_with_websockets]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_messages_are_echoed_in_order(
    client: object, count: int, proxy: ProxyProcess, tokens: Tokens, websocket_port: int
) -> None:
    assert callable(client)
    async with echo_server(websocket_port):
        await client(f"ws://127.0.0.1:{proxy.port}/echo", tokens.valid, count)


async def test_without_a_token_there_is_no_tunnel(proxy: ProxyProcess, websocket_port: int) -> None:
    async with echo_server(websocket_port), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"ws://127.0.0.1:{proxy.port}/echo")
    assert refused.value.status == 401
