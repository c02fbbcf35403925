"""The service behind the sidecar in the tests of clients: records requests, answers by their path.

A path is ``/v1/dynamic/listener/KIND/ID...``: the kind is the answer wanted, and the id, which no
two cases share, finds the record of what arrived.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import BinaryIO, Final

from tests.threaded_listener import accept_in_threads, close_listener

PREFIX: Final = "/v1/dynamic/listener"
SLOW_SECONDS: Final = 2.0
LARGE_BYTES: Final = 10 * 1024 * 1024
STREAM_BYTES: Final = 1024 * 1024
GREETING: Final = "a text that is worth packing " * 100
COOKIES: Final = ("first=1; Path=/; HttpOnly", "second=2; Path=/")
PATTERN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_PIECE_BYTES: Final = 256 * 1024


def pattern(size: int) -> bytes:
    """Return the bytes that every client sends, and the service, for a body of this size."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, as it reached the service."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body_bytes: int
    body_sha256: str

    def values(self, name: str) -> list[str]:
        """Return the values of a header, by its name in lower case."""
        return [value for found, value in self.headers if found == name]

    @property
    def text(self) -> str:
        """Everything but the body, to look for what must not be there."""
        return repr((self.method, self.target, self.headers))


class Service:
    """Listens on a free port of 127.0.0.1; one thread a connection."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, list[Seen]] = defaultdict(list)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        accept_in_threads(self._listener, self._serve)

    def seen(self, case: str) -> list[Seen]:
        """Return the requests of one case, in their order."""
        with self._lock:
            return list(self._seen[case])

    def close(self) -> None:
        close_listener(self._listener)

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with (
            sock,
            contextlib.suppress(OSError, EOFError, ValueError),
            sock.makefile("rb") as stream,
        ):
            while seen := _read_request(sock, stream):
                with self._lock:
                    self._seen[seen.target.split("?")[0].split("/")[5]].append(seen)
                sock.sendall(_answer(seen))


def _read_request(sock: socket.socket, stream: BinaryIO) -> Seen | None:
    lines = [line.rstrip(b"\r\n").decode("latin-1") for line in iter(stream.readline, b"\r\n")]
    if not lines:
        return None
    method, target, _ = lines[0].split(" ", 2)
    pairs = (line.partition(":") for line in lines[1:])
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    named = dict(headers)
    if "expect" in named:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    digest = hashlib.sha256()
    size = 0
    if "transfer-encoding" in named:
        while length := int(stream.readline(), 16):
            size += _read_into(digest, stream, length)
            stream.readline()
        stream.readline()
    else:
        size = _read_into(digest, stream, int(named.get("content-length", "0")))
    return Seen(method, target, headers, size, digest.hexdigest())


def _read_into(digest: hashlib._Hash, stream: BinaryIO, size: int) -> int:
    left = size
    while left:
        piece = stream.read(min(left, _PIECE_BYTES))
        if not piece:
            raise EOFError
        digest.update(piece)
        left -= len(piece)
    return size


def _answer(seen: Seen) -> bytes:
    """Return the answer that the kind in the path asks for; ``echo`` tells what arrived."""
    path = seen.target.split("?")[0]
    kind = path.split("/")[4]
    if kind == "slow":
        time.sleep(SLOW_SECONDS)
    if kind in ("found", "temporary"):
        here = f"{seen.values('x-forwarded-proto')[0]}://{seen.values('host')[0]}"
        place = here + path.replace(f"/{kind}/", "/echo/")
        status = "302 Found" if kind == "found" else "307 Temporary Redirect"
        return _head(status, [f"Location: {place}"], 0)
    if kind == "nothing":
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    if kind == "empty":
        return _head("200 OK", [], 0)
    if kind == "packed":
        assert "gzip" in ",".join(seen.values("accept-encoding"))
        body = gzip.compress(GREETING.encode())
        return _head("200 OK", ["Content-Encoding: gzip"], len(body)) + body
    if kind == "cookies":
        return _head("200 OK", [f"Set-Cookie: {cookie}" for cookie in COOKIES], 2) + b"ok"
    if kind == "large":
        return _head("200 OK", [], LARGE_BYTES) + pattern(LARGE_BYTES)
    if kind == "stream":
        pieces = (pattern(STREAM_BYTES // 16) for _ in range(16))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    told = {"account": seen.values("x-account"), "target": seen.target, "bytes": seen.body_bytes}
    body = json.dumps(told).encode()
    return _head("200 OK", ["Content-Type: application/json"], len(body)) + (
        b"" if seen.method == "HEAD" else body
    )


def _head(status: str, lines: list[str], size: int) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {size}", "", ""]).encode()
