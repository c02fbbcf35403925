"""A service that answers before it has read an upload, and closes; a caller that uploads to it.

Both are plain blocking sockets, so that each system call of the exchange is known.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 10.0
UPLOAD_BYTES = 4 << 20
_PIECE = b"u" * 65536
_ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Type: text/plain\r\n"
_SMALL = b"it is too large\n"
_LARGE = b"l" * 200_000

Ending = Callable[[socket.socket], None]


def _finish(connection: socket.socket) -> None:
    """Send a FIN, read a while longer, then close."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(0.5)
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def _close(connection: socket.socket) -> None:
    """Close with bytes unread: the kernel sends a reset behind what was sent (RFC 2525, 2.17)."""


def _reset(connection: socket.socket) -> None:
    """Reset at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class EarlyAnswer:
    """What a service sends, in pieces, and how it ends."""

    pieces: tuple[bytes, ...]
    end: Ending
    pause_seconds: float = 0.0


def _whole(body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return _ANSWER + b"Content-Length: %d\r\n" % len(body) + lines + b"\r\n" + body


_ENDS = b"Connection: close"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

ANSWERS: dict[str, EarlyAnswer] = {
    "fin": EarlyAnswer((_whole(_SMALL, _ENDS),), _finish),
    "close": EarlyAnswer((_whole(_SMALL, _ENDS),), _close),
    "reset": EarlyAnswer((_whole(_SMALL, _ENDS),), _reset),
    "close-unsaid": EarlyAnswer((_whole(_SMALL),), _close),
    "no-body": EarlyAnswer((_whole(b"", _ENDS),), _close),
    "pieces": EarlyAnswer((_ANSWER + _CHUNKED, b"3\r\nabc\r\n", b"0\r\n\r\n"), _close, 0.001),
    "until-close": EarlyAnswer((_ANSWER + b"\r\n" + _SMALL,), _finish),
    "until-reset": EarlyAnswer((_ANSWER + b"\r\n" + _SMALL,), _close),
    "large": EarlyAnswer((_whole(_LARGE, _ENDS),), _finish),
    "unauthorized": EarlyAnswer(
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",), _close
    ),
    "ok": EarlyAnswer(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",), _close
    ),
}


class EarlyService:
    """Answers a GET and keeps the connection; answers an upload as its path says, and closes."""

    def __init__(self, path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self.port = int(self._listener.getsockname()[1])
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(128)
            path.chmod(0o777)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_SECONDS)
            if connection.family != socket.AF_UNIX:  # else a close discards what Nagle holds back
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while (head := _read_head(connection)).startswith(b"GET "):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if head:
                self._answer(connection, ANSWERS[head.split()[1].decode().rpartition("/")[2]])
        connection.close()

    @staticmethod
    def _answer(connection: socket.socket, answer: EarlyAnswer) -> None:
        if answer.pieces[0].startswith(_ANSWER):
            connection.recv(65536)  # the upload runs
        for piece in answer.pieces:
            connection.sendall(piece)
            time.sleep(answer.pause_seconds)
        answer.end(connection)


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(1024)
        if not data:
            return b""
        head += data
    return head


@dataclass(frozen=True)
class Told:
    """What a caller got: the status, whether all of the answer, and how its connection ended."""

    status: int
    is_whole: bool
    is_reset: bool


@dataclass(frozen=True)
class Upload:
    """How a caller uploads, and what the service answers it.

    ``answer`` is a name in ``ANSWERS``, ``hop`` is how the proxy reaches the service (``tcp``,
    ``tls``, ``unix``). ``is_kept``: a GET goes first, so that the proxy has a connection to reuse.
    """

    answer: str
    hop: str = "tcp"
    is_chunked: bool = False
    is_kept: bool = False
    expects_continue: bool = False


def upload(port: int, case: Upload) -> Told:
    """Upload to a proxy until its answer and its end have come, writing on as long as possible."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as caller:
        try:
            if case.is_kept:
                _warm(caller, case.hop)
            return _upload(caller, case)
        except OSError:
            return Told(0, False, False)


def _warm(caller: socket.socket, hop: str) -> None:
    caller.sendall(f"GET /{hop}/warm HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"ok"):
        more = caller.recv(65536)
        if not more:
            raise ConnectionResetError
        answer += more


def _upload(caller: socket.socket, case: Upload) -> Told:
    length = UPLOAD_BYTES // len(_PIECE) * len(_PIECE)
    framing = "Transfer-Encoding: chunked" if case.is_chunked else f"Content-Length: {length}"
    expect = "Expect: 100-continue\r\n" if case.expects_continue else ""
    head = f"POST /{case.hop}/{case.answer} HTTP/1.1\r\nHost: a\r\n{framing}\r\n{expect}\r\n"
    caller.sendall(head.encode())
    if case.expects_continue:
        select.select([caller], [], [], 2)
    piece = b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE) if case.is_chunked else _PIECE
    last = b"0\r\n\r\n" if case.is_chunked else piece
    return _exchange(caller, piece, last, UPLOAD_BYTES // len(_PIECE))


def _exchange(caller: socket.socket, piece: bytes, last: bytes, count: int) -> Told:
    caller.setblocking(False)
    unsent, received, is_reset = piece, b"", False
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        writing = [caller] if count else []
        readable, writable, _ = select.select([caller], writing, [], 1)
        if writable:
            try:
                unsent = unsent[caller.send(unsent) :]
            except OSError:
                count = 0
            if not unsent:
                count -= 1
                unsent = piece if count != 1 else last
        if readable:
            try:
                data = caller.recv(65536)
            except OSError:
                is_reset = True
                break
            received += data
            if not data:
                break
        if not count and _read_answer(received, False).is_whole:
            break
    return _read_answer(received, is_reset)


def _read_answer(received: bytes, is_reset: bool) -> Told:
    while received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
    head, mark, body = received.partition(b"\r\n\r\n")
    if not mark:
        return Told(0, False, is_reset)
    folded = head.lower()
    if b"chunked" in folded:
        is_whole = body.endswith(b"0\r\n\r\n")
    else:
        length = folded.partition(b"content-length:")[2].split(b"\r\n")[0]
        is_whole = not length or len(body) == int(length)
    return Told(int(head.split()[1]), is_whole, is_reset)
