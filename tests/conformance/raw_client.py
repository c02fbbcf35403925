"""A client that sends the bytes it is given and reads answers strictly, as RFC 9112 has them."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from dataclasses import dataclass, field

from tests.patience import PATIENCE_SECONDS

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2}) [^\r\n\0]*\r\n")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\r\n")
_NO_BODY = (204, 304)

Header = tuple[bytes, bytes]


class MalformedAnswerError(AssertionError):
    """What came back is not an HTTP/1.1 answer."""


@dataclass(slots=True)
class Answer:
    """One answer, with the interim ones before it."""

    status: int
    head: bytes
    headers: list[Header]
    body: bytes = b""
    trailers: list[Header] = field(default_factory=list)
    is_complete: bool = True
    """False when the connection ended before the body did."""
    ends_with_connection: bool = False
    interim: list[Answer] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """Return the values of every header of this name, in order."""
        return [v.decode("latin-1") for n, v in self.headers if n.decode().lower() == name.lower()]


class RawClient:
    """One connection. Reading waits for at most the timeout, then raises ``TimeoutError``."""

    def __init__(self, sock: socket.socket, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        sock.settimeout(timeout_seconds)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.received = bytearray()
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        """Send all of it; a peer that has closed is no error, its answer may still be read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def read_answer(self, method: bytes = b"GET") -> Answer | None:
        """Return the next final answer, or ``None`` when the connection ended before one began."""
        interim: list[Answer] = []
        while (answer := self._read_head()) is not None:
            if 100 <= answer.status < 200 and answer.status != 101:
                interim.append(answer)
                continue
            answer.interim = interim
            self._read_body(answer, method)
            return answer
        return None

    def read_bytes(self, size: int) -> bytes:
        """Read exactly this many raw bytes (of a tunnel), or fewer if the connection ends."""
        while len(self._buffer) < size and self._receive():
            pass
        return self._take(size)

    def read_until(self, mark: bytes) -> bool:
        """Read raw bytes up to and with ``mark``; False if the connection ends before."""
        while mark not in self._buffer:
            if not self._receive():
                return False
        self._take(self._buffer.index(mark) + len(mark))
        return True

    def count_body(self) -> int:
        """Read one answer to its end; return its body's size and keep nothing of it."""
        answer = self._read_head()
        assert answer is not None
        if lengths := answer.values("content-length"):
            return self._skip(int(lengths[0]))
        total = 0
        while (line := self._read_line()) and (size := int(line, 16)):
            total += self._skip(size)
            assert self.read_bytes(2) == b"\r\n"
        assert self._read_line() == b"\r\n"
        return total

    def _skip(self, size: int) -> int:
        left = size
        while left:
            if not self._buffer and not self._receive():
                break
            piece = min(left, len(self._buffer))
            del self._buffer[:piece]
            left -= piece
        self.received.clear()
        return size - left

    def is_closed(self, timeout_seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for the peer's close; False when it stays open or sends something more."""
        self.sock.settimeout(timeout_seconds)
        try:
            return not self._buffer and not self._receive()
        except TimeoutError:
            return False

    @property
    def unread(self) -> bytes:
        return bytes(self._buffer)

    def _read_head(self) -> Answer | None:
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                if self._buffer:
                    raise MalformedAnswerError(
                        f"the connection ended within a head: {self.unread!r}"
                    )
                return None
        head = self._take(self._buffer.index(b"\r\n\r\n") + 4)
        matched = _STATUS_LINE.match(head)
        if not matched:
            raise MalformedAnswerError(f"not a status line: {head[:200]!r}")
        return Answer(int(matched[1]), head, parse_fields(head[matched.end() : -2]))

    def _read_body(self, answer: Answer, method: bytes) -> None:
        lengths = set(answer.values("content-length"))
        codings = answer.values("transfer-encoding")
        if (lengths and codings) or len(lengths) > 1 or codings not in ([], ["chunked"]):
            raise MalformedAnswerError(f"framing said twice: {answer.head!r}")
        if method == b"HEAD" or answer.status in _NO_BODY or answer.status == 101:
            return
        if codings:
            self._read_chunks(answer)
        elif lengths:
            size = int(lengths.pop())
            answer.body = self.read_bytes(size)
            answer.is_complete = len(answer.body) == size
        else:
            answer.ends_with_connection = True
            while self._receive():
                pass
            answer.body = self._take(len(self._buffer))

    def _read_chunks(self, answer: Answer) -> None:
        body = bytearray()
        while (line := self._read_line()) is not None:
            if not re.fullmatch(rb"[0-9a-fA-F]{1,16}\r\n", line):
                raise MalformedAnswerError(f"not a chunk size: {line!r}")
            size = int(line, 16)
            if size == 0:
                break
            body += self.read_bytes(size)
            if self.read_bytes(2) not in (b"\r\n", b""):
                raise MalformedAnswerError("no CRLF after a chunk")
        answer.body = bytes(body)
        answer.is_complete = line is not None and self._read_trailers(answer)

    def _read_trailers(self, answer: Answer) -> bool:
        while (line := self._read_line()) is not None:
            if line == b"\r\n":
                return True
            answer.trailers += parse_fields(line)
        return False

    def _read_line(self) -> bytes | None:
        while b"\r\n" not in self._buffer:
            if not self._receive():
                return None
        return self._take(self._buffer.index(b"\r\n") + 2)

    def _take(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _receive(self) -> bool:
        try:
            piece = self.sock.recv(262144)
        except ConnectionResetError:
            return False
        self.received += piece
        self._buffer += piece
        return bool(piece)


def parse_fields(block: bytes) -> list[Header]:
    """Parse header lines; every one must be well-formed."""
    fields: list[Header] = []
    for line in block.splitlines(keepends=True):
        matched = _FIELD_LINE.fullmatch(line)
        if not matched:
            raise MalformedAnswerError(f"not a header line: {line!r}")
        fields.append((matched[1], matched[2]))
    return fields
