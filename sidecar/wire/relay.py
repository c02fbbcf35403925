"""One exchange joined: a client's request and an upstream's answer, both flowing at once.

Bytes are pushed on as they arrive, never gathered. Whoever takes them too slowly stops whoever
sends them. Who is waited for, and for how long, is one deadline on the client's connection; so is
the least rate that a client has to keep with bodies that do not come in one piece (``body_rate``).
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
"""How long a request waits for its answer before it counts as a long exchange."""

_YOUNG_SECONDS: Final = 0.1  # a body that began just now is on its way, not held up


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an exchange waits, in seconds: for the head, between pieces, and for the client's
    body.

    ``least_body_bytes`` is the rate, in bytes a second, below which a client is too slow; 0: none.
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
        "_patience",
        "_rate",
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
        patience: Patience,
        expects_continue: bool,
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.request = request
        self.refusal: RequestRefused | None = None
        self.relayed_bytes = 0
        self._patience = patience
        self._continue_is_due = expects_continue and not request.is_complete
        self._is_chunked = False
        self._is_lasting = not request.is_complete
        self._is_relaying = False
        self._is_stream = False
        self._rate: BodyRate | None = None

    @property
    def awaits_continue(self) -> bool:
        """Tell whether the client waits for a 100 before it sends its body."""
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
        """Send the request's head with what has come of its body; from now on the rest follows.

        Raises ``RequestRefused``, and sends nothing, when the body is known to be bad already.
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
            self._rate = BodyRate(client.now(), self._patience.least_body_bytes)
            client.resume_body()
        self._wait_for(self._waiting_seconds())

    def begin_answer(self, head: bytes, is_chunked: bool) -> None:
        """Send the response's head with what has come of its body; from now on the rest follows."""
        self._is_relaying = self._is_lasting = True
        self._is_chunked = is_chunked
        self._continue_is_due = False
        body = self._framed_answer()
        self.client.write(head + body if body else head)
        if not self.upstream.reader.is_complete:
            self._begin_rate()
        self._wait_for(self._patience.idle_seconds)
        self.upstream.set_reading(self.client.is_writable)

    def resume_response(self) -> None:
        """Read the answer on after a turn in the client's line."""
        if self._is_relaying:
            self.upstream.set_reading(self.client.is_writable)

    def begin_tunnel(self, head: bytes) -> None:
        """Send the 101; from here on bytes are bytes, in both directions."""
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
        """Body bytes, or a tunnel's, came from the client."""
        upstream = self.upstream
        if upstream.is_tunnel:
            upstream.send(data)
            self._wait_for(self._patience.idle_seconds)
            return
        upstream.send(self._framed_body())
        if self.request.is_complete:
            upstream.note_whole_request()
        self._wait_for(self._waiting_seconds())

    def on_client_refused(self, refusal: RequestRefused) -> None:
        """The rest of the body can't be had; the upstream must not take it for the whole."""
        self.refusal = refusal
        self.upstream.fail(UpstreamBroken("the request ended early"))

    def on_client_end(self) -> bool:
        """The client half-closed; ``False`` means it has gone for good."""
        if self.upstream.is_tunnel:
            self.upstream.send_end()
            return True
        if not self.request.is_complete:
            self.on_client_refused(RequestRefused("bad_request", "The request body ended early."))
            return True
        return not self._is_relaying

    def on_client_writable(self, is_writable: bool) -> None:
        """The client takes no more bytes for now, or takes them again."""
        if self._is_relaying:
            self.upstream.set_reading(is_writable and not self.client.yield_if_turn_over())
            self._wait_for(self._patience.idle_seconds)

    def on_deadline(self) -> None:
        """Somebody kept the exchange waiting for too long, or the client may be too slow."""
        rate = self._rate
        if rate is not None and rate.ends_at < rate.patience_ends:
            self._judge(rate)
        elif self._continue_is_due:
            self._send_continue()
            self._wait_for(self._waiting_seconds())
        elif not self._is_lasting:
            self._is_lasting = True
            self._wait_for(self._patience.response_seconds - LASTING_SECONDS)
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
            self._wait_for(self._patience.idle_seconds)
            if not reader.is_complete and self.client.yield_if_turn_over(PIECE_WORK):
                self.upstream.set_reading(False)  # until the client's turn comes: resume_response
        elif not reader.is_complete and reader.waiting_bytes > _READ_AHEAD_BYTES:
            self.upstream.set_reading(False)  # until the coroutine has had its turn: begin_answer

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
        if rate is None or not self._is_held_up() or now - rate.began < _YOUNG_SECONDS:
            return None
        return rate.lately(now, self._moved_bytes())

    # Within.

    def _wait_for(self, seconds: float) -> None:
        """Set the deadline anew, as something has moved or somebody else is waited for."""
        client = self.client
        now = client.now()
        ends = now + seconds
        rate = self._rate
        if rate is not None:
            rate.patience_ends = ends
            rate.turn(now, self._is_held_up())
            ends = min(ends, rate.ends_at)
        client.deadline = ends

    def _begin_rate(self) -> None:
        """From here on the client's pace counts, unless the answer is one that has no rate."""
        head = self.upstream.reader.head
        if head is not None and _is_event_stream(head):
            self._is_stream = True
        if self._is_stream:
            self._rate = None
        elif self._rate is None:
            self._rate = BodyRate(self.client.now(), self._patience.least_body_bytes)

    def _is_held_up(self) -> bool:
        """Tell whether it is the client that the exchange waits for, by the state it is in now."""
        if self._is_relaying and not self.client.is_writable:
            return True
        is_asked = not self.request.is_complete and not self._continue_is_due
        return is_asked and self.upstream.is_writable

    def _moved_bytes(self) -> int:
        """Return how many bytes of both bodies the client has sent or taken."""
        moved = self.request.received_bytes
        if self._is_relaying:
            moved += self.relayed_bytes - unacknowledged_bytes(self.client.transport)
        return moved

    def _judge(self, rate: BodyRate) -> None:
        """End the exchange if its client is below the least rate."""
        client = self.client
        if rate.keeps_up(client.now(), self._moved_bytes()):
            client.deadline = min(rate.patience_ends, rate.ends_at)
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
            return self._patience.idle_seconds
        if self._continue_is_due:
            return _CONTINUE_PATIENCE_SECONDS
        if self.request.is_complete:
            most = self._patience.response_seconds
            return most if self._is_lasting else min(most, LASTING_SECONDS)
        return self._patience.body_seconds

    def _framed_body(self) -> bytes:
        """Return the body bytes that have come, chunked if the request is."""
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
    """Frame body bytes as one chunk, with the last chunk behind if that was all (RFC 9112 section
    7.1).
    """
    if body:
        return b"%x\r\n%b\r\n%b" % (len(body), body, _LAST_CHUNK if is_last else b"")
    return _LAST_CHUNK if is_last else b""
