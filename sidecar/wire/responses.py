"""Where a response starts and ends: upstream bytes in, a ``ResponseHead`` and body bytes out.

httptools (llhttp, strict) parses heads and chunked bodies. What it accepts is checked here once
more: protocol, version, framing, sizes, interim responses with a body, an unsolicited 101.

- llhttp accepts RTSP/1.1 and ICE/1.1 as if they were HTTP/1.1, without saying so. Therefore the
  parser gets one head at a time, and the first bytes of each are compared here.
- llhttp reads the body that the fields of an interim response (1xx) announce, and reports it as
  part of the final one: a service could forge the caller's next response. RFC 9110 section 15.2
  allows no such body, so fields that announce one break the exchange.
- A body with a Content-Length is counted, and not passed to the parser.

Anything malformed raises ``UpstreamBroken``. Bytes after a complete response leave the response
valid, and make the connection unfit for another one (``is_clean`` is false).
"""

from __future__ import annotations

from typing import Final

import httptools

from sidecar.core.connection_auth import offers_connection_auth
from sidecar.core.errors import UpstreamBroken
from sidecar.core.memo import BoundedMemo
from sidecar.core.response_heads import MEANINGS, ResponseHeaderClass, build_response_head

_HEAD_BYTES: Final = 256 * 1024
_HEAD_FIELDS: Final = 512
_INTERIM_HEADS: Final = 16

_END: Final = b"\r\n\r\n"
_PROTOCOL: Final = b"HTTP/"
_VERSION: Final = (
    b"HTTP/1."  # else stray line ends, which the parser skips, would pass for a whole head
)
_KEPT_HEAD_BYTES: Final = 1024
_BUILT_HEADS: Final = 64
ERRORS: Final = 400  # the status from which on an answer is an error
_LENGTH: Final = int(ResponseHeaderClass.LENGTH)
_CODING: Final = int(ResponseHeaderClass.CODING)
_CHALLENGE: Final = int(ResponseHeaderClass.CHALLENGE)

RawHeaders = list[tuple[bytes, bytes]]


class ResponseHead:
    """A response's status line and fields, as the upstream sent them.

    ``length`` is that of the body in bytes; ``None`` if it is chunked or ends with the connection.
    If ``has_body`` is false (RFC 9112 section 6.3: HEAD, 204, 304), no body follows, whatever
    ``length`` says. ``authenticates_connection``: from this response on, the connection may be
    authenticated as one caller (``core.connection_auth``).
    """

    __slots__ = (
        "_built",
        "authenticates_connection",
        "has_body",
        "headers",
        "is_chunked",
        "keeps_alive",
        "length",
        "reason",
        "status",
    )

    def __init__(self, status: int, reason: bytes, headers: RawHeaders) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.length: int | None = None
        self.is_chunked = False
        self.keeps_alive = False
        self.has_body = True
        self.authenticates_connection = False
        self._built: BoundedMemo[tuple[bytes, bool, bool, bytes], bytes] | None = None

    def build(
        self, connection: bytes, *, is_chunked: bool, is_private: bool, extra: bytes = b""
    ) -> bytes:
        """Return the head for the client (``core.response_heads``); cached if it is repeated."""
        key = (connection, is_chunked, is_private, extra)
        if self._built is not None:
            built = self._built.get(key)
            if built is not None:
                return built
        head = build_response_head(
            self.status,
            self.reason,
            self.headers,
            connection=connection,
            is_chunked=is_chunked,
            is_private=is_private,
            extra=extra,
        )
        if self._built is not None:
            self._built.put(key, head)
        return head

    def expect_repeats(self) -> None:
        """Cache what is built, as responses with the same head will share this object."""
        self._built = BoundedMemo(_BUILT_HEADS)

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length}>"


