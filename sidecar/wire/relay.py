"""One exchange: a client's request and an upstream's response, flowing at the same time.

Bytes are forwarded as they arrive, never collected; a slow receiver pauses the sender. A single
deadline, on the client's connection, covers every wait of the exchange, and the minimum rate of
bodies that do not arrive in one piece (``body_rate``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from sidecar.core.errors import UpstreamBroken, UpstreamTimeout
from sidecar.core.response_heads import build_response_head
from sidecar.wire.body_rate import BodyRate, unacknowledged_bytes
from sidecar.wire.client import ClientConnection
from sidecar.wire.requests import Request, RequestRefused
from sidecar.wire.responses import ResponseHead
from sidecar.wire.turn_queue import PIECE_WORK
from sidecar.wire.upstream import UpstreamConnection

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CONTINUE_PATIENCE_SECONDS: Final = 1.0
_READ_AHEAD_BYTES: Final = 64 * 1024
_LAST_CHUNK: Final = b"0\r\n\r\n"
LASTING_SECONDS: Final = 1.0
"""How long a request waits for its response before it counts as a long exchange."""

_YOUNG_SECONDS: Final = 0.1  # a body that has only just begun is in transit, not held up


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an exchange waits, in seconds: for the response head, between two pieces, and for
    the client's body.

    ``least_body_bytes`` is the minimum rate of a client, in bytes per second; 0: no minimum.
    """

    response_seconds: float
    idle_seconds: float
    body_seconds: float
    least_body_bytes: int = 0


