"""An upstream that records every byte it is sent and answers by script: one thread a connection.

Without a script it answers each request with 200 and a line that names the account, the target and
the size of the body it was sent, so that a client can tell an answer meant for someone else.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from tests.threaded_listener import accept_in_threads, close_listener

Header = tuple[bytes, bytes]


class Act(Enum):
    """What a script may do besides sending bytes (``bytes``) and waiting (``float`` seconds)."""

    READ_BODY = "read the request's body to its end"
    CLOSE = "close the connection"
    RESET = "close the connection with a reset"
    HOLD = "say nothing more until the peer closes"
    ECHO = "send back whatever comes until the peer closes"


@dataclass(slots=True)
class Exchange:
    """One request as it arrived."""

    connection: int
    head: bytes
    body: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    trailers: bytes = b""
    is_complete: bool = False
    after: bytearray = field(default_factory=bytearray)
    """What came once the script had taken the connection over (``HOLD``, ``ECHO``)."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the connection has done with this request."""

    @property
    def request_line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def method(self) -> bytes:
        return self.request_line.split(b" ", 1)[0]

    @property
    def target(self) -> bytes:
        return self.request_line.split(b" ")[1]

    @property
    def headers(self) -> list[Header]:
        lines = self.head.rstrip(b"\r\n").split(b"\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (li.partition(b":") for li in lines)]

    def values(self, folded_name: str) -> list[bytes]:
        """Return the values of every header whose name folds to ``folded_name``."""
        return [value for name, value in self.headers if fold(name) == folded_name]


def fold(name: bytes) -> str:
    """Fold a header name as careless servers do: lower case, every odd character a hyphen."""
    text = name.decode("latin-1").lower()
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text)


Step = bytes | float | Act | Callable[["UpstreamConnection", Exchange], None]
Script = tuple[Step, ...]


class PeerClosedError(Exception):
    """The proxy closed the connection."""


class UpstreamConnection:
    """One accepted connection: reads requests strictly in order and plays a script on each."""

    def __init__(self, number: int, sock: socket.socket, recorder: Recorder) -> None:
        self.number = number
        self.sock = sock
        self._recorder = recorder
        self._buffer = bytearray()
        self.is_open = True

    def serve(self) -> None:
        with contextlib.suppress(PeerClosedError, OSError):
            while self.is_open:
                self._serve_one()
        self.close()

    def _serve_one(self) -> None:
        head = self._read_until(b"\r\n\r\n")
        exchange = Exchange(self.number, head)
        exchange.is_complete = not (
            exchange.values("content-length") or exchange.values("transfer-encoding")
        )
        script = self._recorder.begin(exchange)
        try:
            for step in script or (answer_by_default,):
                self._play(step, exchange)
                if not self.is_open:
                    return
            if not exchange.is_complete:
                self.read_body(exchange)
        finally:
            exchange.ended.set()

    def _play(self, step: Step, exchange: Exchange) -> None:
        if isinstance(step, bytes):
            self.sock.sendall(step)
        elif isinstance(step, float):
            time.sleep(step)
        elif isinstance(step, Act):
            self._act(step, exchange)
        else:
            step(self, exchange)

    def _act(self, act: Act, exchange: Exchange) -> None:
        if act is Act.READ_BODY:
            self.read_body(exchange)
        elif act in (Act.HOLD, Act.ECHO):
            self._take_over(exchange, is_echo=act is Act.ECHO)
        else:
            self.close(is_reset=act is Act.RESET)

    def _take_over(self, exchange: Exchange, is_echo: bool) -> None:
        while True:
            piece = bytes(self._buffer) or self._receive()
            self._buffer.clear()
            exchange.after += piece
            if is_echo:
                self.sock.sendall(piece)

    def read_body(self, exchange: Exchange) -> None:
        """Read the body as its framing says; ``Expect: 100-continue`` gets its 100 first."""
        if exchange.is_complete:
            return
        if exchange.values("expect"):
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"chunked" in b",".join(exchange.values("transfer-encoding")).lower():
            self._read_chunks(exchange)
        else:
            self._read_sized(exchange, int((exchange.values("content-length") or [b"0"])[0]))
        exchange.is_complete = True

    def _read_chunks(self, exchange: Exchange) -> None:
        while size := int(self.read_line().split(b";")[0], 16):
            self._read_sized(exchange, size)
            self.read_line()
        while (line := self.read_line()) != b"\r\n":
            exchange.trailers += line

    def _read_sized(self, exchange: Exchange, size: int) -> None:
        while size > 0:
            piece = bytes(self._buffer[:size]) or self._receive()[:size]
            del self._buffer[: len(piece)]
            size -= len(piece)
            exchange.body_bytes += len(piece)
            if exchange.body_bytes <= self._recorder.kept_body_bytes:
                exchange.body += piece

    def read_line(self) -> bytes:
        """Read up to and with the next CRLF."""
        return self._read_until(b"\r\n")

    def read_exactly(self, size: int) -> bytes:
        """Read so many bytes, of whatever they are a part."""
        while len(self._buffer) < size:
            self._receive()
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    def _read_until(self, mark: bytes) -> bytes:
        start = 0
        while (found := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark))
            self._receive()
        line = bytes(self._buffer[: found + len(mark)])
        del self._buffer[: found + len(mark)]
        return line

    def _receive(self) -> bytes:
        """Wait for more bytes, record them, add them to the buffer, and return them."""
        piece = self.sock.recv(262144)
        if not piece:
            raise PeerClosedError
        self._recorder.keep(self.number, piece)
        self._buffer += piece
        return piece

    def close(self, is_reset: bool = False) -> None:
        if not self.is_open:
            return
        self.is_open = False
        if is_reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def answer_by_default(connection: UpstreamConnection, exchange: Exchange) -> None:
    """Read the body, then answer 200 with what was seen."""
    connection.read_body(exchange)
    seen = (
        b"account=" + b"|".join(exchange.values("x-account")),
        b"target=" + exchange.target,
        b"body=%d" % exchange.body_bytes,
    )
    connection.sock.sendall(answer(body=b" ".join(seen), is_head=exchange.method == b"HEAD"))


