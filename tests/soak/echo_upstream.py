"""An upstream process that answers each request with the account it received, at full speed."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

_ACCOUNT = re.compile(rb"\r\nx-account: *([^\r\n]*)", re.IGNORECASE)


class Echo(asyncio.Protocol):
    """One connection; requests have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._buffer = (self._buffer + data).split(b"\r\n\r\n")
        for head in heads:
            found = _ACCOUNT.findall(head)
            body = b",".join(found)
            length = b"%d" % len(body)
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n%b" % (length, body)
            )


async def serve() -> None:
    """Listen on a free port, print it, and serve until killed."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
