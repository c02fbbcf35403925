"""One connection to an upstream: sends a request, and passes the response on as it arrives.

Back-pressure goes both ways: while the upstream is slow to take bytes, the client is not read
(``ResponseSink.on_upstream_writable``); while the client is slow, this connection is not read
(``set_reading``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final, Protocol, cast

from sidecar.core.errors import Fault, UpstreamBroken, UpstreamFault, UpstreamUnreachable
from sidecar.eager import Wakeup
from sidecar.wire.last_bytes import LastBytes, keep_socket
from sidecar.wire.responses import ERRORS, HeadMemory, ResponseHead, ResponseReader

_SMALL_BYTES: Final = 16 * 1024  # a request that fits any socket's send buffer


class ResponseSink(Protocol):
    """What an upstream connection reports to the exchange that it serves."""

    def on_answer_bytes(self) -> None:
        """Body bytes, the end of the body or tunnelled bytes have arrived; ``take`` them."""

    def on_interim(self, head: ResponseHead) -> None:
        """An interim response (1xx) came before the final head (RFC 9110 section 15.2)."""

    def on_upstream_writable(self, is_writable: bool) -> None:
        """The upstream's send buffer is full, or has room again."""

    def client_rate(self) -> float | None:
        """Return the client's rate in bytes per second, if the client is what holds the exchange
        up: it has not finished its upload, or does not take the response.

        ``inf`` for a tunnel or an event stream, which may be idle; ``None`` while the exchange
        waits for the service.
        """


class Borrower(Protocol):
    """On whose behalf a connection is lent: the authenticated account (empty on public routes), the
    client's address, and the id of its token (empty: none).
    """

    account: str
    client: str
    token_id: str