class HeadMemory:
    """Response heads seen recently, by their bytes, so that a repeated one is not parsed again.

    Under load an upstream repeats a head byte for byte until its ``Date`` changes. Only small heads
    with a Content-Length are kept, without cookies and without authentication of the connection;
    the oldest is dropped first.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._heads: dict[bytes, ResponseHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def recall(self, data: bytes) -> ResponseHead | None:
        """Return the head with these bytes, or ``None``."""
        return self._heads.get(data)

    def keep(self, data: bytes, head: ResponseHead) -> None:
        """Keep a head whose bytes are ``data``, if it qualifies."""
        is_framed = head.length is not None and head.has_body and not head.is_chunked
        if not is_framed or head.authenticates_connection or len(data) > _KEPT_HEAD_BYTES:
            return
        if b"ookie" in data.lower():
            return
        if len(self._heads) >= self._most:
            del self._heads[next(iter(self._heads))]
        head.expect_repeats()
        self._heads[data] = head


class ResponseReader:
    """Reads the responses of one upstream connection, one at a time.

    ``expect`` prepares for the response to a request; ``receive`` takes bytes as they arrive. Then
    ``interim`` holds the 1xx heads that arrived, ``head`` the final one, and ``pieces`` the body
    bytes that have not been taken.
    """

    __slots__ = (
        "_fields",
        "_head_bytes",
        "_interim_count",
        "_is_head_request",
        "_memory",
        "_missing",
        "_opening",
        "_parser",
        "_reason",
        "_tail",
        "_wants_upgrade",
        "head",
        "interim",
        "is_clean",
        "is_complete",
        "is_upgraded",
        "pieces",
        "tunnelled",
    )

    def __init__(self, memory: HeadMemory | None = None) -> None:
        """``memory`` is shared by the connections to one upstream."""
        self._memory = memory
        self._parser: httptools.HttpResponseParser | None = None
        self._fields: RawHeaders = []
        self._reason = b""
        self._head_bytes = 0
        self._interim_count = 0
        self._is_head_request = False
        self._wants_upgrade = False
        self._missing = 0
        self._opening = b""  # the first bytes of the current head, at most as many as in _PROTOCOL
        self._tail = b""  # the last three bytes of the head so far, as its end may be split
        self.head: ResponseHead | None = None
        self.interim: list[ResponseHead] = []
        self.pieces: list[bytes] = []
        self.is_complete = True
        self.is_clean = True
        self.is_upgraded = False
        self.tunnelled = b""

    def __repr__(self) -> str:
        return (
            f"<ResponseReader head={self.head!r} complete={self.is_complete} clean={self.is_clean}>"
        )

    @property
    def has_begun(self) -> bool:
        """Tell whether any byte of the response has arrived."""
        return self.head is not None or self._head_bytes > 0

    def expect(self, method: str, wants_upgrade: bool) -> None:
        """Prepare for the response to a request; HEAD and an upgrade change how it is framed."""
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._is_head_request = method == "HEAD"
        self._wants_upgrade = wants_upgrade
        self._interim_count = 0
        self._missing = 0
        self._head_bytes = 0
        self._opening = self._tail = b""
        self.head = None
        if self.pieces:  # of a response that was complete when its caller left, and was never taken
            self.pieces = []
        self.is_complete = False

    def receive(self, data: bytes) -> None:
        """Take bytes from the upstream. Raises ``UpstreamBroken``."""
        if self.is_complete:
            if self.is_upgraded:
                self.tunnelled += data
            self.is_clean = False
            return
        if self._missing:
            self._receive_counted(data)
        elif self.head is None:
            self._receive_head(data)
        else:
            self._feed(data)

    def _receive_head(self, data: bytes) -> None:
        is_first = not self._head_bytes and not self._interim_count
        is_head = is_first and self._memory is not None and data.startswith(_VERSION)
        end = data.find(_END) + 4 if is_head else 0
        if end > 4 and self._recall(data, end):
            return
        self._head_bytes += len(data)
        rest = self._read_heads(data)
        head = self.head
        if head is None:
            if self._head_bytes > _HEAD_BYTES:
                raise UpstreamBroken("the response head is too large")
            return
        self._head_bytes = 0
        self._begin_body(head, rest)
        if end > 4 and self._memory is not None and not self._interim_count:
            self._memory.keep(data[:end], head)

    def _recall(self, data: bytes, end: int) -> bool:
        """Take a head seen before at its word, the parser left aside; ``False`` if it is new."""
        if self._is_head_request or self._wants_upgrade or self._memory is None:
            return False
        head = self._memory.recall(data[:end])
        if head is None or head.length is None:
            return False
        self.head = head
        self._missing = head.length
        if not head.length:
            self.is_complete = True
            self.is_clean = self.is_clean and end == len(data)
        elif end < len(data):
            self._receive_counted(data[end:])
        return True

    def end(self) -> None:
        """The upstream closed its side. Raises ``UpstreamBroken`` unless that ends the body
        rightly.
        """
        head = self.head
        if self.is_complete:
            return
        if head is None or head.length is not None or head.is_chunked:
            raise UpstreamBroken("the connection closed before the response was complete")
        self.is_complete = True
        self.is_clean = False

    def end_by_reset(self) -> bool:
        """The connection was reset in the middle of an upload, as it is if the service closes with
        bytes unread. ``True`` if that ends the answer: an error's without a length.

        Caddy and HAProxy have it so. RFC 9112 section 8 calls such a body incomplete; of an
        explanation, what there is will do.
        """
        head = self.head
        is_open = head is not None and head.length is None and not head.is_chunked
        if self.is_complete or not is_open or head is None or head.status < ERRORS:
            return False
        self.is_complete = True
        self.is_clean = False
        return True

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

    def _receive_counted(self, data: bytes) -> None:
        missing = self._missing
        if len(data) > missing:
            data = data[:missing]
            self.is_clean = False
        self.pieces.append(data)
        self._missing = missing - len(data)
        self.is_complete = self._missing == 0

    def _read_heads(self, data: bytes) -> bytes:
        """Feed the parser one head at a time, up to the final one; return the bytes after it."""
        while data and self.head is None:
            is_start = not self._opening
            end = data.find(_END) + 4 if is_start and data.startswith(_PROTOCOL) else 0
            if end <= 4:  # otherwise data starts with a whole head: by far the most common case
                if is_start:
                    data = data.lstrip(b"\r\n")  # as the parser would: empty lines before a head
                if not data:
                    break
                end = self._find_head_end(data)
                self._check_protocol(data)
            self._feed(data if end == len(data) else data[:end])
            data = data[end:]
        return data

    def _find_head_end(self, data: bytes) -> int:
        """Return the offset just after the head's CR LF CR LF, even if it began in earlier bytes;
        without one, the end of ``data``.
        """
        tail = self._tail
        if tail:
            straddling = (tail + data[:3]).find(_END)
            if straddling != -1:
                self._tail = b""
                return straddling + 4 - len(tail)
        found = data.find(_END)
        if found != -1:
            self._tail = b""
            return found + 4
        self._tail = (tail + data[-3:])[-3:]
        return len(data)

    def _check_protocol(self, data: bytes) -> None:
        """Raise ``UpstreamBroken`` if the current head cannot be one of HTTP."""
        missing = len(_PROTOCOL) - len(self._opening)
        if missing:
            self._opening += data[:missing]
            if not _PROTOCOL.startswith(self._opening):
                raise UpstreamBroken("the response is not HTTP")

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]  # expect() made it
        except httptools.HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._fail(error)

    def _begin_body(self, head: ResponseHead, data: bytes) -> None:
        """Take the bytes after the final head."""
        if self.is_upgraded:
            self.tunnelled += data
        elif self.is_complete:
            self.is_clean = self.is_clean and not data
        elif head.length:
            self._parser = None  # it expects a body that it will not get
            self._missing = head.length
            if data:
                self._receive_counted(data)
        elif data:
            self._feed(data)

    def _switch(self, rest: bytes) -> None:
        head = self.head
        if head is None or head.status != 101 or not self._wants_upgrade or not _is_websocket(head):
            raise UpstreamBroken("the upstream switched protocols without being asked")
        self.is_complete = self.is_upgraded = True
        self.is_clean = False
        self.tunnelled = rest

    def _fail(self, error: Exception) -> None:
        """Handle a parser error: after a complete response, it only makes the connection unfit for
        reuse; before that, it breaks the response.
        """
        if self.is_complete:
            self.is_clean = False
            return
        cause = error.__context__
        raise (
            cause
            if isinstance(cause, UpstreamBroken)
            else UpstreamBroken(f"the response is not well-formed HTTP/1.1 ({error})")
        )

    # Called by httptools

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise UpstreamBroken("bytes after a complete response")
        self._fields = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is not None:
            return  # a trailer: dropped, never merged (RFC 9110 section 6.5.1)
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        if len(self._fields) > _HEAD_FIELDS:
            raise UpstreamBroken("the response has too many header fields")
        status = parser.get_status_code()
        head = ResponseHead(status, self._reason, self._fields)
        if parser.get_http_version() not in ("1.1", "1.0") or status > 599:
            raise UpstreamBroken("the response's version or status is not one of HTTP/1.1")
        if status < 200 and _announces_body(head):
            raise UpstreamBroken("an interim response announces a body")
        if status < 200 and status != 101:
            self._note_interim(head)
            return
        if status == 101 and not (self._wants_upgrade and _is_websocket(head)):
            raise UpstreamBroken("the upstream switched protocols without being asked")
        self._frame(head)
        head.keeps_alive = parser.should_keep_alive()
        self.head = head

    def on_body(self, body: bytes) -> None:
        if self.is_complete:
            self.is_clean = False
        else:
            self.pieces.append(body)

    def on_message_complete(self) -> None:
        head = self.head
        if head is not None and not self.is_complete:
            self.is_complete = head.status != 101

    def _note_interim(self, head: ResponseHead) -> None:
        self._interim_count += 1
        if self._interim_count > _INTERIM_HEADS or head.status < 100:
            raise UpstreamBroken("too many interim responses, or a status below 100")
        self._opening = b""
        self.interim.append(head)

    def _frame(self, head: ResponseHead) -> None:
        """Determine the body's framing (RFC 9112 section 6.3); reject an ambiguous one."""
        for name, value in head.headers:
            meaning = MEANINGS[name]
            if meaning == _LENGTH:
                digits = value.rstrip(b" \t")  # httptools does not strip trailing white space
                if not digits.isdigit() or len(digits) > 18:
                    raise UpstreamBroken("the response's Content-Length is not a valid length")
                head.length = int(digits)
            elif meaning == _CODING:
                if value.strip().lower() != b"chunked" or head.is_chunked:
                    raise UpstreamBroken("the response's Transfer-Encoding is not acceptable")
                head.is_chunked = True
            elif meaning == _CHALLENGE and offers_connection_auth(value):
                head.authenticates_connection = True
        if self._is_head_request or head.status in (101, 204, 304):
            self._end_without_body(head)

    def _end_without_body(self, head: ResponseHead) -> None:
        """End a response without a body; the fields of one to HEAD describe a body that does not
        follow (RFC 9110 section 9.3.2).
        """
        head.has_body = False
        if head.status == 101:
            return
        self.is_complete = True
        if head.length or head.is_chunked or self._is_head_request:
            self._parser = None


def _announces_body(head: ResponseHead) -> bool:
    """Tell whether the framing fields of a 1xx response announce a body.

    RFC 9110 section 8.6 and RFC 9112 section 6.1 allow neither field in one. ``Content-Length: 0``
    is accepted, as it is true in any case; it is not forwarded.
    """
    for name, value in head.headers:
        meaning = MEANINGS[name]
        if meaning == _CODING or (meaning == _LENGTH and value.strip(b" \t") != b"0"):
            return True
    return False


def _is_websocket(head: ResponseHead) -> bool:
    return any(
        name.lower() == b"upgrade" and value.strip().lower() == b"websocket"
        for name, value in head.headers
    )
