"""An upstream in memory: opens connections for a pool, and takes their responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.timeouts import timeout
from sidecar.wire.destination import Destination
from sidecar.wire.responses import ResponseHead
from sidecar.wire.upstream import UpstreamConnection
from tests.fake_transport import FakeTransport

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class FakeSink:
    """Ignores a response; its client moves at ``rate`` (``ResponseSink.client_rate``)."""

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate

    def on_answer_bytes(self) -> None:
        return

    def on_interim(self, head: ResponseHead) -> None:
        return

    def on_upstream_writable(self, is_writable: bool) -> None:
        return

    def client_rate(self) -> float | None:
        return self.rate


class FakeUpstream:
    """Opens connections in memory; ``gate`` delays the opening, ``error`` makes it fail."""

    def __init__(self) -> None:
        self.made: list[UpstreamConnection] = []
        self.gate: Callable[[], asyncio.Future[None]] | None = None
        self.error: OSError | None = None

    async def open(
        self,
        destination: Destination,
        loop: asyncio.AbstractEventLoop,
        make_connection: Callable[[], UpstreamConnection],
    ) -> UpstreamConnection:
        if self.gate is not None:
            async with timeout(destination.connect_timeout_seconds):
                await self.gate()
        if self.error is not None:
            raise self.error
        connection = make_connection()
        connection.connection_made(FakeTransport(connection))
        self.made.append(connection)
        return connection
