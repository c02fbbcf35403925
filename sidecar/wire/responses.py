"""Where a response starts and ends: upstream bytes in, a ``ResponseHead`` and body bytes out.

httptools (llhttp, strict) parses one whole head at a time; a head that it refuses is put right, if
it has one meaning (``wire.loose_heads``). What it accepts is checked here once more: protocol,
version, framing, sizes, interim responses with a body, an unsolicited 101. Bodies are not passed to
it: they are counted, read in chunks (``wire.chunked``), or last until the connection ends.

- llhttp accepts RTSP/1.1 and ICE/1.1 as if they were HTTP/1.1, without saying so. Therefore the
  first bytes of each head are compared here.
- The fields of an interim response (1xx) may announce a body, which would be the caller's next
  response: a service could forge it. RFC 9110 section 15.2 allows no such body, so fields that
  announce one break the exchange.

Anything malformed raises ``UpstreamBroken``. Bytes after a complete response leave the response
valid, and make the connection unfit for another one (``is_clean`` is false).
"""

from __future__ import annotations

from typing import Final

import httptools

from sidecar.core.connection_auth import offers_connection_auth
from sidecar.core.errors import UpstreamBroken
from sidecar.core.headers import read_connection
from sidecar.core.memo import BoundedMemo
from sidecar.core.response_heads import MEANINGS, ResponseHeaderClass, build_response_head
from sidecar.wire.chunked import ChunkedBody, ChunkError
from sidecar.wire.loose_heads import clean_reason, head_end, repair_head

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
_LAST_STATUS: Final = 999  # from 600 on of no class: passed on as they are
_NO_CONTENT: Final = 204
ERRORS: Final = 400  # the status from which on an answer is an error
_LENGTH: Final = int(ResponseHeaderClass.LENGTH)
_CODING: Final = int(ResponseHeaderClass.CODING)
_CHALLENGE: Final = int(ResponseHeaderClass.CHALLENGE)
_CONNECTION: Final = int(ResponseHeaderClass.CONNECTION)
_DATE: Final = int(ResponseHeaderClass.DATE)
_TRAILER_BYTES: Final = 64 * 1024

RawHeaders = list[tuple[bytes, bytes]]


