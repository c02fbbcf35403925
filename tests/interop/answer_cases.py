"""Answers that are not, to the letter, HTTP/1.1, and a service that gives them."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

_OK: Final = b"HTTP/1.1 200 OK\r\n"
_TWO: Final = b"Content-Length: 2\r\n\r\nok"
_CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
_CHUNKS: Final = b"2\r\nok\r\n0\r\n\r\n"
_SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
_HANDSHAKE: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

ANSWERS: Final = {
    "plain": _OK + b"X-A: b\r\n" + _TWO,
    "space before the colon": _OK + b"X-A : b\r\n" + _TWO,
    "tab before the colon": _OK + b"X-A\t: b\r\n" + _TWO,
    "space before the colon of Content-Length": _OK + b"Content-Length : 2\r\n\r\nok",
    "space before the colon of Transfer-Encoding": _OK
    + b"Transfer-Encoding : chunked\r\n\r\n"
    + _CHUNKS,
    "bare LF everywhere": (_OK + b"X-A: b\r\n" + _TWO).replace(b"\r\n", b"\n"),
    "bare LF after one field": _OK + b"X-A: b\n" + _TWO,
    "bare LF at the head's end": _OK + b"X-A: b\r\nContent-Length: 2\n\nok",
    "obs-fold": _OK + b"X-A: b\r\n  c\r\n" + _TWO,
    "obs-fold, empty line": _OK + b"X-A: b\r\n \r\n" + _TWO,
    "white space before the first name": _OK + b" X-A: b\r\n" + _TWO,
    "no reason": b"HTTP/1.1 200 \r\n" + _TWO,
    "no reason and no space": b"HTTP/1.1 200\r\n" + _TWO,
    "control character in the reason": b"HTTP/1.1 200 O\x01K\r\n" + _TWO,
    "DEL in the reason": b"HTTP/1.1 200 O\x7fK\r\n" + _TWO,
    "tab in the reason": b"HTTP/1.1 200 O\tK\r\n" + _TWO,
    "UTF-8 in the reason": "HTTP/1.1 200 Für\r\n".encode() + _TWO,
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n" + _TWO,
    "two spaces before the status": b"HTTP/1.1  200 OK\r\n" + _TWO,
    "status of two digits": b"HTTP/1.1 20 OK\r\n" + _TWO,
    "status of four digits": b"HTTP/1.1 2000 OK\r\n" + _TWO,
    "status 600": b"HTTP/1.1 600 OK\r\n" + _TWO,
    "status 999": b"HTTP/1.1 999 OK\r\n" + _TWO,
    "empty lines before the status line": b"\r\n\r\n" + _OK + _TWO,
    "white space before the status line": b" " + _OK + _TWO,
    "lower-case protocol": b"http/1.1 200 OK\r\n" + _TWO,
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + _TWO,
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n" + _TWO,
    "line without a colon": _OK + b"X-A\r\n" + _TWO,
    "empty name": _OK + b": b\r\n" + _TWO,
    "space within a name": _OK + b"X A: b\r\n" + _TWO,
    "delimiter within a name": _OK + b"X(A): b\r\n" + _TWO,
    "control character in a value": _OK + b"X-A: b\x01c\r\n" + _TWO,
    "NUL in a value": _OK + b"X-A: b\0c\r\n" + _TWO,
    "CR in a value": _OK + b"X-A: b\rc\r\n" + _TWO,
    "UTF-8 in a value": "HTTP/1.1 200 OK\r\nX-A: ü\r\n".encode() + _TWO,
    "Content-Length and Transfer-Encoding": _OK
    + b"Content-Length: 2\r\n"
    + _CHUNKED
    + b"\r\n"
    + _CHUNKS,
    "Content-Length twice, the same": _OK + b"Content-Length: 2\r\n" + _TWO,
    "Content-Length twice, different": _OK + b"Content-Length: 3\r\n" + _TWO,
    "Content-Length: 2, 2": _OK + b"Content-Length: 2, 2\r\n\r\nok",
    "Content-Length: +2": _OK + b"Content-Length: +2\r\n\r\nok",
    "Transfer-Encoding: gzip, chunked": _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _CHUNKS,
    "Transfer-Encoding: identity": _OK + b"Transfer-Encoding: identity\r\n" + _TWO,
    "HTTP/1.0 with Transfer-Encoding": b"HTTP/1.0 200 OK\r\n" + _CHUNKED + b"\r\n" + _CHUNKS,
    "chunk extension": _OK + _CHUNKED + b"\r\n2;a=b\r\nok\r\n0\r\n\r\n",
    "chunk extension with white space": _OK + _CHUNKED + b"\r\n2 ; a = b\r\nok\r\n0\r\n\r\n",
    "white space after a chunk size": _OK + _CHUNKED + b"\r\n2 \r\nok\r\n0 \r\n\r\n",
    "white space before a chunk size": _OK + _CHUNKED + b"\r\n 2\r\nok\r\n0\r\n\r\n",
    "bare LF after a chunk size": _OK + _CHUNKED + b"\r\n2\nok\r\n0\r\n\r\n",
    "bare LF after a chunk": _OK + _CHUNKED + b"\r\n2\r\nok\n0\r\n\r\n",
    "chunk size 0x2": _OK + _CHUNKED + b"\r\n0x2\r\nok\r\n0\r\n\r\n",
    "204 with a length and a body": b"HTTP/1.1 204 No Content\r\n" + _TWO,
    "304 with a length and a body": b"HTTP/1.1 304 Not Modified\r\n" + _TWO,
    "101 nobody asked for": _SWITCH + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "end within the head": _OK + b"X-A: b\r\nContent-Le",
}
UPGRADES: Final = {
    "101": _SWITCH + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi",
    "101 without Connection": _SWITCH + b"Upgrade: websocket\r\n\r\nhi",
    "101 without Upgrade": _SWITCH + b"Connection: Upgrade\r\n\r\nhi",
    "101 with Connection: close": _SWITCH + b"Upgrade: websocket\r\nConnection: close\r\n\r\nhi",
    "101 with Connection: keep-alive, Upgrade": _SWITCH
    + b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\nhi",
}
NAMES: Final = [*ANSWERS, *UPGRADES]


class LooseService:
    """Answers a request for ``/tcp/3`` with the third of all answers, and closes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        answers = [*ANSWERS.values(), *UPGRADES.values()]
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536) or b"\r\n\r\n"
                number = head.split(b" ")[1].rpartition(b"/")[2] if b" " in head else b""
                connection.sendall(answers[int(number)] if number.isdigit() else ANSWERS["plain"])


def outcome(port: int, name: str) -> str:
    """Return what a proxy makes of the answer: its status line, ``X-A``, body, and its end."""
    upgrade = _HANDSHAKE if name in UPGRADES else "Connection: close\r\n"
    request = f"GET /tcp/{NAMES.index(name)} HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"
    with socket.create_connection(("127.0.0.1", port), 5) as caller:
        caller.sendall(request.encode())
        received = b""
        caller.settimeout(0.5)
        with contextlib.suppress(OSError):
            while data := caller.recv(65536):
                received += data
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    shown = [line for line in lines[1:] if line.lower().startswith(b"x-a")]
    if lines[0][9:12] in (b"502", b"500", b"400"):
        return lines[0][9:12].decode()
    return repr(b" | ".join([lines[0][9:], *shown, body]))[2:-1]
