"""One connection of a caller: reads its requests in order, writes their answers in order.

The connection owns its socket and its deadline; what a request may do is the gateway's decision,
which runs as one coroutine per connection (``Host.serve``). A caller that leaves cancels it.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Final, Protocol, cast

from sidecar.core.failures import where
from sidecar.turns import PromptTask, Signal
from sidecar.wire.deadlines import NEVER
from sidecar.wire.relay import Relay
from sidecar.wire.requests import FieldMemory, Request, RequestLimits, RequestReader, RequestRefused

_log = logging.getLogger("sidecar")

_HELD_BYTES: Final = 64 * 1024  # read ahead of a verdict, or of a pipelined request's turn
LAST_CHANCE_SECONDS: Final = 1.0  # for a request that was sent before the caller knows of the end
_LINGER_SECONDS: Final = 2.0  # between two pieces read away
_LINGER_SECONDS_IN_ALL: Final = 10.0


class Host(Protocol):
    """What a client connection needs of the server it belongs to."""

    limits: RequestLimits
    memory: FieldMemory
    header_timeout_seconds: float
    idle_timeout_seconds: float
    is_draining: bool
    is_closing: bool

    def on_opened(self, connection: ClientConnection) -> bool:
        """Register the connection; ``False`` if there are too many."""

    def on_closed(self, connection: ClientConnection) -> None:
        """Forget the connection."""

    async def serve(self, connection: ClientConnection) -> None:
        """Serve the connection's requests until it ends."""


