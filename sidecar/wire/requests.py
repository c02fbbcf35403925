"""Where a request starts and ends: request bytes in, ``Request`` values out.

aiohttp's C parser (llhttp, strict) parses heads, and never sees a byte beyond one: a head can end
only after CR LF CR LF, so the parser is fed up to there and then checked for a result. A body with
a Content-Length is counted; a chunked body is read by ``wire.chunked``, and only once the request
has been let pass (``begin_body``). Until then its bytes are held unread.

A head that the parser refuses for a field that may be repeated (``wire.repeated_fields``) is parsed
once more, when it has arrived whole. Until a head has ended, its bytes are therefore kept.

The parser also accepts RTSP/1.1 and ICE/1.1 as if they were HTTP/1.1, without saying so; therefore
the end of the request line is compared here (``_note_line``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.http import (
    HttpRequestParser,
    HttpVersion,
    HttpVersion10,
    HttpVersion11,
)
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from sidecar.core.headers import read_connection
from sidecar.wire.chunked import ChunkedBody, ChunkError, TrailersTooLarge
from sidecar.wire.repeated_fields import Fields, hide_names, is_forgivable, restore_names

_END: Final = b"\r\n\r\n"
_skip_empty_lines: Final = re.compile(rb"(?:\r\n)*").match
_LINE_ENDS: Final = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
_LINE_END_BYTES: Final = 11
_REQUEST_LINE_BYTES: Final = 64  # a method, a version, spaces and line ends
_SMALL_BODY_BYTES: Final = 8 * 1024
_PAYLOAD_LIMIT: Final = 1 << 30  # the connection stops reading long before this; aiohttp must not


class RequestRefused(Exception):
    """The bytes are not an acceptable HTTP/1 request; ``code`` names the response.

    The reader cannot be used any more.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How large a request may be; a ``body_bytes`` of 0 means no limit."""

    headers: int = 128
    header_bytes: int = 32 * 1024
    url_bytes: int = 16 * 1024
    body_bytes: int = 0


class HeaderSection:
    """A parsed header section.

    ``headers`` are (name, value) as sent, in order; values have no surrounding white space.
    ``length`` is the declared Content-Length: ``None`` for a chunked body, 0 for no body.
    """

    __slots__ = ("headers", "keeps_alive", "length")

    def __init__(
        self, headers: tuple[tuple[bytes, bytes], ...], length: int | None, keeps_alive: bool
    ) -> None:
        self.headers = headers
        self.length = length
        self.keeps_alive = keeps_alive


class Request:
    """One request: its head, and the part of its body that has arrived.

    ``length`` and ``keeps_alive`` are those of ``section``.
    """

    __slots__ = (
        "head",
        "head_bytes",
        "is_complete",
        "keeps_alive",
        "length",
        "method",
        "pieces",
        "received_bytes",
        "section",
        "target",
        "version",
        "wants_upgrade",
    )

    def __init__(
        self,
        method: str,
        target: str,
        version: HttpVersion,
        section: HeaderSection,
        wants_upgrade: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.section = section
        self.length = section.length
        self.keeps_alive = section.keeps_alive
        self.wants_upgrade = wants_upgrade
        self.head: bytes | None = None
        """The head as it came, if it may be cached (``RequestReader.cache_head``)."""
        self.head_bytes = 0
        """The length of the head, if it came from a ``HeadCache``."""
        self.is_complete = section.length == 0
        self.pieces: list[bytes] = []
        self.received_bytes = 0

    def __repr__(self) -> str:
        state = "complete" if self.is_complete else f"{self.received_bytes} of {self.length}"
        return f"<Request {self.method} {state}>"

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header fields as sent."""
        return self.section.headers

    @property
    def waiting_bytes(self) -> int:
        """How many body bytes have arrived and have not been taken."""
        return sum(map(len, self.pieces))

    def take(self) -> bytes:
        """Remove and return the body bytes that have arrived."""
        pieces = self.pieces
        if not pieces:
            return b""
        self.pieces = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class HeadCache:
    """The port through which one connection's reader finds heads that it need not parse again.

    This is the cache that holds nothing; ``proxy.header_cache`` has a real one. A class and not a
    ``Protocol``, so that compiled code calls it directly.
    """

    __slots__ = ()

    def get(self, data: bytes, start: int) -> Request | None:
        """Return the request whose head begins at ``start``, as the parser would read it.

        Its ``head_bytes`` say where the head ends. ``None``: the parser must read.
        """
        return None

    def put(self, request: Request, *, has_passed: bool) -> None:
        """Cache the head of a request, which is its ``head``; ``has_passed``: it was let pass."""