class Relay:
    """The exchange between one request and one upstream connection; the ``RequestSink`` of the
    client's connection and the ``ResponseSink`` of the upstream's.
    """

    __slots__ = (
        "_continue_is_due",
        "_is_chunked",
        "_is_lasting",
        "_is_relaying",
        "_is_stream",
        "_rate",
        "_timeouts",
        "client",
        "refusal",
        "relayed_bytes",
        "request",
        "upstream",
    )

    def __init__(
        self,
        client: ClientConnection,
        upstream: UpstreamConnection,
        request: Request,
        timeouts: Timeouts,
        expects_continue: bool,
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.request = request
        self.refusal: RequestRefused | None = None
        self.relayed_bytes = 0
        self._timeouts = timeouts
        self._continue_is_due = expects_continue and not request.is_complete
        self._is_chunked = False
        self._is_lasting = not request.is_complete
        self._is_relaying = False
        self._is_stream = False
        self._rate: BodyRate | None = None

    @property
    def awaits_continue(self) -> bool:
        """Tell whether the client still waits for a 100 before it sends its body."""
        return self._continue_is_due

    @property
    def is_tunnel(self) -> bool:
        """Tell whether bytes are passed on as they are, after a 101."""
        return self.upstream.is_tunnel

    @property
    def is_writable(self) -> bool:
        """Tell whether the upstream takes more of the request now."""
        return self.upstream.is_writable

    def start(self, head: bytes) -> None:
        """Send the request's head with the body bytes that have arrived; the rest follows as it
        arrives.

        Raises ``RequestRefused``, and sends nothing, if the body is already known to be malformed.
        """
        request, client = self.request, self.client
        if request.length is None:
            client.begin_body()
        if client.refusal is not None:
            raise client.refusal
        if request.length != 0:
            head += self._framed_body()
        self.upstream.start(request.method, request.wants_upgrade, head, request.is_complete, self)
        client.relay = self
        if not request.is_complete:
            self._rate = BodyRate(client.now(), self._timeouts.least_body_bytes)
            client.resume_body()
        self._wait_for(self._waiting_seconds())

    def begin_answer(self, head: bytes, is_chunked: bool) -> None:
        """Send the response's head with the body bytes that have arrived; the rest follows as it
        arrives.
        """
        self._is_relaying = self._is_lasting = True
        self._is_chunked = is_chunked
        self._continue_is_due = False
        body = self._framed_answer()
        self.client.write(head + body if body else head)
        if not self.upstream.reader.is_complete:
            self._begin_rate()
        self._wait_for(self._timeouts.idle_seconds)
        self.upstream.set_reading(self.client.is_writable)

    def resume_response(self) -> None:
        """Resume reading the response, as the client's turn has come."""
        if self._is_relaying:
            self.upstream.set_reading(self.client.is_writable)

    def begin_tunnel(self, head: bytes) -> None:
        """Send the 101; from now on bytes pass through unparsed, in both directions."""
        self.upstream.become_tunnel()
        self._is_stream = True
        self.begin_answer(head, is_chunked=False)
        early = self.client.reader.take_held()
        if early:
            self.upstream.send(early)
        if self.client.has_ended:
            self.upstream.send_end()
        self.client.update_reading()

    # From the client.

    def on_client_bytes(self, data: bytes) -> None:
        """Forward body bytes, or a tunnel's bytes, from the client."""
        upstream = self.upstream
        if upstream.is_tunnel:
            upstream.send(data)
            self._wait_for(self._timeouts.idle_seconds)
            return
        upstream.send(self._framed_body())
        if self.request.is_complete:
            upstream.note_whole_request()
        self._wait_for(self._waiting_seconds())

    def on_client_refused(self, refusal: RequestRefused) -> None:
        """Cut the upstream off, so that it cannot take a partial body for the whole one."""
        self.refusal = refusal
        self.upstream.fail(UpstreamBroken("the request ended early"))

    def on_client_end(self) -> bool:
        """Handle the client's half-close; ``False`` if it must have gone for good."""
        if self.upstream.is_tunnel:
            self.upstream.send_end()
            return True
        if not self.request.is_complete:
            self.on_client_refused(RequestRefused("bad_request", "The request body ended early."))
            return True
        return not self._is_relaying

    def on_client_writable(self, is_writable: bool) -> None:
        """Pause or resume the response, as the client's send buffer is full or has room again."""
        if self._is_relaying:
            self.upstream.set_reading(is_writable and not self.client.yield_if_turn_over())
            self._wait_for(self._timeouts.idle_seconds)

    def on_deadline(self) -> None:
        """Act on an expired wait: send a 100, check the client's rate, or end the exchange."""
        rate = self._rate
        if rate is not None and rate.expires_at < rate.timeout_at:
            self._check_rate(rate)
        elif self._continue_is_due:
            self._send_continue()
            self._wait_for(self._waiting_seconds())
        elif not self._is_lasting:
            self._is_lasting = True
            self._wait_for(self._timeouts.response_seconds - LASTING_SECONDS)
            self.upstream.note_slow_response()
        elif self._is_relaying:
            self.upstream.fail(UpstreamBroken("nothing moved for too long"))
        elif self.request.is_complete or not self.upstream.is_writable:
            self.upstream.fail(UpstreamTimeout("no response head in time"))
        else:
            self.on_client_refused(
                RequestRefused("request_timeout", "The request body did not arrive in time.")
            )

    # From the upstream.

    def on_answer_bytes(self) -> None:
        reader = self.upstream.reader
        if self._is_relaying:
            data = self._framed_answer()
            if data:
                self.client.write(data)
            self._wait_for(self._timeouts.idle_seconds)
            if not reader.is_complete and self.client.yield_if_turn_over(PIECE_WORK):
                self.upstream.set_reading(False)  # until the client's turn: resume_response
        elif not reader.is_complete and reader.waiting_bytes > _READ_AHEAD_BYTES:
            self.upstream.set_reading(False)  # until the coroutine runs: begin_answer

    def on_interim(self, head: ResponseHead) -> None:
        if self.client.speaks_1_0 or self._is_relaying:
            return
        if head.status == 100:
            if self._continue_is_due:
                self._send_continue()
        else:
            self.client.write(build_response_head(head.status, head.reason, head.headers))

    def on_upstream_writable(self, is_writable: bool) -> None:
        self._wait_for(self._waiting_seconds())
        if is_writable:
            self.client.yield_if_turn_over()  # if many became writable, resume a few at a time
        self.client.update_reading()

    # For the pool.

    def client_rate(self) -> float | None:
        """See ``wire.upstream.ResponseSink``."""
        if self._is_stream:
            return inf
        rate, now = self._rate, self.client.now()
        if rate is None or not self._is_held_up() or now - rate.started_at < _YOUNG_SECONDS:
            return None
        return rate.recent_rate(now, self._moved_bytes())

    # Internals

    def _wait_for(self, seconds: float) -> None:
        """Reset the deadline, as bytes have moved or the exchange now waits for the other side."""
        client = self.client
        now = client.now()
        ends = now + seconds
        rate = self._rate
        if rate is not None:
            rate.timeout_at = ends
            rate.set_held_up(now, self._is_held_up())
            ends = min(ends, rate.expires_at)
        client.deadline = ends

    def _begin_rate(self) -> None:
        """Start to measure the client's rate, unless the response is an event stream or a tunnel,
        which may be idle.
        """
        head = self.upstream.reader.head
        if head is not None and _is_event_stream(head):
            self._is_stream = True
        if self._is_stream:
            self._rate = None
        elif self._rate is None:
            self._rate = BodyRate(self.client.now(), self._timeouts.least_body_bytes)

    def _is_held_up(self) -> bool:
        """Tell whether the exchange is waiting for the client right now."""
        if self._is_relaying and not self.client.is_writable:
            return True
        is_asked = not self.request.is_complete and not self._continue_is_due
        return is_asked and self.upstream.is_writable

    def _moved_bytes(self) -> int:
        """Return how many body bytes, in both directions, the client has sent or received."""
        moved = self.request.received_bytes
        if self._is_relaying:
            moved += self.relayed_bytes - unacknowledged_bytes(self.client.transport)
        return moved

    def _check_rate(self, rate: BodyRate) -> None:
        """End the exchange if its client is below the minimum rate."""
        client = self.client
        if rate.keeps_up(client.now(), self._moved_bytes()):
            client.deadline = min(rate.timeout_at, rate.expires_at)
        elif self._is_relaying and not client.is_writable:
            self.on_client_refused(RequestRefused("slow_reader", "The answer is taken too slowly."))
        else:
            self.on_client_refused(
                RequestRefused("request_timeout", "The request body came too slowly.")
            )

    def _send_continue(self) -> None:
        self._continue_is_due = False
        self.client.write(_CONTINUE)

    def _waiting_seconds(self) -> float:
        if self._is_relaying:
            return self._timeouts.idle_seconds
        if self._continue_is_due:
            return _CONTINUE_PATIENCE_SECONDS
        if self.request.is_complete:
            most = self._timeouts.response_seconds
            return most if self._is_lasting else min(most, LASTING_SECONDS)
        return self._timeouts.body_seconds

    def _framed_body(self) -> bytes:
        """Return the body bytes that have arrived, framed as chunks if the request is chunked."""
        request = self.request
        body = request.take()
        if body or request.is_complete:
            self._continue_is_due = False
        if request.length is not None:
            return body
        return _as_chunk(body, request.is_complete)

    def _framed_answer(self) -> bytes:
        body = self.upstream.take()
        self.relayed_bytes += len(body)
        if not self._is_chunked:
            return body
        return _as_chunk(body, self.upstream.reader.is_complete)


def _is_event_stream(head: ResponseHead) -> bool:
    for name, value in head.headers:
        if name.lower() == b"content-type":
            return value.split(b";")[0].strip().lower() == b"text/event-stream"
    return False


def _as_chunk(body: bytes, is_last: bool) -> bytes:
    """Frame body bytes as one chunk, followed by the last chunk if ``is_last`` (RFC 9112 section
    7.1).
    """
    if body:
        return b"%x\r\n%b\r\n%b" % (len(body), body, _LAST_CHUNK if is_last else b"")
    return _LAST_CHUNK if is_last else b""