class UpstreamConnection(asyncio.Protocol):
    """A connection of a pool, lent to one exchange at a time and idle in between.

    ``is_reusable`` tells whether it may serve another exchange after a complete one.
    """

    __slots__ = (
        "_fault",
        "_has_ended",
        "_held_end",
        "_is_reading",
        "_is_slow",
        "_is_upload",
        "_last_bytes",
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
        self._progress = Wakeup(loop)
        self._fault: Fault | None = None
        self._has_ended = False
        self._is_slow = False
        self._is_upload = False
        self._is_reading = True
        self._last_bytes: LastBytes | None = None
        self._held_end: Callable[[], None] | None = None
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
        """Whose exchange it serves; ``None`` while it is idle or being closed."""
        self.bound_to: tuple[str, str] | None = None
        """The only account and address that it may serve, as it may be authenticated as theirs
        (``core.connection_auth``); ``None``: it may serve anyone."""
        self.expires_at = inf
        """The loop time after which it is too old to serve another exchange."""

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self.address} served={self.served} {self.reader!r}>"

    @property
    def is_open(self) -> bool:
        """Tell whether bytes can still be sent and received."""
        return (
            self.transport is not None
            and not self.transport.is_closing()
            and not self._has_ended
            and self._held_end is None
        )

    @property
    def is_reusable(self) -> bool:
        """Tell whether the exchange ended cleanly: no byte of it can leak into the next one."""
        reader = self.reader
        return (
            reader.is_complete
            and reader.is_clean
            and self.sent_whole_request
            and reader.head is not None
            and reader.head.keeps_alive
            and self.is_open
            and not (self._is_upload and self._may_be_unread(reader.head))
        )

    @property
    def may_get_late_bytes(self) -> bool:
        """Tell whether a service that is wrong about HTTP would send the body of the last response
        now (``ResponseHead.declares_absent_body``).
        """
        head = self.reader.head
        return head is not None and not head.has_body and head.declares_absent_body

    @property
    def has_response_begun(self) -> bool:
        """Tell whether any byte of the current response has arrived."""
        return self.reader.has_begun

    # The exchange.

    def start(
        self, method: str, wants_upgrade: bool, data: bytes, is_whole: bool, sink: ResponseSink
    ) -> None:
        """Send a request's head with the body bytes available so far (``is_whole``: all of them).

        The response goes to ``sink``.
        """
        self.reader.expect(method, wants_upgrade)
        self.sink = sink
        self._is_slow = False
        self._is_upload = not is_whole or len(data) > _SMALL_BYTES
        self.sent_whole_request = is_whole
        self.served += 1
        if self.transport is None:
            self._fault = UpstreamUnreachable("the upstream closed the connection at once")
        else:
            self.transport.write(data)

    def send(self, data: bytes) -> None:
        """Send more body bytes, or tunnelled bytes; they are dropped once nothing can be sent."""
        if self.transport is not None and self._last_bytes is None:
            self.transport.write(data)

    def note_whole_request(self) -> None:
        """Note that the whole request has been sent.

        If the response was complete before that, the connection is not reused: there is no telling
        where the upstream believes that the next request begins.
        """
        self.sent_whole_request = not self.reader.is_complete

    def send_end(self) -> None:
        """Half-close: the tunnel's client will send nothing more."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.abort()

    async def answered(self) -> ResponseHead:
        """Wait for the final response head. Raises a ``Fault``: the upstream's own, or the one
        passed to ``fail``.
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
        """End the wait of ``answered_soon``: the response is slow."""
        self._is_slow = True
        self._progress.set()

    async def finished(self) -> None:
        """Wait until the response or the tunnel has ended. Raises as ``answered`` does."""
        while not self._is_at_end():
            self._check()
            await self._progress

    def take(self) -> bytes:
        """Remove and return the body bytes or tunnelled bytes that have arrived."""
        if not self.is_tunnel:
            return self.reader.take()
        data = b"".join(self.tunnelled)
        self.tunnelled.clear()
        return data

    def become_tunnel(self) -> None:
        """Pass bytes through unparsed from now on, after a 101 (RFC 9110 section 7.8)."""
        self.is_tunnel = True
        if self.reader.tunnelled:
            self.tunnelled.append(self.reader.tunnelled)

    def set_reading(self, is_reading: bool) -> None:
        """Resume reading, or pause it because the client does not take what has been read."""
        if is_reading == self._is_reading:
            return
        self._is_reading = is_reading
        transport, last_bytes = self.transport, self._last_bytes
        if last_bytes is not None:
            last_bytes.set_reading(is_reading)
        if transport is None or (transport.is_closing() and last_bytes is None):
            return
        if is_reading:
            transport.resume_reading()
            if self._held_end is not None:
                self._loop.call_soon(self._release_end)  # after what TLS holds, which comes now
        else:
            transport.pause_reading()

    def fail(self, fault: Fault) -> None:
        """End the exchange with a fault, such as a time-out, and close the connection."""
        self._fault = self._fault or fault
        self.abort()
        self._progress.set()

    def abort(self) -> None:
        """Close at once and discard unsent bytes."""
        if self._last_bytes is not None:
            self._last_bytes.end()
        elif self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._has_ended:  # above TLS, it may have ended before this is called
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
                    self.abort()  # unsolicited bytes
                return
            if reader.interim:
                self._deliver_interim()
        if self.sink is not None:
            self.sink.on_answer_bytes()
        self._progress.set()

    def eof_received(self) -> bool:
        self._has_ended = True
        if self.is_tunnel:
            self._progress.set()
            return self.transport is not None and self.transport.can_write_eof()
        if self.reader.is_complete:
            return False
        try:
            self.reader.end()
        except UpstreamBroken as fault:
            self._fault = self._fault or self._early_end(fault)
        if self.sink is not None:
            self.sink.on_answer_bytes()
        self._progress.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self.transport = self.transport, None
        rest = keep_socket(transport) if exc is not None and self._is_awaited() else None
        if rest is None:
            self._lose()
            return
        last = LastBytes(self._loop, rest, self.data_received, self._lose)
        self.on_write_failed(last)
        last.read()

    def on_write_failed(self, rest: LastBytes) -> None:
        """Go on with what had been received before nothing more could be sent, if an exchange waits
        for it (``wire.last_bytes.TlsListener``).
        """
        self._last_bytes = rest
        if not self._is_awaited():
            rest.end()
            return
        rest.set_reading(self._is_reading)
        if not self.is_writable:
            self.resume_writing()  # what the client still sends is dropped

    def hold_end(self, end: Callable[[], None]) -> bool:
        """Hold the end of the TCP stream back while reading is paused: the TLS layer, told of it,
        discards what it has not delivered (``wire.last_bytes.TlsListener``).
        """
        if self._is_reading:
            return False
        self._held_end = end
        return True

    def _release_end(self) -> None:
        end = self._held_end
        if end is not None and self._is_reading:
            self._held_end = None
            end()

    def _lose(self) -> None:
        self._has_ended = True
        is_cut = self._is_upload and self._fault is None and self.reader.end_by_reset()
        if is_cut and self.sink is not None:
            self.sink.on_answer_bytes()
        if not self.reader.is_complete or self.is_tunnel:
            self._fault = self._fault or self._early_end(
                UpstreamBroken("the connection closed before the response was complete")
            )
        self._on_lost(self)
        self._progress.set()

    def pause_writing(self) -> None:
        self.is_writable = False
        if self.sink is not None:
            self.sink.on_upstream_writable(False)

    def resume_writing(self) -> None:
        self.is_writable = True
        if self.sink is not None:
            self.sink.on_upstream_writable(True)

    # Internals

    def _is_awaited(self) -> bool:
        """Tell whether an exchange waits for more bytes, now that writing has failed.

        If a kept connection fails before it has taken a whole small request, what it holds was sent
        before: no answer, but a 408 for its idleness, say. The request may be sent on another one.
        """
        is_open = self.is_tunnel or (
            not self.reader.is_complete and (self._is_upload or self.served == 1)
        )
        return is_open and self.sink is not None and self._fault is None and not self._has_ended

    def _may_be_unread(self, head: ResponseHead) -> bool:
        """Tell whether the service may have answered without reading all of an upload: if so, it is
        likely to close, though it has not said so, and to take the next request down with it.
        """
        transport = self.transport
        is_unsent = transport is not None and transport.get_write_buffer_size() > 0
        return is_unsent or head.status >= ERRORS

    def _early_end(self, fault: UpstreamFault) -> UpstreamFault:
        """Return the fault for a connection that ended early: before the first byte of a response,
        the upstream counts as unreachable rather than broken.
        """
        if self.has_response_begun:
            return fault
        return UpstreamUnreachable("the upstream closed the connection without an answer")

    def _is_at_end(self) -> bool:
        return self._has_ended if self.is_tunnel else self.reader.is_complete

    def _check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _deliver_interim(self) -> None:
        interim, self.reader.interim = self.reader.interim, []
        if self.sink is not None:
            for head in interim:
                self.sink.on_interim(head)


class OnLost(Protocol):
    """A callback for the loss of a connection."""

    def __call__(self, connection: UpstreamConnection, /) -> None:
        """Forget the connection; called once."""
