"""The service behind the proxy under attack: a process that costs as little as possible.

It answers 200 as soon as the body of a request is complete, streams ``/.../big/N`` (N bytes, at the
pace of the reader), accepts every WebSocket upgrade, and discards what it receives there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import sys
from typing import cast

import httptools
import uvloop

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_BIG_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
_PIECE = b"x" * 16384
_NICENESS = 5
"""Priority below the honest caller's and above the attacker's."""


class Service(asyncio.Protocol):
    """One connection from the proxy."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A long answer must not delay short ones here: it is the proxy's fairness that is tested.
        self._transport.set_write_buffer_limits(high=len(_PIECE) - 1)
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._key = b""
        self._left_bytes = 0
        self._is_tunnel = False
        self._is_paused = False

    def data_received(self, data: bytes) -> None:
        if self._is_tunnel:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_tunnel = True
            accept = base64.b64encode(hashlib.sha1(self._key + _WEBSOCKET_GUID).digest())
            self._transport.write(_SWITCH % accept)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._target = self._key = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"sec-websocket-key":
            self._key = value

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        _, is_big, size = self._target.rpartition(b"/big/")
        if is_big:
            self._left_bytes = int(size)
            self._transport.write(_BIG_HEAD % self._left_bytes)
            self._stream()
        else:
            self._transport.write(_ANSWER)

    def _stream(self) -> None:
        """Write a piece now, and the next one after other connections had their turn."""
        if self._left_bytes and not self._is_paused and not self._transport.is_closing():
            piece = _PIECE[: self._left_bytes]
            self._left_bytes -= len(piece)
            self._transport.write(piece)
            asyncio.get_running_loop().call_soon(self._stream)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._stream()


async def serve() -> None:
    """Listen on a free port, print it, and serve until killed."""
    os.nice(_NICENESS)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
