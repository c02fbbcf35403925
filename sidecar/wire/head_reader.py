"""Where the head of a request ends and what it says: bytes in, a ``Head`` or a refusal out.

aiohttp's C parser (llhttp, strict) parses heads, and never sees a byte beyond one: it is fed up to
CR LF CR LF, as only there a head can end. What it accepts is checked once more (``_admit``):

- It accepts RTSP/1.1 and ICE/1.1 as if they were HTTP/1.1, without saying so; therefore the end of
  the request line is compared (``_note_line``).
- It lets ``keep-alive`` win over ``close`` in HTTP/1.0 (``_keeps_alive``).

What it refuses is malformed, but for two things. A head that repeats fields that may be repeated
(``wire.repeated_fields``) is parsed once more, when it has arrived whole. A method that it doesn't
know is told from noise when the request line has arrived whole (``wire.not_implemented``). Until a
head has ended, its bytes are therefore kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp.http import HttpRequestParser, HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import BadHttpMessage, BadStatusLine, LineTooLong

from sidecar.core.headers import read_connection
from sidecar.core.model import Denial
from sidecar.wire.not_implemented import has_unknown_coding, is_unknown_coding, may_become_line
from sidecar.wire.repeated_fields import Fields, hide_names, is_forgivable, restore_names

_END: Final = b"\r\n\r\n"
_LINE_ENDS: Final = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
_LINE_END_BYTES: Final = 11
_REQUEST_LINE_BYTES: Final = 64  # a method, a version, spaces and line ends
_JUDGED_LINE_BYTES: Final = 128  # an odd line that is longer is judged when it has ended
_PAYLOAD_LIMIT: Final = 1 << 30  # the connection stops reading long before this; aiohttp must not
_NOT_IMPLEMENTED: Final = 501
_BAD_CODING: Final = "Request has invalid `Transfer-Encoding`"  # the parser's words


class RequestRefused(Exception):
    """The bytes are not an acceptable HTTP/1 request; ``code`` names the response.

    ``status`` is that of ``Denial``. The reader cannot be used any more.
    """

    def __init__(self, code: str, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status

    @property
    def denial(self) -> Denial:
        """What the caller is answered."""
        return Denial(self.code, self.detail, status=self.status)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How large a request may be; a ``body_bytes`` of 0 means no limit."""

    headers: int = 128
    header_bytes: int = 32 * 1024
    url_bytes: int = 16 * 1024
    body_bytes: int = 0


