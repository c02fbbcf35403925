"""An upstream that reads request bodies and keeps nothing: ``python -m benchmarks.sink PORT``.

It exists because nginx either answers a POST before it has read the body, or writes the body to a
file. The sink reads what the peers send (a head, then a body with ``Content-Length`` or in chunks)
and answers at the end of the body. It is not a general HTTP server.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nreceived\n"


class Sink(asyncio.Protocol):
    """One connection; answers each request at the end of its body."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for answers."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Let the parser find the end of the body; close the connection on malformed input."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_complete(self) -> None:
        """Answer: the whole body has arrived."""
        self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Listen on the loopback address until terminated."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
