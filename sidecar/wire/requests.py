"""Where a request starts and ends: request bytes in, ``Request`` values out.

``wire.head_reader`` reads heads, and never sees a byte beyond one. A body with a Content-Length is
counted; a chunked body is read by ``wire.chunked``, and only once the request has been let pass
(``begin_body``). Until then its bytes are held unread.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from aiohttp.http import HttpVersion, HttpVersion11

from sidecar.wire.chunked import ChunkedBody, ChunkError, TrailersTooLarge
from sidecar.wire.head_reader import HeadReader, body_too_large
from sidecar.wire.head_reader import RequestLimits as RequestLimits
from sidecar.wire.head_reader import RequestRefused as RequestRefused

_END: Final = b"\r\n\r\n"
_skip_empty_lines: Final = re.compile(rb"(?:\r\n)*").match
_SMALL_BODY_BYTES: Final = 8 * 1024


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


class RequestReader:
    """Reads the requests of one connection, one at a time, in order.

    ``receive`` takes bytes as they arrive. While a request is unfinished, they belong to its body;
    bytes beyond it are held, unparsed, until ``next_request`` is called.
    """

    __slots__ = (
        "_body",
        "_cache",
        "_heads",
        "_held",
        "_limits",
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
        self._limits = limits
        self._heads: Final = HeadReader(loop, limits)
        self._held = b""
        self._start = 0  # where the unread part of ``_held`` starts
        self._tail = b""
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
        return self._heads.head_bytes

    @property
    def has_begun(self) -> bool:
        """Tell whether part of a head has arrived, and not all of it."""
        return self._heads.head_bytes > 0

    def take_held(self) -> bytes:
        """Remove and return the bytes after an upgrade request: the first bytes of the tunnel."""
        held = self._held[self._start :]
        self._drop_held()
        return held

    def discard(self) -> None:
        """Drop everything that is held, to free its memory; no request can be read any more."""
        self._drop_held()
        self._heads.discard()
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
        if not self._heads.head_bytes:
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
        if len(data) - start == 1 and not self._heads.head_bytes and data.endswith(b"\r"):
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
            refusal = body_too_large(self._limits)
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
        is_whole = not self._heads.head_bytes
        head = self._heads.feed(piece)
        if head is None:
            return None
        section = HeaderSection(head.fields, head.length, head.keeps_alive)
        request = Request(head.method, head.target, head.version, section, head.wants_upgrade)
        is_plain = head.length is not None and not head.has_upgrade
        if is_plain and is_whole and head.version == HttpVersion11:
            request.head = piece
        return request

    def _receive_counted(self, request: Request, length: int, data: bytes) -> None:
        missing = length - request.received_bytes
        if len(data) > missing:
            self._hold(data[missing:])
            data = data[:missing]
        request.received_bytes += len(data)
        request.pieces.append(data)
        request.is_complete = request.received_bytes == length
