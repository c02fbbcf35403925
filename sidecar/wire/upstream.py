"""One connection to an upstream: sends a request, and passes the response on as it arrives.

Back-pressure goes both ways: while the upstream is slow to take bytes, the client is not read
(``ResponseSink.on_upstream_writable``); while the client is slow, this connection is not read
(``set_reading``).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Protocol, cast

from sidecar.core.errors import Fault, UpstreamBroken, UpstreamFault, UpstreamUnreachable
from sidecar.eager import Signal
from sidecar.wire.responses import HeadMemory, ResponseHead, ResponseReader


class ResponseSink(Protocol):
    """What an upstream connection tells the client's side while the two are joined."""

    def on_answer_bytes(self) -> None:
        """Body bytes, the end of the body or tunnelled bytes have arrived; ``take`` them."""

    def on_interim(self, head: ResponseHead) -> None:
        """An interim response (1xx) came before the final head (RFC 9110 section 15.2)."""

    def on_upstream_writable(self, is_writable: bool) -> None:
        """The upstream takes no more bytes for now, or takes them again."""

    def client_rate(self) -> float | None:
        """Return how fast, in bytes a second, a client moves that holds the exchange up: its upload
        is unfinished, or it does not take the answer. ``inf`` for a tunnel or an event stream,
        which need not move; ``None`` where the service is waited for.
        """


class Borrower(Protocol):
    """Whom a connection is lent to: the account that was found out (empty: nobody was asked for
    one), the client's address, and the id of its token (empty: none).
    """

    account: str
    client: str
    token_id: str