class ClientConnection(asyncio.Protocol):
    """A caller's connection.

    ``peer`` is the address of the other end, ``unix:`` for a local socket; ``is_tls`` whether TLS
    ends here.
    """

    __slots__ = (
        "_ends_by",
        "_has_heard",
        "_host",
        "_is_ending",
        "_is_head_timed",
        "_is_reading",
        "_is_waiting_for_head",
        "_loop",
        "_progress",
        "_served",
        "_task",
        "_timed_out",
        "_unsent_bytes",
        "deadline",
        "has_ended",
        "is_tls",
        "is_writable",
        "now",
        "peer",
        "reader",
        "refusal",
        "relay",
        "speaks_1_0",
        "transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, host: Host) -> None:
        self._loop = loop
        self._host = host
        self.now = monotonic  # the loop's clock, but exact: uvloop's own stands still within a turn
        self.reader = RequestReader(loop, host.limits, host.memory)
        self.transport: asyncio.Transport | None = None
        self.relay: Relay | None = None
        self.refusal: RequestRefused | None = None
        self.deadline = NEVER
        self.peer = ""
        self.is_tls = False
        self.speaks_1_0 = False
        self.is_writable = True
        self.has_ended = False
        self._is_reading = True
        self._is_ending = False
        self._has_heard = False
        self._unsent_bytes = 0
        self._ends_by = NEVER
        self._is_head_timed = False
        self._is_waiting_for_head = False
        self._timed_out = False
        self._served = 0
        self._progress = Signal(loop)
        self._task: PromptTask | None = None

    def __repr__(self) -> str:
        return f"<ClientConnection {self.peer} served={self._served} {self.reader!r}>"

    @property
    def is_draining(self) -> bool:
        """Tell whether the current answer should be the connection's last."""
        return self._host.is_draining

    # For the gateway.

    async def next_request(self) -> Request | None:
        """Wait for the next request's head; ``None`` when the connection has come to its end.

        Raises ``RequestRefused`` for what is no request, or comes too slowly.
        """
        if not self.is_writable:
            await self._flushed()
        reader = self.reader
        while (request := reader.next_request()) is None:
            has_begun = reader.has_begun
            if self.has_ended:
                return None
            if not self._is_reading:
                self.pace_reading()
            self._set_head_deadline(has_begun)
            self._is_waiting_for_head = True
            try:
                await self._progress
            finally:
                self._is_waiting_for_head = False
            if self._timed_out:
                if reader.has_begun:
                    raise RequestRefused("request_timeout", "The request head came too slowly.")
                return None
        self.deadline = NEVER
        self._is_head_timed = False
        self.refusal = None if request.is_complete or not self.has_ended else _early_end()
        self.speaks_1_0 = request.version[1] == 0
        self._served += 1
        return request

    def write(self, data: bytes) -> None:
        """Send bytes to the caller; they wait in memory while ``is_writable`` is false."""
        if self.transport is not None:
            self.transport.write(data)

    def pace_reading(self) -> None:
        """Read on or stop, by who takes what is read."""
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

    def close(self) -> None:
        """Send what waits to be sent, then close."""
        if self.transport is not None:
            self._begin_end()
            self.transport.close()

    def close_lingering(self) -> None:
        """Close so that no answer is lost to bytes still coming: end our side, read theirs.

        RFC 9112 section 9.6.
        """
        transport = self.transport
        if transport is None or self.has_ended or not transport.can_write_eof():
            self.close()
            return
        self._begin_end()
        transport.write_eof()
        self.pace_reading()

    def abort(self) -> None:
        """Close at once, so that the caller sees a broken transfer and not a clean end."""
        if self.transport is not None:
            self.transport.abort()

    def drain(self) -> None:
        """Close soon if nothing is under way: a request that is on its way is still answered."""
        if self._is_waiting_for_head and not self.reader.has_begun:
            self.deadline = min(self.deadline, self.now() + LAST_CHANCE_SECONDS)

    def on_deadline(self) -> None:
        """Called by ``Deadlines``: what was waited for did not come."""
        self.deadline = NEVER
        if self._is_ending:
            self._end_or_wait()
        elif self._is_waiting_for_head:
            self._timed_out = True
            self._progress.give()
        elif self.relay is not None:
            self.relay.on_deadline()
        else:
            self.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.peer = _peer_of(transport)
        self.is_tls = transport.get_extra_info("sslcontext") is not None
        self.deadline = self.now() + self._host.header_timeout_seconds
        if self._host.on_opened(self):
            self._task = PromptTask(self._loop, self._host.serve(self), self._on_served)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            self._has_heard = True
            return
        relay = self.relay
        if relay is not None and relay.upstream.is_tunnel:
            relay.on_client_bytes(data)
            return
        try:
            is_body = self.reader.receive(data)
        except RequestRefused as refusal:
            self._note_refusal(refusal)
            return
        if is_body and relay is not None:
            relay.on_client_bytes(data)
        elif self._is_waiting_for_head:
            self._progress.give()
        else:
            self.pace_reading()

    def eof_received(self) -> bool:
        self.has_ended = True
        relay = self.relay
        if self._is_ending:
            return False
        if relay is not None:
            if not relay.on_client_end():
                self.abort()
        elif self._is_waiting_for_head:
            self._progress.give()
        elif self.reader.current is not None and not self.reader.current.is_complete:
            self._note_refusal(_early_end())
        return not self.is_tls  # TLS knows no half-open connection

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True
        self.transport = None
        self._host.on_closed(self)
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def pause_writing(self) -> None:
        self.is_writable = False
        if self.relay is not None:
            self.relay.on_client_pace(False)

    def resume_writing(self) -> None:
        self.is_writable = True
        if self.relay is not None:
            self.relay.on_client_pace(True)
        elif not self._is_waiting_for_head:
            self._progress.give()

    # Within.

    def _on_served(self, error: BaseException | None) -> None:
        """A connection that nobody serves must not stay."""
        if error is None or isinstance(error, asyncio.CancelledError):
            return
        _log.error("a connection's task failed: %s", where(error))
        self.abort()

    def _begin_end(self) -> None:
        self._is_ending = True
        self._note_unsent(self.transport.get_write_buffer_size() if self.transport else 0)
        self.deadline = self.now() + _LINGER_SECONDS

    def _note_unsent(self, unsent_bytes: int) -> None:
        self._unsent_bytes = unsent_bytes
        patience = self._host.idle_timeout_seconds if unsent_bytes else _LINGER_SECONDS_IN_ALL
        self._ends_by = self.now() + patience

    def _end_or_wait(self) -> None:
        """Cut an ending connection once nothing moves; a slow reader may have the rest."""
        transport = self.transport
        if transport is None:
            return
        now, unsent = self.now(), transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._note_unsent(unsent)
        elif now >= self._ends_by or (not unsent and not self._has_heard):
            self.abort()
            return
        self._has_heard = False
        self.deadline = now + _LINGER_SECONDS

    def _is_wanted(self) -> bool:
        """Tell whether more bytes of the caller have a place to go."""
        if self._is_ending:
            return True
        relay = self.relay
        request = self.reader.current
        is_upload = request is not None and not request.is_complete
        if relay is not None and (is_upload or relay.upstream.is_tunnel):
            return relay.upstream.is_writable
        waiting = self.reader.held_bytes
        if request is not None and is_upload:
            waiting += request.waiting_bytes
        return waiting < _HELD_BYTES

    def _note_refusal(self, refusal: RequestRefused) -> None:
        self.refusal = refusal
        if self.relay is not None:
            self.relay.on_client_refused(refusal)

    def _set_head_deadline(self, has_begun: bool) -> None:
        """Give a head the header time-out in all once it has begun, before that the idle one.

        A new connection's first head is timed from the connection's start.
        """
        host = self._host
        if (self._served or host.is_closing) and not self._is_head_timed:
            wait = host.header_timeout_seconds if has_begun else host.idle_timeout_seconds
            if host.is_closing and not has_begun:
                wait = min(wait, LAST_CHANCE_SECONDS)
            self.deadline = self.now() + wait
            self._is_head_timed = has_begun

    async def _flushed(self) -> None:
        self.deadline = self.now() + self._host.idle_timeout_seconds
        while not self.is_writable:
            await self._progress
        self.deadline = NEVER


def _early_end() -> RequestRefused:
    return RequestRefused("bad_request", "The request body ended early.")


def _peer_of(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return peer[0] if isinstance(peer, tuple) else "unix:"
