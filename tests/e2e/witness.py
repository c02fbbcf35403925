"""Two real sidecars on one Redis, and who watches from when on they refuse a token.

A witness asks one sidecar for one token, over and over, and notes when each question was put and
what came. So "no 200 after the bound" is a statement about when a request was *sent*.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.core.model import TokenKind, TokenRecord
from sidecar.core.tokens import generate, new_id
from sidecar.store.record import encode
from tests.patience import PATIENCE_SECONDS
from tests.proxy_process import ProxyProcess
from tests.redis_servers import RedisServer

TARGET = b"/v1/dynamic/listener/a1"
DAY_SECONDS = 86400
PAUSE_SECONDS = 0.002
"""Between two questions of a witness; less measures better, and takes a core."""


class Token(NamedTuple):
    """A token and its record, as they are in Redis."""

    secret: str
    record: TokenRecord

    @property
    def key(self) -> str:
        return f"sidecar:token:{self.record.digest}"


def make_token(account: str = "acme", lives_seconds: float = DAY_SECONDS) -> Token:
    """Make a token that nobody has stored yet."""
    secret = generate("sct_", os.urandom)
    token_id, now = new_id(os.urandom), float(int(time.time()))
    digest = hashlib.sha256(secret.encode()).hexdigest()
    ends = float(int(time.time() + lives_seconds))
    record = TokenRecord(token_id, account, f"t {token_id}", TokenKind.ACCESS, digest, now, ends)
    return Token(secret, record)


def put(redis: RedisServer, *tokens: Token) -> None:
    """Store tokens as ``token create`` does, less the index; their keys expire with them."""
    for token in tokens:
        assert token.record.expires_at is not None
        left = int((token.record.expires_at - time.time()) * 1000)
        redis.command("SET", token.key, encode(token.record), "PX", max(1, left))


def request(secret: str) -> bytes:
    lines = (b"GET %b HTTP/1.1" % TARGET, b"Host: a", b"access_token: %b" % secret.encode())
    return b"\r\n".join([*lines, b"", b""])


class Seen(NamedTuple):
    """One answer: when its request was sent, what it was, when it came (Unix seconds)."""

    sent_at: float
    status: int
    answered_at: float


class Effect(NamedTuple):
    """How long (seconds) after a token's end it last passed, and was first refused everywhere.

    What passed was *sent* so long after, 0 if nothing was; what was refused was *answered* by then.
    """

    last_pass_seconds: float
    refused_seconds: float


class Caller:
    """One keep-alive connection to a sidecar; says the status of each answer."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self._socket = proxy.connect(timeout_seconds=PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, secret: str) -> tuple[int, bytes]:
        """Return the status and the body."""
        self._socket.sendall(request(secret))
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, body = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            body += self._receive()
        return int(head[9:12]), body

    def _receive(self) -> bytes:
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionResetError("the sidecar closed the connection")
        return piece

    def close(self) -> None:
        self._socket.close()


class Witness:
    """Asks for one token until it is told to stop; ``seen`` holds when each was sent, and what."""

    def __init__(
        self, proxy: ProxyProcess, secret: str, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self.seen: list[Seen] = []
        self._caller = Caller(proxy)
        self._secret = secret
        self._pause_seconds = pause_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        with suppress(OSError):
            while not self._stopped.is_set():
                sent_at = time.time()
                status, _ = self._caller.ask(self._secret)
                self.seen.append(Seen(sent_at, status, time.time()))
                time.sleep(self._pause_seconds)

    def has_seen(self, *statuses: int, times: int = 3) -> bool:
        """Tell whether the last answers were all of these."""
        last = self.seen[-times:]
        return len(last) == times and all(seen.status in statuses for seen in last)

    def last_passed(self) -> float:
        """Return when the last request was sent that passed."""
        return max((seen.sent_at for seen in self.seen if seen.status == 200), default=0.0)

    def first_refused(self) -> float:
        """Return when the first refusal had come."""
        return min(seen.answered_at for seen in self.seen if seen.status == 401)

    def statuses(self, since: float = 0.0) -> set[int]:
        """Return all that came of requests sent at or after a moment."""
        return {seen.status for seen in self.seen if seen.sent_at >= since}

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(25)
        self._caller.close()

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Wait for a condition, for as long as a busy machine may take."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


@contextmanager
def witnesses(
    proxies: list[ProxyProcess], token: Token, pause_seconds: float = PAUSE_SECONDS
) -> Iterator[list[Witness]]:
    """Watch a token in every process; begins once it passes in all of them."""
    with ExitStack() as stack:
        watching = [
            stack.enter_context(Witness(proxy, token.secret, pause_seconds)) for proxy in proxies
        ]
        assert wait_until(lambda: all(witness.has_seen(200) for witness in watching))
        yield watching


def trial(
    proxies: list[ProxyProcess],
    token: Token,
    end: Callable[[], object],
    pause_seconds: float = PAUSE_SECONDS,
) -> Effect:
    """Have the token end under the eyes of all; return how soon that was effective."""
    with witnesses(proxies, token, pause_seconds) as watching:
        end()
        ended_at = time.time()
        assert wait_until(lambda: all(witness.has_seen(401) for witness in watching)), [
            witness.seen[-3:] for witness in watching
        ]
    return Effect(
        max(0.0, *(witness.last_passed() - ended_at for witness in watching)),
        max(0.0, *(witness.first_refused() - ended_at for witness in watching)),
    )


@contextmanager
def running_proxies(
    directory: Path, settings: Mapping[str, Any], number: int = 2
) -> Iterator[list[ProxyProcess]]:
    """Run as many sidecars of one configuration."""
    with ExitStack() as stack:
        proxies = []
        for place in range(number):
            own = directory / f"proxy-{place}"
            own.mkdir()
            proxies.append(stack.enter_context(ProxyProcess(own, settings)))
        yield proxies


class Line:
    """A relay in front of a Redis whose lines can go dead without a sign: nothing is closed."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._alive = threading.Event()
        self._alive.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def go_dead(self, *, also_new_ones: bool) -> None:
        """Pass nothing more on the lines there are, nor on new ones if so asked."""
        self._alive.clear()
        if not also_new_ones:
            self.recover()

    def recover(self) -> None:
        """Serve new lines again; those that went dead stay so."""
        self._alive = threading.Event()
        self._alive.set()

    def close(self) -> None:
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(self._redis.socket))
                self._sockets += (near, far)
                for source, sink in ((near, far), (far, near)):
                    work = (source, sink, self._alive)
                    threading.Thread(target=_pass_on, args=work, daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, alive: threading.Event) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            if alive.is_set():
                sink.sendall(piece)
    if alive.is_set():
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
