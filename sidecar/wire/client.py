"""One connection of a caller: reads its requests in order and writes their responses in order.

The connection owns its socket and its deadline. What a request may do is decided by the gateway,
which runs as one coroutine per connection (``ConnectionOwner.serve``) and is cancelled when the
caller disconnects.

No caller is served without a limit: once the current turn of the loop is over, or a connection has
had ``MOST_REQUESTS_IN_TURN`` of its pipelined requests served, it queues for another turn
(``wire.turn_queue``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from time import monotonic
from typing import Any, Final, Protocol, cast

from sidecar.core.error_location import error_location
from sidecar.core.forwarded import peer_address
from sidecar.eager import EagerTask, Wakeup
from sidecar.wire.buffers import HEAD_WEIGHT, BufferBudget
from sidecar.wire.deadlines import NEVER
from sidecar.wire.requests import (
    HeadCache,
    Request,
    RequestLimits,
    RequestReader,
    RequestRefused,
)
from sidecar.wire.turn_queue import PIECE_WORK, TurnQueue
from sidecar.wire.upstream import UpstreamConnection

_log = logging.getLogger("sidecar")

MOST_REQUESTS_IN_TURN: Final = 16
_HELD_BYTES: Final = 64 * 1024  # read ahead of a verdict, or of a pipelined request's turn
_UNSENT_BYTES: Final = 16 * 1024  # unsent bytes above which the connection is not writable
LAST_CHANCE_SECONDS: Final = 1.0  # for a request sent before the caller saw the drain begin
_QUEUED_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 2.0  # for the end of the other side, when nothing is on its way
# What a refused caller still sends is read and discarded for as long as nginx does.
_LINGER_SECONDS: Final = 5.0  # between two pieces
LINGER_SECONDS_IN_ALL: Final = 30.0


class ConnectionOwner(Protocol):
    """What a client connection needs of the server that it belongs to."""

    limits: RequestLimits
    turns: TurnQueue
    buffers: BufferBudget
    header_timeout_seconds: float
    idle_timeout_seconds: float
    closes_after_answers: bool
    is_closing: bool

    def new_head_cache(self) -> HeadCache:
        """Return the cache through which a new connection reads its requests."""

    def on_opened(self, connection: ClientConnection) -> None:
        """Register a connection; it was counted when it was accepted."""

    def on_closed(self, connection: ClientConnection) -> None:
        """Forget the connection."""

    def serve(self, connection: ClientConnection) -> Coroutine[Any, Any, None]:
        """Return the coroutine that serves the connection's requests until it ends."""

    def on_served(self, connection: ClientConnection) -> None:
        """Note that the coroutine has ended, however it did."""


class RequestSink(Protocol):
    """The exchange to which a client connection delivers the current request's body, or a tunnel's
    bytes; the counterpart of ``wire.upstream.ResponseSink``.
    """

    @property
    def is_tunnel(self) -> bool:
        """Tell whether bytes pass through unparsed, after a 101."""

    @property
    def is_writable(self) -> bool:
        """Tell whether the exchange takes more bytes now."""

    def on_client_bytes(self, data: bytes) -> None:
        """Body bytes have arrived (``Request.take``); in a tunnel, ``data`` has."""

    def on_client_end(self) -> bool:
        """The client half-closed; return ``False`` if it must have gone for good."""

    def on_client_refused(self, refusal: RequestRefused) -> None:
        """The request is refused after it was let pass: its body is malformed, short or late."""

    def on_client_writable(self, is_writable: bool) -> None:
        """The client's send buffer is full, or has room again."""

    def on_deadline(self) -> None:
        """The deadline that the exchange has set on the client connection has passed."""

    def resume_response(self) -> None:
        """The connection's turn has come: read more of the response."""