def answer(
    status: bytes = b"200 OK",
    headers: Iterable[bytes] = (),
    body: bytes = b"",
    is_head: bool = False,
) -> bytes:
    """Assemble a well-formed answer with a Content-Length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", b""]
    return b"\r\n".join(lines) + (b"" if is_head else body)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in the record."""

    exchanges: int
    pieces: int
    connections: int


class Recorder:
    """The listening side: accepts, records, and hands scripts to the requests that come next."""

    def __init__(
        self,
        unix_path: str | None = None,
        tls: ssl.SSLContext | None = None,
        kept_body_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        self.kept_body_bytes = kept_body_bytes
        self.exchanges: list[Exchange] = []
        self.pieces: list[tuple[int, bytes]] = []
        self.connections: list[UpstreamConnection] = []
        self.default_script: Script = ()
        self._scripts: list[Script] = []
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = _listen(unix_path)
        self.port = 0 if unix_path else int(self._listener.getsockname()[1])
        scheme = "https" if tls else "http"
        self.url = f"unix:{unix_path}" if unix_path else f"{scheme}://127.0.0.1:{self.port}"
        accept_in_threads(self._listener, self._serve)

    def _serve(self, sock: socket.socket) -> None:
        if self._tls:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True)
            except (OSError, ssl.SSLError):
                return sock.close()
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            connection = UpstreamConnection(len(self.connections), sock, self)
            self.connections.append(connection)
        connection.serve()
        return None

    def begin(self, exchange: Exchange) -> Script:
        """Note a request whose head is complete; return the script that is its due."""
        with self._lock:
            self.exchanges.append(exchange)
            return self._scripts.pop(0) if self._scripts else self.default_script

    def keep(self, connection: int, piece: bytes) -> None:
        with self._lock:
            if len(piece) <= self.kept_body_bytes:
                self.pieces.append((connection, piece))

    def play(self, *scripts: Script) -> None:
        """Give one script to each of the requests that come next; drops what was left."""
        with self._lock:
            self._scripts = list(scripts)

    def mark(self) -> Mark:
        with self._lock:
            return Mark(len(self.exchanges), len(self.pieces), len(self.connections))

    def requests_since(self, mark: Mark) -> list[Exchange]:
        with self._lock:
            return self.exchanges[mark.exchanges :]

    def bytes_since(self, mark: Mark) -> bytes:
        with self._lock:
            return b"".join(piece for _, piece in self.pieces[mark.pieces :])

    def drop_connections(self) -> None:
        """Close every connection, as an upstream that restarts does."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.close()

    def close(self) -> None:
        close_listener(self._listener)
        self.drop_connections()


def _listen(unix_path: str | None) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX if unix_path else socket.AF_INET)
    if not unix_path:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(unix_path or ("127.0.0.1", 0))
    listener.listen(512)
    return listener