class ResponseHead:
    """A response's status line and fields, as the upstream sent them.

    ``length`` is that of the body in bytes; ``None`` if it is chunked or ends with the connection.
    If ``has_body`` is false (RFC 9112 section 6.3: HEAD, 204, 304), no body follows, whatever
    ``length`` says. ``authenticates_connection``: from this response on, the connection may be
    authenticated as one caller (``core.connection_auth``). Without ``has_date``, the caller is told
    when it came (RFC 9110 section 6.6.1).
    """

    __slots__ = (
        "_built",
        "authenticates_connection",
        "has_body",
        "has_date",
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
        self.has_date = False
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

    @property
    def declares_absent_body(self) -> bool:
        """Tell whether the fields describe a body that does not follow, as a response to HEAD and a
        304 may. A service that gets this wrong sends it nevertheless.
        """
        return not self.has_body and (self.is_chunked or bool(self.length))

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
        "_chunks",
        "_fields",
        "_head_bytes",
        "_held",
        "_interim_count",
        "_is_head_request",
        "_is_strict",
        "_memory",
        "_missing",
        "_parser",
        "_reason",
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
        self._chunks: AnswerChunks | None = None
        self._held = bytearray()  # the part of a head whose end has not come
        self._is_strict = True
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
        self._is_head_request = method == "HEAD"
        self._wants_upgrade = wants_upgrade
        self._interim_count = 0
        self._missing = 0
        self._chunks = None
        self._head_bytes = 0
        if self._held:
            self._held.clear()
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
        elif self._chunks is not None:
            self._receive_chunks(self._chunks, data)
        else:
            self.pieces.append(data)

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
        is_one = len(rest) == len(data) - end and not self._interim_count
        if end > 4 and self._memory is not None and is_one and self._is_strict:
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

    def _receive_chunks(self, chunks: AnswerChunks, data: bytes) -> None:
        start, end = 0, len(data)
        try:
            while start < end and not chunks.is_complete:
                start = chunks.read(data, start, self.pieces)
        except ChunkError as error:
            raise UpstreamBroken(f"the response's chunked body is malformed: {error}") from None
        self.is_complete = chunks.is_complete
        if start < end:
            self.is_clean = False

    def _read_heads(self, data: bytes) -> bytes:
        """Read one head at a time, up to the final one; return the bytes after it."""
        held = self._held
        if held:
            searched = max(len(held) - 3, 0)
            held += data
            if not head_end(held, searched):
                _check_protocol(held)
                return b""
            data = bytes(held)
            held.clear()
        while self.head is None:
            data = data.lstrip(b"\r\n")  # empty lines before a head
            if not data:
                break
            _check_protocol(data)
            end = head_end(data)
            if not end:
                held += data
                return b""
            self._read_head(data if end == len(data) else data[:end])
            data = data[end:]
        return data

    def _read_head(self, raw: bytes) -> None:
        """Parse a whole head, after putting it right if it is not strict."""
        self._is_strict = True
        try:
            self._parse(raw)
        except httptools.HttpParserError as error:
            _raise_own(error)
            self._is_strict = False
            try:
                self._parse(repair_head(raw))
            except httptools.HttpParserError as other:
                _raise_own(other)
                raise UpstreamBroken(f"the response's head is not HTTP/1.1 ({other})") from None

    def _parse(self, raw: bytes) -> None:
        self._fields = []
        self._reason = b""
        self._parser = parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(raw)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            if not self.is_upgraded:  # a 101 that has been accepted ends the parser's part
                raise

    def _begin_body(self, head: ResponseHead, data: bytes) -> None:
        """Take the bytes after the final head."""
        if self.is_upgraded:
            self.tunnelled += data
        elif self.is_complete:
            self.is_clean = self.is_clean and not data
        elif head.is_chunked:
            self._chunks = AnswerChunks(_HEAD_FIELDS, _TRAILER_BYTES)
            self._receive_chunks(self._chunks, data)
        elif head.length is not None:
            self._missing = head.length
            if data:
                self._receive_counted(data)
        elif data:
            self.pieces.append(data)

    # Called by httptools

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        if len(self._fields) > _HEAD_FIELDS:
            raise UpstreamBroken("the response has too many header fields")
        status = parser.get_status_code()
        head = ResponseHead(status, clean_reason(self._reason), self._fields)
        if parser.get_http_version() not in ("1.1", "1.0"):
            raise UpstreamBroken("the response's version is not one of HTTP/1.1")
        if not 100 <= status <= _LAST_STATUS:
            raise UpstreamBroken("the response's status is not one of HTTP/1.1")
        if status < 200 and _announces_body(head):
            raise UpstreamBroken("an interim response announces a body")
        if status < 200 and status != 101:
            self._note_interim(head)
            return
        if status == 101:
            self._check_switch(head)
        head.keeps_alive = parser.should_keep_alive()
        self._frame(head, parser.get_http_version() == "1.0")
        self.head = head

    def _note_interim(self, head: ResponseHead) -> None:
        self._interim_count += 1
        if self._interim_count > _INTERIM_HEADS:
            raise UpstreamBroken("too many interim responses")
        self.interim.append(head)

    def _check_switch(self, head: ResponseHead) -> None:
        """Accept a 101 that was asked for. One without ``Connection`` is let pass, as nginx and
        Envoy do; the caller's says ``upgrade`` in any case.
        """
        if not self._wants_upgrade:
            raise UpstreamBroken("the upstream switched protocols without being asked")
        if not _is_websocket(head):
            raise UpstreamBroken("the upstream's 101 does not say `Upgrade: websocket`")
        values = tuple(value for name, value in head.headers if MEANINGS[name] == _CONNECTION)
        if values and not read_connection(values).upgrade:
            raise UpstreamBroken("the upstream's 101 has a `Connection` without `upgrade`")
        self.is_complete = self.is_upgraded = True
        self.is_clean = False

    def _frame(self, head: ResponseHead, is_http_10: bool) -> None:
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
            elif meaning == _DATE:
                head.has_date = True
            elif meaning == _CHALLENGE and offers_connection_auth(value):
                head.authenticates_connection = True
            elif meaning == _CONNECTION and is_http_10 and read_connection((value,)).close:
                head.keeps_alive = False
        if head.is_chunked and is_http_10:  # RFC 9112 section 6.1: the framing may be faulty
            head.keeps_alive = False
        if self._is_head_request or head.status in (101, 204, 304):
            self._end_without_body(head)
        elif head.length == 0 and not head.is_chunked:
            self.is_complete = True

    def _end_without_body(self, head: ResponseHead) -> None:
        """End a response without a body; the fields of one to HEAD, and of a 304, describe a body
        that does not follow (RFC 9110 section 9.3.2). A 204 that declares one is faulty (section
        8.6), and what it declares may come late: the connection is not reused.
        """
        head.has_body = False
        self.is_complete = True
        if head.status == _NO_CONTENT and head.declares_absent_body:
            head.keeps_alive = False


class AnswerChunks(ChunkedBody):
    """Reads the chunked body of a response: white space may follow a size, as old servers pad it,
    and what is in trailers does not matter, as they are dropped.
    """

    __slots__ = ()

    def _read_line(self, line: bytes) -> None:
        super()._read_line(line.rstrip(b" \t"))


def _check_protocol(data: bytes | bytearray) -> None:
    """Raise ``UpstreamBroken`` if a head that begins with ``data`` cannot be one of HTTP."""
    if not _PROTOCOL.startswith(data[: len(_PROTOCOL)]):
        raise UpstreamBroken("the response is not HTTP")


def _raise_own(error: Exception) -> None:
    """Raise what a callback of the parser has raised, if anything."""
    cause = error.__context__
    if isinstance(cause, UpstreamBroken):
        raise cause from None


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