class _NoFlowControl:
    """What aiohttp's ``StreamReader`` needs; the connection does the flow control itself."""

    _reading_paused = False
    connected = True

    def pause_reading(self) -> None:
        """Do nothing: the connection limits what it feeds to the parser."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """See ``pause_reading``."""


_NO_FLOW_CONTROL: Final = _NoFlowControl()


class RequestReader:
    """Reads the requests of one connection, one at a time, in order.

    ``receive`` takes bytes as they arrive. While a request is unfinished, they belong to its body;
    bytes beyond it are held, unparsed, until ``next_request`` is called.
    """

    __slots__ = (
        "_body",
        "_cache",
        "_head_bytes",
        "_held",
        "_limits",
        "_line_end",
        "_loop",
        "_parser",
        "_repeats_fields",
        "_seen",
        "_start",
        "_tail",
        "current",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: RequestLimits,
        cache: HeadCache | None = None,
    ) -> None:
        """``cache`` is this connection's own; without one, every head is parsed."""
        self._loop = loop
        self._limits = limits
        self._parser: HttpRequestParser | None = None
        self._held = b""
        self._start = 0  # where the unread part of ``_held`` starts
        self._tail = b""
        self._line_end = b""
        self._head_bytes = 0
        self._seen = bytearray()  # what has arrived of a head that has not ended
        self._repeats_fields = False  # that head is parsed once it has ended
        self._cache = HeadCache() if cache is None else cache
        self._body: ChunkedBody | None = None
        self.current: Request | None = None

    def __repr__(self) -> str:
        return f"<RequestReader current={self.current!r} held={self.held_bytes}>"

    @property
    def held_bytes(self) -> int:
        """How many bytes have arrived and have not been read: those beyond the current request, or
        of its chunked body.
        """
        return len(self._held) - self._start

    @property
    def head_bytes(self) -> int:
        """How many bytes of an unfinished head have arrived."""
        return self._head_bytes

    @property
    def has_begun(self) -> bool:
        """Tell whether part of a head has arrived, and not all of it."""
        return self._head_bytes > 0

    def take_held(self) -> bytes:
        """Remove and return the bytes after an upgrade request: the first bytes of the tunnel."""
        held = self._held[self._start :]
        self._drop_held()
        return held

    def discard(self) -> None:
        """Drop everything that is held, to free its memory; no request can be read any more."""
        self._drop_held()
        self._parser = None
        self._seen = bytearray()
        if self.current is not None:
            self.current.pieces = []

    def receive(self, data: bytes) -> bool:
        """Take bytes from the client; ``True`` if they belong to the current request's body.

        Raises ``RequestRefused`` if a chunked body that is being read is malformed or too large.
        """
        request = self.current
        if request is None or request.is_complete:
            self._hold(data)
            return False
        if request.length is not None:
            self._receive_counted(request, request.length, data)
        else:
            self._hold(data)
            if self._body is not None:
                self.read_body()
        return True

    def next_request(self) -> Request | None:
        """Parse the next head from the held bytes; ``None`` if more bytes are needed.

        The caller must be done with the current request. Raises ``RequestRefused``.
        """
        self.current = None
        if self._start == len(self._held):
            return None
        if not self._head_bytes:
            request = self._cache.get(self._held, self._start)
            if request is not None:
                end = self._start + request.head_bytes
                if end < len(self._held):
                    self._start = end
                    self._begin(request)
                else:
                    self.current, self._held, self._start = request, b"", 0
                return request
            self._skip_line_ends()
        data, start = self._held, self._start
        if len(data) - start == 1 and not self._head_bytes and data.endswith(b"\r"):
            return None  # it may turn out to be an empty line
        while start < len(data):
            self._start = end = self._message_end(data, start)
            request = self._feed_head(data if end - start == len(data) else data[start:end])
            if end == len(data):
                self._drop_held()
            if request is not None:
                self._begin(request)
                return request
            start = end
        return None

    def begin_body(self) -> None:
        """Start to read the current request's chunked body, beginning with the held bytes.

        Raises ``RequestRefused``, as ``read_body`` does.
        """
        limits = self._limits
        self._body = ChunkedBody(limits.headers, limits.header_bytes)
        self.read_body()

    def read_body(self) -> bool:
        """Read the held bytes of a chunked body; ``False`` if some are left for another call, as
        the chunks are tiny (``has_unread_body``).

        Raises ``RequestRefused`` if the body is malformed or too large.
        """
        request, body = self.current, self._body
        if request is None or body is None:
            return True
        try:
            self._start = body.read(self._held, self._start, request.pieces)
        except ChunkError as error:
            code = "headers_too_large" if isinstance(error, TrailersTooLarge) else "bad_request"
            refusal = RequestRefused(code, f"The chunked body is malformed: {error}.")
        else:
            request.received_bytes = body.data_bytes
            request.is_complete = body.is_complete
            if body.is_complete:
                self._body = None
            if self._start == len(self._held):
                self._drop_held()
            if not 0 < self._limits.body_bytes < body.data_bytes:
                return self._body is None or not self._held
            refusal = self._too_large()
        raise refusal

    @property
    def has_unread_body(self) -> bool:
        """Tell whether there are bytes that ``read_body`` could read now."""
        return self._body is not None and self._start < len(self._held)

    def skip_small_body(self) -> None:
        """Read the current request's body to its end if it is small, so that the connection can be
        kept although the request was refused.
        """
        request = self.current
        if request is None or request.length is not None or self.held_bytes > _SMALL_BODY_BYTES:
            return
        try:
            self.begin_body()
        except RequestRefused:
            return  # the connection is not kept
        request.pieces = []

    def cache_head(self, request: Request, *, has_passed: bool = True) -> None:
        """Cache the head of a request that was judged, for those that repeat it."""
        if request.head is not None:
            self._cache.put(request, has_passed=has_passed)
            request.head = None

    def _hold(self, data: bytes) -> None:
        start = self._start
        if start == len(self._held):
            self._held = data
        else:
            self._held = (self._held[start:] if start else self._held) + data
        self._start = 0

    def _drop_held(self) -> None:
        self._held = b""
        self._start = 0

    def _skip_line_ends(self) -> None:
        """Skip empty lines before a request: old clients send one after a body (RFC 9112 section
        2.2).
        """
        found = _skip_empty_lines(self._held, self._start)
        self._start = self._start if found is None else found.end()
        if self._start == len(self._held):
            self._drop_held()

    def _begin(self, request: Request) -> None:
        """Make a parsed request the current one, and give it the held bytes of a counted body."""
        self.current = request
        if request.length and self._start < len(self._held):
            data = self._held[self._start :]
            self._drop_held()
            self._receive_counted(request, request.length, data)

    def _message_end(self, data: bytes, start: int) -> int:
        """Return the offset just after the first CR LF CR LF from ``start`` on, even if it began in
        earlier bytes; without one, the end of ``data``.
        """
        tail = self._tail
        if tail:
            straddling = (tail + data[start : start + 3]).find(_END)
            if straddling != -1:
                self._tail = b""
                return start + straddling + 4 - len(tail)
        found = data.find(_END, start)
        if found != -1:
            self._tail = b""
            return found + 4
        self._tail = (tail + data[max(start, len(data) - 3) :])[-3:]
        return len(data)

    def _feed_head(self, piece: bytes) -> Request | None:
        self._head_bytes += len(piece)
        self._note_line(piece)
        limits = self._limits
        message = self._parse(piece)
        if message is None:
            if self._head_bytes > limits.url_bytes + limits.header_bytes + _REQUEST_LINE_BYTES:
                raise RequestRefused("headers_too_large", "The request's head is too large.")
            self._seen += piece
            return None
        request = self._admit(message, self._fields_of(message, piece))
        if request.length != 0 or message.upgrade:
            self._parser = None
        is_plain = request.length is not None and not message.upgrade
        if is_plain and self._head_bytes == len(piece) and request.version == HttpVersion11:
            request.head = piece
        self._head_bytes = 0
        self._line_end = b""
        self._repeats_fields = False
        if self._seen:
            self._seen = bytearray()
        return request

    def _parse(self, piece: bytes) -> Any:
        """Parse the next piece of a head; return aiohttp's message if this piece ends the head.

        aiohttp's annotations describe its parser in Python, and do not fit what its C parser
        returns. Raises ``RequestRefused``.
        """
        if not self._repeats_fields:
            parser: Any = self._parser
            if parser is None:
                parser = self._parser = self._new_parser()
            try:
                messages: Sequence[tuple[Any, Any]] = parser.feed_data(piece)[0]
            except Exception as error:  # whatever the parser raises
                self._parser = None
                self._repeats_fields = isinstance(error, BadHttpMessage) and is_forgivable(
                    error.message
                )
                refusal = None if self._repeats_fields else self._refusal(error)
            else:
                return messages[0][0] if messages else None
            if refusal is not None:
                raise refusal  # out here, so that its context cannot quote the request
        return self._parse_again(piece) if self._is_end(piece) else None

    def _is_end(self, piece: bytes) -> bool:
        """Tell whether a head ends with this piece of it."""
        return (bytes(self._seen[-len(_END) :]) + piece[-len(_END) :]).endswith(_END)

    def _parse_again(self, piece: bytes) -> Any:
        """Parse a head that has arrived whole, without the names of fields that it may repeat."""
        parser: Any = self._new_parser()
        try:
            messages = parser.feed_data(hide_names(bytes(self._seen) + piece))[0]
        except Exception as error:  # whatever the parser raises
            refusal = self._refusal(error)
        else:
            if messages:
                self._parser = parser
                return messages[0][0]
            refusal = _malformed()
        raise refusal

    def _fields_of(self, message: Any, piece: bytes) -> Fields:
        """Return the header fields of a message whose head ended with ``piece``."""
        fields: Fields = message.raw_headers
        if not self._repeats_fields:
            return fields
        restored = restore_names(fields, bytes(self._seen) + piece)
        if restored is None:
            raise _malformed()
        return restored

    def _note_line(self, piece: bytes) -> None:
        """Keep the end of the request line, as the bytes of a head arrive."""
        seen = self._line_end
        if seen.endswith(b"\n"):
            return
        if not seen:
            piece = piece.lstrip(b"\r\n")  # the parser skips empty lines before a request
        line = seen + piece[: piece.find(b"\n") + 1 or len(piece)]
        self._line_end = line[-_LINE_END_BYTES:]

    def _new_parser(self) -> HttpRequestParser:
        limits = self._limits
        return HttpRequestParser(
            _NO_FLOW_CONTROL,  # type: ignore[arg-type]  # has all that its StreamReader uses
            self._loop,
            _PAYLOAD_LIMIT,
            max_line_size=limits.url_bytes,
            max_field_size=self._field_limit,
            max_headers=limits.headers,
            auto_decompress=False,
        )

    @property
    def _field_limit(self) -> int:
        """The parser's limit for one field; it must differ from that for the target, as the
        parser's error tells nothing but the limit.
        """
        limits = self._limits
        return limits.header_bytes + (limits.header_bytes == limits.url_bytes)

    def _refusal(self, error: Exception) -> RequestRefused:
        """Return the refusal for an error of the parser, without its message, which may quote a
        credential.
        """
        if isinstance(error, LineTooLong):
            if error.args[1] == self._limits.url_bytes:
                return RequestRefused("uri_too_long", "The request target is too long.")
            return RequestRefused("headers_too_large", "A header field is too large.")
        if isinstance(error, BadHttpMessage) and "Too many headers" in str(error):
            return RequestRefused("headers_too_large", "The request has too many header fields.")
        return _malformed()

    def _admit(self, message: Any, fields: Fields) -> Request:
        """Check what the parser accepts (RFC 9112 sections 2.3 and 6), and determine the body's
        framing.
        """
        limits = self._limits
        version = message.version
        if not self._line_end.endswith(_LINE_ENDS):
            raise RequestRefused("bad_request", "Only HTTP/1.1 and HTTP/1.0 are supported.")
        if self._head_bytes - len(message.path) > limits.header_bytes + _REQUEST_LINE_BYTES:
            raise RequestRefused("headers_too_large", "The request's header section is too large.")
        headers = message.headers
        coding = headers.get("Transfer-Encoding")
        declared = headers.get("Content-Length")
        length: int | None = 0
        if coding is not None:
            if coding.lower() != "chunked" or declared is not None or version == HttpVersion10:
                raise RequestRefused(
                    "bad_request", "The request's Transfer-Encoding is not acceptable."
                )
            length = None
        elif declared is not None:
            length = _content_length(declared)
        if limits.body_bytes and (length or 0) > limits.body_bytes:
            raise self._too_large()
        wants_upgrade = (
            bool(message.upgrade)
            and version == HttpVersion11  # RFC 9110 section 7.8: not in HTTP/1.0
            and headers.get("Upgrade", "").lower() == "websocket"
        )
        if wants_upgrade and length != 0:
            raise RequestRefused("bad_request", "A WebSocket handshake must not have a body.")
        return Request(
            message.method,
            message.path,
            version,
            HeaderSection(fields, length, _keeps_alive(message, fields)),
            wants_upgrade,
        )

    def _too_large(self) -> RequestRefused:
        most = self._limits.body_bytes
        return RequestRefused("body_too_large", f"The body may have at most {most} bytes.")

    def _receive_counted(self, request: Request, length: int, data: bytes) -> None:
        missing = length - request.received_bytes
        if len(data) > missing:
            self._hold(data[missing:])
            data = data[:missing]
        request.received_bytes += len(data)
        request.pieces.append(data)
        request.is_complete = request.received_bytes == length


def _malformed() -> RequestRefused:
    return RequestRefused("bad_request", "The request is not well-formed HTTP/1.1.")


def _keeps_alive(message: Any, fields: Fields) -> bool:
    """Tell whether the connection may serve another request (RFC 9112 section 9.3): ``close`` wins.

    In HTTP/1.0 the parser lets ``keep-alive`` win, and heeds ``Proxy-Connection``.
    """
    if message.should_close:
        return False
    if message.version != HttpVersion10:
        return True
    options = read_connection(
        tuple(value for name, value in fields if name.lower() == b"connection")
    )
    return options.keep_alive and not options.close


def _content_length(value: str) -> int:
    """Parse a Content-Length: 1 to 18 ASCII digits (RFC 9110 section 8.6)."""
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise RequestRefused("bad_request", "The request's Content-Length is not a valid length.")
    return int(value)