class ClientConnection(asyncio.Protocol):
    """A caller's connection.

    ``peer`` is the address of the other end, ``unix:`` for a local socket; behind a balancer that
    sends PROXY headers, the one that it names. ``is_tls`` tells whether
    the connection is encrypted. ``account`` owns the last request that was let pass; empty for
    none. ``is_made``: ``connection_made`` has been called, so ``connection_lost`` will be.
    """

    __slots__ = (
        "_ends_by",
        "_has_received",
        "_is_buffering",
        "_is_ending",
        "_is_head_timed",
        "_is_lingering_unseen",
        "_is_reading",
        "_is_shed",
        "_is_waiting_for_head",
        "_linger_seconds",
        "_loop",
        "_owner",
        "_progress",
        "_served",
        "_served_in_turn",
        "_task",
        "_timed_out",
        "_turns",
        "_unsent_bytes",
        "account",
        "bound",
        "deadline",
        "has_ended",
        "is_made",
        "is_queued",
        "is_tls",
        "is_writable",
        "network",
        "now",
        "peer",
        "reader",
        "refusal",
        "relay",
        "speaks_1_0",
        "transport",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: ConnectionOwner,
        network: str = "",
        peer: str = "",
    ) -> None:
        """``network`` is the client's network (``core.subjects``), ``peer`` its address; empty: the
        one that the socket has.
        """
        self._loop = loop
        self._owner = owner
        self.now = monotonic  # the loop's clock, but finer: uvloop's counts in milliseconds
        self.reader = RequestReader(loop, owner.limits, owner.new_head_cache())
        self.transport: asyncio.Transport | None = None
        self.relay: RequestSink | None = None
        self.bound: list[UpstreamConnection] = []
        """Upstream connections that may be authenticated as this caller; closed with this one."""
        self.refusal: RequestRefused | None = None
        self.deadline = NEVER
        self.peer = peer
        self.is_tls = False
        self.speaks_1_0 = False
        self.is_writable = True
        self.has_ended = False
        self._is_reading = True
        self._is_ending = False
        self._has_received = False
        self._unsent_bytes = 0
        self._ends_by = NEVER
        self._linger_seconds = _CLOSE_SECONDS
        self._is_lingering_unseen = False
        self._is_head_timed = False
        self._is_waiting_for_head = False
        self._timed_out = False
        self.is_queued = False
        self._is_buffering = False
        self._is_shed = False
        self._served = 0
        self._served_in_turn = 0
        self._turns = owner.turns
        self.account = ""
        self.network = network
        self.is_made = False
        self._progress = Wakeup(loop)
        self._task: EagerTask | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer} served={self._served} {self.reader!r}>"

    @property
    def is_draining(self) -> bool:
        """Tell whether the current answer should be the connection's last."""
        return self._owner.closes_after_answers

    # For the gateway.

    async def next_request(self) -> Request | None:
        """Wait for the next request's head; ``None`` once the connection has ended.

        Raises ``RequestRefused`` for a malformed head, or one that arrives too slowly.
        """
        reader = self.reader
        if not self.is_writable:
            await self._flushed()
        if reader.held_bytes:
            self._served_in_turn += 1
            if self._served_in_turn >= MOST_REQUESTS_IN_TURN or self.is_queued:
                await self._yield_turn()
        if self._is_shed:
            return None
        is_first = True
        while (request := reader.next_request()) is None:
            has_begun = reader.has_begun
            if self.has_ended:
                return None
            if has_begun or self._is_buffering:
                self._note_buffered()
            if not self._is_reading:
                self.update_reading()
            self._time_head(has_begun, is_first)
            is_first = False
            self._is_waiting_for_head = True
            try:
                await self._progress
            finally:
                self._is_waiting_for_head = False
            if self._timed_out or self._is_shed:
                if self._is_shed:
                    raise _shed_refusal()
                if reader.has_begun:
                    raise RequestRefused("request_timeout", "The request head came too slowly.")
                return None
        if self._is_buffering:
            self._note_buffered()
        self.deadline = NEVER
        self._is_head_timed = False
        self.refusal = _early_end() if self.has_ended and self._is_short(request) else None
        self.speaks_1_0 = request.version[1] == 0
        self._served += 1
        return request

    def begin_body(self) -> None:
        """Start to read the body of the current request, which has been let pass.

        Raises ``RequestRefused`` if the part that has arrived is malformed.
        """
        request = self.reader.current
        if request is None or request.length is not None:
            return
        self.reader.begin_body()
        if self.has_ended and not request.is_complete and not self.reader.has_unread_body:
            self.refusal = _early_end()

    def resume_body(self) -> None:
        """Read more of the body, as there is a place for it to go."""
        if self.reader.has_unread_body:
            self._enqueue()
        else:
            self.update_reading()

    def write(self, data: bytes) -> None:
        """Send bytes to the caller; they are buffered while ``is_writable`` is false."""
        if self.transport is not None:
            self.transport.write(data)

    def update_reading(self) -> None:
        """Resume or pause reading, depending on whether more bytes are wanted now."""
        if self._is_buffering:
            self._note_buffered()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        should_read = self._is_wanted()
        if should_read != self._is_reading:
            self._is_reading = should_read
            if should_read:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def yield_if_turn_over(self, work: int = 1) -> bool:
        """Queue for another turn if the current one is over; ``False`` if work may continue.

        Counts the ``work`` done or about to be done (``wire.turn_queue``).
        """
        if not self.is_queued and not self._turns.is_turn_over(work):
            return False
        self._enqueue()
        return True

    def close(self) -> None:
        """Close once the buffered bytes have been sent."""
        if self.transport is not None:
            self._begin_end()
            self.transport.close()

    def close_lingering(self) -> None:
        """Half-close, then read and discard what still arrives, so that the response is not lost to
        a reset (RFC 9112 section 9.6).

        TLS has no half-close: its transport announces the end, reads and discards by itself until
        the caller has ended too, and tells nothing of it.
        """
        transport = self.transport
        if transport is None or self.has_ended:
            self.close()
            return
        if self._is_cut_short():
            self._linger_seconds = _LINGER_SECONDS
        if not transport.can_write_eof():
            self._is_lingering_unseen = self._is_cut_short()
            self.close()
            return
        self._begin_end()
        transport.write_eof()
        self.update_reading()

    def abort(self) -> None:
        """Close at once, so that the caller sees a broken transfer rather than a clean end."""
        if self.transport is not None:
            self.transport.abort()

    def refuse(self, refusal: RequestRefused) -> None:
        """Refuse the current request, whose response has not begun."""
        self.refusal = refusal
        if self.relay is not None:
            self.relay.on_client_refused(refusal)

    def drain(self) -> None:
        """Close soon if the connection is idle; a request already in transit is still answered."""
        if self._is_waiting_for_head and not self.reader.has_begun:
            self.deadline = min(self.deadline, self.now() + LAST_CHANCE_SECONDS)

    def on_deadline(self) -> None:
        """End the wait that has taken too long; called by ``Deadlines``."""
        self.deadline = NEVER
        if self.is_queued:
            self.deadline = self.now() + _QUEUED_SECONDS  # the delay is ours
        elif self._is_ending:
            self._end_or_wait()
        elif self._is_waiting_for_head:
            self._timed_out = True
            self._progress.set()
        elif self.relay is not None:
            self.relay.on_deadline()
        else:
            self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.is_made = True
        self.transport = connected = cast(asyncio.Transport, transport)
        connected.set_write_buffer_limits(_UNSENT_BYTES)
        self.peer = self.peer or _peer_of(transport)
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        self.deadline = self.now() + self._owner.header_timeout_seconds
        self._owner.on_opened(self)
        self._task = EagerTask(self._loop, self._owner.serve(self), self._on_served)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            self._has_received = True
            return
        relay = self.relay
        if relay is not None and relay.is_tunnel:
            relay.on_client_bytes(data)
            self.yield_if_turn_over(PIECE_WORK)
            return
        try:
            is_body = self.reader.receive(data)
        except RequestRefused as refusal:
            self.refuse(refusal)
            return
        if is_body and relay is not None:
            relay.on_client_bytes(data)
            if self.reader.has_unread_body:
                self._enqueue()
            else:
                self.yield_if_turn_over(PIECE_WORK)
        elif self._is_waiting_for_head and not self.is_queued:
            if self._turns.is_turn_over():
                self._enqueue()
            else:
                self._progress.set()
        else:
            self._note_buffered()
            self.update_reading()

    def eof_received(self) -> bool:
        self.has_ended = True
        relay = self.relay
        if self._is_ending:
            return False
        if relay is not None:
            if not self.reader.has_unread_body and not relay.on_client_end():
                self.abort()
        elif self._is_waiting_for_head:
            if not self.is_queued:
                self._progress.set()
        elif self.reader.current is not None and self._is_short(self.reader.current):
            self.refuse(_early_end())
        return not self.is_tls  # TLS has no half-open connections

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True
        self.transport = None
        for upstream in self.bound:
            upstream.abort()
        self._owner.on_closed(self)
        if self._is_buffering:
            self._owner.buffers.note(self, 0)
        if self._task is None or self._task.done():
            return
        if not self.yield_if_turn_over():  # in case many disconnect at once
            self._task.cancel()

    def pause_writing(self) -> None:
        self.is_writable = False
        if self.relay is not None:
            self.relay.on_client_writable(False)
        else:
            self._note_buffered()

    def resume_writing(self) -> None:
        self.is_writable = True
        if self.relay is not None:
            self.relay.on_client_writable(True)
        elif not self._is_waiting_for_head:
            self._progress.set()

    # wire.turn_queue.QueuedConnection and wire.buffers.Buffering

    def take_turn(self) -> bool:
        """Continue after queueing: with the next request, the body, or the end."""
        self.is_queued = False
        relay = self.relay
        if self.transport is None:
            if self._task is not None and not self._task.done():
                self._task.cancel_now()
        elif relay is None:
            self._progress.set_now()
        else:
            return self._read_on(relay)
        return False

    def shed(self) -> None:
        """Drop what is buffered for this caller, as too much is buffered in total.

        The current request is refused, and the connection closes: the position in its byte stream
        is lost.
        """
        self._is_buffering = False
        self._is_shed = True
        self.reader.discard()
        if not self.is_writable or self._is_ending:
            self.abort()
        elif self._is_waiting_for_head:
            if not self.is_queued:
                self._progress.set()
        else:
            self.refuse(_shed_refusal())

    # Internals

    def _enqueue(self) -> None:
        if not self.is_queued:
            self.is_queued = True
            self._turns.enqueue(self)
            self.update_reading()

    async def _yield_turn(self) -> None:
        """Queue for another turn: this connection has had its share of the current one."""
        self._served_in_turn = 0
        self._enqueue()
        while self.is_queued:
            await self._progress

    def _read_on(self, relay: RequestSink) -> bool:
        """Continue a body or a tunnel that was left for this turn; ``True`` if reading resumed."""
        if self.reader.has_unread_body:
            try:
                is_read = self.reader.read_body()
            except RequestRefused as refusal:
                self.refuse(refusal)
                return False
            relay.on_client_bytes(b"")
            if is_read and self.has_ended and self._has_unfinished_body():
                relay.on_client_end()
        self.resume_body()
        relay.resume_response()
        return not self.is_queued

    def _note_buffered(self) -> None:
        """Report to the budget how many bytes are buffered for this caller."""
        reader, relay = self.reader, self.relay
        size = reader.head_bytes * HEAD_WEIGHT + reader.held_bytes
        if reader.current is not None:
            size += reader.current.waiting_bytes
        if relay is None and not self.is_writable and self.transport is not None:
            size += self.transport.get_write_buffer_size()
        if size or self._is_buffering:
            self._is_buffering = self._owner.buffers.note(self, size)

    def _has_unfinished_body(self) -> bool:
        request = self.reader.current
        return request is not None and not request.is_complete

    def _is_short(self, request: Request) -> bool:
        """Tell whether a request's body is known to be cut short, now that the caller has ended.

        A chunked body that has not been read yet may still be whole.
        """
        return not request.is_complete and request.length is not None

    def _on_served(self, error: BaseException | None) -> None:
        """Abort the connection if its task failed, as nothing serves it any more."""
        self._owner.on_served(self)
        if error is None or isinstance(error, asyncio.CancelledError):
            return
        _log.error("a connection's task failed: %s", error_location(error))
        self.abort()

    def _begin_end(self) -> None:
        self._is_ending = True
        self.reader.discard()  # a refused head may be large, and closing may take seconds
        self._note_unsent(self.transport.get_write_buffer_size() if self.transport else 0)
        self.deadline = self.now() + self._linger_seconds

    def _is_cut_short(self) -> bool:
        """Tell whether the caller may be in the middle of a request: its body, or its head."""
        request = self.reader.current
        return request is None or not request.is_complete

    def _note_unsent(self, unsent_bytes: int) -> None:
        self._unsent_bytes = unsent_bytes
        patience = self._owner.idle_timeout_seconds if unsent_bytes else LINGER_SECONDS_IN_ALL
        self._ends_by = self.now() + patience

    def _end_or_wait(self) -> None:
        """Abort a closing connection once no bytes move; a slow reader may still take the rest."""
        transport = self.transport
        if transport is None:
            return
        now, unsent = self.now(), transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._note_unsent(unsent)
        elif now >= self._ends_by or not (
            unsent or self._has_received or self._is_lingering_unseen
        ):
            self.abort()
            return
        self._has_received = False
        self.deadline = now + self._linger_seconds

    def _is_wanted(self) -> bool:
        """Tell whether more of the caller's bytes have a place to go."""
        if self._is_ending:
            return True
        relay = self.relay
        request = self.reader.current
        is_upload = request is not None and not request.is_complete
        if relay is not None and (is_upload or relay.is_tunnel):
            return relay.is_writable and not self.is_queued
        waiting = self.reader.held_bytes
        if request is not None and is_upload:
            waiting += request.waiting_bytes
        return waiting < _HELD_BYTES

    def _time_head(self, has_begun: bool, is_first: bool) -> None:
        """Set the idle time-out before a head begins, and the header time-out, for the whole head,
        once it has.

        Each is set only once, so that empty lines cannot keep a connection open. The first head of
        a connection is timed from the start of the connection.
        """
        owner = self._owner
        if (not self._served and not owner.is_closing) or self._is_head_timed:
            return
        if not (has_begun or is_first or owner.is_closing):
            return
        wait = owner.header_timeout_seconds if has_begun else owner.idle_timeout_seconds
        if owner.is_closing and not has_begun:
            wait = min(wait, LAST_CHANCE_SECONDS)
        self.deadline = self.now() + wait
        self._is_head_timed = has_begun

    async def _flushed(self) -> None:
        self.deadline = self.now() + self._owner.idle_timeout_seconds
        while not self.is_writable:
            await self._progress
        self.deadline = NEVER


def _early_end() -> RequestRefused:
    return RequestRefused("bad_request", "The request body ended early.")


def _shed_refusal() -> RequestRefused:
    return RequestRefused("overloaded", "Too much data is buffered here; try again shortly.")


def _peer_of(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return peer_address(peer[0] if isinstance(peer, tuple) else None)
