"""Fetches a document from a server that may be hostile: one GET, few bytes, little time.

HTTP client libraries read for as long as a server sends: endless interim responses or header fields
kept the event loop from all other work. Here every byte of the connection counts towards one limit,
and nothing is redirected, decompressed, kept alive or retried.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import SplitResult, urlsplit

import httptools

from sidecar.outgoing.connector import Connector

HEAD_BYTES = 32 * 1024
_PROTOCOL = b"HTTP/"
_PIECE_BYTES = 16 * 1024


async def get(
    url: str, *, timeout_seconds: float, max_bytes: int, connector: Connector | None = None
) -> bytes:
    """Return the body of a 200 response to ``GET url``.

    A ``connector`` that is kept remembers the host's addresses for when its name can't be resolved.

    Raises ``OSError`` (such as ``TimeoutError``) if the server can't be reached in time, and
    ``ValueError`` for any other response, or one of more than ``max_bytes``. No message holds the
    URL or what the server sent.
    """
    answer = _Answer()
    async with (
        asyncio.timeout(timeout_seconds),
        aclosing(
            _exchange(
                urlsplit(url),
                HEAD_BYTES + max_bytes,
                connector or Connector(),
                timeout_seconds,
            )
        ) as pieces,
    ):
        async for piece in pieces:
            answer.feed(piece)
            if answer.is_complete:
                break
    body = answer.read()
    if len(body) > max_bytes:
        raise ValueError(f"the answer is larger than {max_bytes} bytes")
    return body


async def _exchange(
    url: SplitResult, max_bytes: int, connector: Connector, connect_seconds: float
) -> AsyncGenerator[bytes, None]:
    """Send the request and yield what arrives; raise ``ValueError`` after ``max_bytes``."""
    host = url.hostname or ""
    # In a thread, as loading the system's certificates would block the loop for a while.
    is_tls = url.scheme == "https"
    context = await asyncio.to_thread(ssl.create_default_context) if is_tls else None
    port = url.port or (443 if is_tls else 80)
    connected, _ = await connector.connect(host, port, connector.budget(connect_seconds))
    reader, writer = await asyncio.open_connection(
        sock=connected, ssl=context, server_hostname=host if is_tls else None, limit=_PIECE_BYTES
    )
    try:
        writer.write(_request(url))
        while piece := await reader.read(_PIECE_BYTES):
            max_bytes -= len(piece)
            if max_bytes < 0:
                raise ValueError("the answer is too large")
            yield piece
    finally:
        writer.transport.abort()


def _request(url: SplitResult) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return (
        f"GET {target} HTTP/1.1\r\nHost: {url.netloc}\r\nUser-Agent: auth-sidecar\r\n"
        "Accept: application/json, */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


class _Answer:
    """One final response; the interim ones before it are skipped.

    llhttp reads RTSP/1.1 and ICE/1.1 as HTTP/1.1, and gives an interim response the body that its
    fields announce (``wire.responses`` has more on both). Here either is an error.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._opening = b""
        self._status = 0
        self._has_length = False
        self._is_packed = False

    def feed(self, piece: bytes) -> None:
        self._opening += piece[: len(_PROTOCOL) - len(self._opening)]
        if not _PROTOCOL.startswith(self._opening):
            raise ValueError("the answer is not HTTP/1.1")
        try:
            self._parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Data after a complete response does no harm, as the connection is closed anyway.
            if not self.is_complete:
                raise ValueError("the answer is not HTTP/1.1") from None

    def read(self) -> bytes:
        """Return the body, once no more data will come; raise ``ValueError`` for a bad response."""
        if self._status != 200:
            raise ValueError(f"the server answered {self._status or 'nothing'}")
        if self._has_length and not self.is_complete:
            raise ValueError("the answer ended early")
        if self._is_packed:
            raise ValueError("the answer is compressed, which was not asked for")
        return bytes(self._body)

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        if not self.is_complete:
            self._has_length = self._is_packed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_complete:
            return
        field = name.lower()
        if field in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        if field == b"content-encoding" and value.lower() != b"identity":
            self._is_packed = True

    def on_headers_complete(self) -> None:
        if not self.is_complete:
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._status < 200:
            raise ValueError("an interim answer has a body")
        if not self.is_complete:
            self._body += body

    def on_message_complete(self) -> None:
        self.is_complete = self.is_complete or self._status >= 200