class UpstreamConnection(asyncio.Protocol):
    """A connection of the pool. Lent to one exchange at a time; between two it is idle.

    ``is_reusable`` says whether, after a complete exchange, it may serve another.
    """

    __slots__ = (
        "_fault",
        "_has_ended",
        "_is_reading",
        "_is_slow",
        "_loop",
        "_on_lost",
        "_progress",
        "address",
        "borrower",
        "bound_to",
        "expires_at",
        "idle_since",
        "is_tunnel",
        "is_writable",
        "reader",
        "sent_whole_request",
        "served",
        "sink",
        "transport",
        "tunnelled",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        on_lost: OnLost,
        memory: HeadMemory | None = None,
    ) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._progress = Signal(loop)
        self._fault: Fault | None = None
        self._has_ended = False
        self._is_slow = False
        self._is_reading = True
        self.address = address
        self.transport: asyncio.Transport | None = None
        self.reader = ResponseReader(memory)
        self.sink: ResponseSink | None = None
        self.is_writable = True
        self.is_tunnel = False
        self.tunnelled: list[bytes] = []
        self.sent_whole_request = True
        self.served = 0
        self.idle_since = 0.0
        self.borrower: Borrower | None = None
        """Whose exchange it serves; ``None``: it is idle, or being ended."""
        self.bound_to: tuple[str, str] | None = None
        """The account and address that alone it may serve, as it may be authenticated as theirs
        (``core.connection_auth``); ``None``: it serves everybody."""
        self.expires_at = inf
        """When, in the loop's time, it is too old to serve another exchange."""

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.address} served={self.served} {self.reader!r}>"

    @property
    def is_open(self) -> bool:
        """Tell whether bytes can still be sent and heard."""
        return (
            self.transport is not None and not self.transport.is_closing() and not self._has_ended
        )

    @property
    def is_reusable(self) -> bool:
        """Tell whether the exchange ended so that nothing of it can reach the next one."""
        reader = self.reader
        return (
            reader.is_complete
            and reader.is_clean
            and self.sent_whole_request
            and reader.head is not None
            and reader.head.keeps_alive
            and self.is_open
        )

    @property
    def has_response_begun(self) -> bool:
        """Tell whether any byte of the current answer has come."""
        return self.reader.has_begun

    # The exchange.

    def start(
        self, method: str, wants_upgrade: bool, data: bytes, is_whole: bool, sink: ResponseSink
    ) -> None:
        """Send a request's head and what there is of its body; the answer is for ``sink``."""
        self.reader.expect(method, wants_upgrade)
        self.sink = sink
        self._is_slow = False
        self.sent_whole_request = is_whole
        self.served += 1
        if self.transport is None:
            self._fault = UpstreamUnreachable("the upstream closed the connection at once")
        else:
            self.transport.write(data)

    def send(self, data: bytes) -> None:
        """Send more of the body, or tunnelled bytes."""
        if self.transport is not None:
            self.transport.write(data)

    def note_whole_request(self) -> None:
        """All of the request is sent. If the answer was over before that, who knows where the
        upstream takes the next request to begin: the connection is not used again.
        """
        self.sent_whole_request = not self.reader.is_complete

    def send_end(self) -> None:
        """Half-close: the tunnel's client has nothing more to say."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.abort()

    async def answered(self) -> ResponseHead:
        """Wait for the final response head. Raises a ``Fault``: the upstream's, or the one that
        ``fail`` was given.
        """
        reader = self.reader
        while True:
            self._check()
            if reader.head is not None:
                return reader.head
            await self._progress

    async def answered_soon(self) -> bool:
        """Wait for the final response head, or until ``note_slow_response`` is called: ``False``.

        Raises as ``answered`` does.
        """
        reader = self.reader
        while True:
            self._check()
            if reader.head is not None:
                return True
            if self._is_slow:
                return False
            await self._progress

    def note_slow_response(self) -> None:
        """Tell whoever waits for the head that it takes long."""
        self._is_slow = True
        self._progress.give()

    async def finished(self) -> None:
        """Wait until the answer (or the tunnel) has ended. Raises a ``Fault``, as ``answered``."""
        while not self._is_at_end():
            self._check()
            await self._progress

    def take(self) -> bytes:
        """Return, once, the body bytes or tunnelled bytes that have come."""
        if not self.is_tunnel:
            return self.reader.take()
        data = b"".join(self.tunnelled)
        self.tunnelled.clear()
        return data

    def become_tunnel(self) -> None:
        """After a 101: from here on bytes are bytes (RFC 9110 section 7.8)."""
        self.is_tunnel = True
        if self.reader.tunnelled:
            self.tunnelled.append(self.reader.tunnelled)

    def set_reading(self, is_wanted: bool) -> None:
        """Read on, or stop reading because the client does not take what was read."""
        if is_wanted == self._is_reading:
            return
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self._is_reading = is_wanted
        if is_wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def fail(self, fault: Fault) -> None:
        """End the exchange with a fault (a deadline's, say) and close."""
        self._fault = self._fault or fault
        self.abort()
        self._progress.give()

    def abort(self) -> None:
        """Close at once; nothing more is sent."""
        if self.transport is not None:
            self.transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.is_tunnel:
            self.tunnelled.append(data)
        else:
            reader = self.reader
            was_complete = reader.is_complete
            try:
                reader.receive(data)
            except UpstreamBroken as fault:
                self.fail(fault)
                return
            if was_complete:
                if not reader.is_upgraded:
                    self.abort()  # bytes nobody asked for
                return
            if reader.interim:
                self._hand_on_interim()
        if self.sink is not None:
            self.sink.on_answer_bytes()
        self._progress.give()

    def eof_received(self) -> bool:
        self._has_ended = True
        if self.is_tunnel:
            self._progress.give()
            return self.transport is not None and self.transport.can_write_eof()
        if self.reader.is_complete:
            return False
        try:
            self.reader.end()
        except UpstreamBroken as fault:
            self._fault = self._fault or self._early_end(fault)
        if self.sink is not None:
            self.sink.on_answer_bytes()
        self._progress.give()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True
        self.transport = None
        if not self.reader.is_complete or self.is_tunnel:
            self._fault = self._fault or self._early_end(
                UpstreamBroken("the connection closed before the response was complete")
            )
        self._on_lost(self)
        self._progress.give()

    def pause_writing(self) -> None:
        self.is_writable = False
        if self.sink is not None:
            self.sink.on_upstream_writable(False)

    def resume_writing(self) -> None:
        self.is_writable = True
        if self.sink is not None:
            self.sink.on_upstream_writable(True)

    # Within.

    def _early_end(self, fault: UpstreamFault) -> UpstreamFault:
        """A connection that went before a byte of the answer came was not reached, not broken."""
        if self.has_response_begun:
            return fault
        return UpstreamUnreachable("the upstream closed the connection without an answer")

    def _is_at_end(self) -> bool:
        return self._has_ended if self.is_tunnel else self.reader.is_complete

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _hand_on_interim(self) -> None:
        interim, self.reader.interim = self.reader.interim, []
        if self.sink is not None:
            for head in interim:
                self.sink.on_interim(head)


class OnLost(Protocol):
    """Told once when a connection is gone."""

    def __call__(self, connection: UpstreamConnection, /) -> None:
        """Forget the connection."""