class _NoFlowControl:
    """What aiohttp's ``StreamReader`` needs; the connection does the flow control itself."""

    _reading_paused = False
    connected = True

    def pause_reading(self) -> None:
        """Do nothing: the connection limits what it feeds to the parser."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """See ``pause_reading``."""


_NO_FLOW_CONTROL: Final = _NoFlowControl()


class Head:
    """A head that was read; ``fields`` and ``length`` are those of ``HeaderSection``.

    ``has_upgrade`` tells whether the parser took it for an upgrade, ``wants_upgrade`` whether it is
    one to WebSocket.
    """

    __slots__ = (
        *("fields", "has_upgrade", "keeps_alive", "length", "method", "target", "version"),
        "wants_upgrade",
    )

    def __init__(
        self, message: Any, fields: Fields, length: int | None, *, wants_upgrade: bool
    ) -> None:
        self.method: Final[str] = message.method
        self.target: Final[str] = message.path
        self.version: Final[HttpVersion] = message.version
        self.fields: Final = fields
        self.length: Final = length
        self.keeps_alive: Final = _keeps_alive(message, fields)
        self.has_upgrade: Final = bool(message.upgrade)
        self.wants_upgrade: Final = wants_upgrade


class HeadReader:
    """Reads the heads of one connection's requests, one after another."""

    __slots__ = (
        *("_has_odd_line", "_limits", "_line_end", "_loop", "_parser", "_repeats_fields"),
        *("_seen", "head_bytes"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: RequestLimits) -> None:
        self._loop = loop
        self._limits = limits
        self._parser: HttpRequestParser | None = None
        self._line_end = b""
        self._seen = bytearray()  # what has arrived of a head that has not ended
        self._repeats_fields = False  # that head is parsed once it has ended
        self._has_odd_line = False  # that head is refused once its line has ended
        self.head_bytes = 0
        """How many bytes of an unfinished head have arrived."""

    def discard(self) -> None:
        """Free the memory of an unfinished head; none can be read any more."""
        self._parser = None
        self._seen = bytearray()

    def feed(self, piece: bytes) -> Head | None:
        """Read a piece of a head that contains nothing beyond its end; ``None`` if that is missing.

        Raises ``RequestRefused``; then no other head can be read.
        """
        self.head_bytes += len(piece)
        self._note_line(piece)
        limits = self._limits
        message = self._parse(piece)
        if message is None:
            if self.head_bytes > limits.url_bytes + limits.header_bytes + _REQUEST_LINE_BYTES:
                raise RequestRefused("headers_too_large", "The request's head is too large.")
            self._seen += piece
            return None
        head = self._admit(message, self._fields_of(message, piece))
        if head.length != 0 or head.has_upgrade:
            self._parser = None  # it waits for a body
        self.head_bytes = 0
        self._line_end = b""
        self._repeats_fields = False
        if self._seen:
            self._seen = bytearray()
        return head

    def _parse(self, piece: bytes) -> Any:
        """Parse the next piece of a head; return aiohttp's message if this piece ends the head.

        aiohttp's annotations describe its parser in Python, and do not fit what its C parser
        returns. Raises ``RequestRefused``.
        """
        if not self._repeats_fields and not self._has_odd_line:
            parser: Any = self._parser
            if parser is None:
                parser = self._parser = self._new_parser()
            try:
                messages: Sequence[tuple[Any, Any]] = parser.feed_data(piece)[0]
            except Exception as error:  # whatever the parser raises
                self._parser = None
                refusal = None if self._is_put_off(error) else self._refusal(error, piece)
            else:
                return messages[0][0] if messages else None
            if refusal is not None:
                raise refusal  # out here, so that its context cannot quote the request
        if self._has_odd_line:
            self._judge_line(piece)
            return None
        return self._parse_again(piece) if self._is_end(piece) else None

    def _is_put_off(self, error: Exception) -> bool:
        """Tell whether more of the head is needed to know what an error of the parser means."""
        if isinstance(error, BadStatusLine):
            self._has_odd_line = True
        elif isinstance(error, BadHttpMessage):
            self._repeats_fields = is_forgivable(error.message)
        return self._has_odd_line or self._repeats_fields

    def _judge_line(self, piece: bytes) -> None:
        """Refuse a request line that the parser doesn't take, once it is known what is odd in it.

        Raises ``RequestRefused``.
        """
        if len(self._seen) > _JUDGED_LINE_BYTES and b"\n" not in piece:
            return
        seen = (bytes(self._seen) + piece).lstrip(b"\r\n")
        line = seen[: seen.find(b"\n") + 1] or seen
        if not may_become_line(line):
            raise _malformed()
        if line.endswith(b"\n"):
            raise RequestRefused(
                "bad_request", "The method is not implemented here.", _NOT_IMPLEMENTED
            )

    def _is_end(self, piece: bytes) -> bool:
        """Tell whether a head ends with this piece of it."""
        return (bytes(self._seen[-len(_END) :]) + piece[-len(_END) :]).endswith(_END)

    def _parse_again(self, piece: bytes) -> Any:
        """Parse a head that has arrived whole, without the names of fields that it may repeat."""
        parser: Any = self._new_parser()
        try:
            messages = parser.feed_data(hide_names(bytes(self._seen) + piece))[0]
        except Exception as error:  # whatever the parser raises
            refusal = self._refusal(error, piece)
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

    def _refusal(self, error: Exception, piece: bytes) -> RequestRefused:
        """Return the refusal for an error of the parser, without its message, which may quote a
        credential.
        """
        if isinstance(error, LineTooLong):
            if error.args[1] == self._limits.url_bytes:
                return RequestRefused("uri_too_long", "The request target is too long.")
            return RequestRefused("headers_too_large", "A header field is too large.")
        if isinstance(error, BadHttpMessage) and "Too many headers" in str(error):
            return RequestRefused("headers_too_large", "The request has too many header fields.")
        if isinstance(error, BadHttpMessage) and _BAD_CODING in error.message:
            is_1_1 = self._line_end.endswith(_LINE_ENDS[0])
            if is_1_1 and has_unknown_coding(bytes(self._seen) + piece):
                return _unknown_coding()
        return _malformed()

    def _admit(self, message: Any, fields: Fields) -> Head:
        """Check what the parser accepts (RFC 9112 sections 2.3 and 6), and determine the body's
        framing.
        """
        limits = self._limits
        version = message.version
        if not self._line_end.endswith(_LINE_ENDS):
            raise RequestRefused("bad_request", "Only HTTP/1.1 and HTTP/1.0 are supported.")
        if self.head_bytes - len(message.path) > limits.header_bytes + _REQUEST_LINE_BYTES:
            raise RequestRefused("headers_too_large", "The request's header section is too large.")
        headers = message.headers
        coding = headers.get("Transfer-Encoding")
        declared = headers.get("Content-Length")
        length: int | None = 0
        if coding is not None:
            if declared is not None or version == HttpVersion10:
                raise _bad_coding()
            if coding.lower() != "chunked":
                is_unknown = is_unknown_coding(coding.encode("utf-8", "surrogateescape"))
                raise _unknown_coding() if is_unknown else _bad_coding()
            length = None
        elif declared is not None:
            length = _content_length(declared)
        if limits.body_bytes and (length or 0) > limits.body_bytes:
            raise body_too_large(limits)
        wants_upgrade = (
            bool(message.upgrade)
            and version == HttpVersion11  # RFC 9110 section 7.8: not in HTTP/1.0
            and headers.get("Upgrade", "").lower() == "websocket"
        )
        if wants_upgrade and length != 0:
            raise RequestRefused("bad_request", "A WebSocket handshake must not have a body.")
        return Head(message, fields, length, wants_upgrade=wants_upgrade)


def body_too_large(limits: RequestLimits) -> RequestRefused:
    """Return the refusal of a body that is larger than the limits allow."""
    most = limits.body_bytes
    return RequestRefused("body_too_large", f"The body may have at most {most} bytes.")


def _bad_coding() -> RequestRefused:
    return RequestRefused("bad_request", "The request's Transfer-Encoding is not acceptable.")


def _unknown_coding() -> RequestRefused:
    return RequestRefused(
        "bad_request", "The only transfer coding known here is chunked.", _NOT_IMPLEMENTED
    )


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
