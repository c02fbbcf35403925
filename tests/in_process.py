"""A proxy in the test's own event loop: real sockets, a store in memory, an upstream by script.

``running_proxy`` joins the parts as ``sidecar.runtime.serve`` does. The upstream plays one script
for each connection, so that a test reads as a transcript: what the caller sends, what the upstream
saw and said, what the caller got.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, ParamSpec

import uvloop

from sidecar.auth.authenticator import Authenticator
from sidecar.auth.hash_pool import verify_in_thread
from sidecar.auth.password_auth import PasswordAuth
from sidecar.auth.password_verifier import PasswordVerifier
from sidecar.config.settings import Settings
from sidecar.core.model import TokenKind, TokenRecord
from sidecar.observability.access_log import RequestLog
from sidecar.proxy.gateway import Gateway
from sidecar.proxy.streams import LiveStreams
from sidecar.runtime.build import build_header_cache, build_rules
from sidecar.store.memory import MemoryStore
from sidecar.tokens.last_use import LastUses
from sidecar.wire.accepting import Acceptor
from sidecar.wire.dialing import Dialer
from sidecar.wire.listening import Listeners, bind
from sidecar.wire.pool import Pool
from sidecar.wire.requests import RequestLimits
from sidecar.wire.server import ConnectionLimits, ProxyServer
from tests.patience import PATIENCE_SECONDS

TOKEN: Final = "legacy-token-of-the-old-system"


P = ParamSpec("P")


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test on the loop that serves in production."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


class Peer:
    """One end of a connection, with every byte that came over it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = b""
        self._unread = b""

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> bytes:
        """Return what comes next; empty once the other end has closed or reset."""
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        try:
            data = await asyncio.wait_for(self.reader.read(1 << 18), PATIENCE_SECONDS)
        except ConnectionError:
            return b""
        self.received += data
        return data

    async def until(self, mark: bytes) -> bytes:
        """Return what comes up to and with ``mark``; whatever came if the end is first."""
        data = b""
        while mark not in data:
            more = await self.read()
            if not more:
                return data
            data += more
        end = data.index(mark) + len(mark)
        self._unread = data[end:]
        return data[:end]

    async def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self.read()
            if not more:
                return data
            data += more
        data, self._unread = data[:count], data[count:]
        return data

    async def rest(self) -> bytes:
        """Return everything until the other end closes."""
        data = b""
        while more := await self.read():
            data += more
        return data

    async def response(self, *, has_body: bool = True) -> tuple[bytes, bytes]:
        """Return one response's head and body, which has a Content-Length or is chunked."""
        head = await self.until(b"\r\n\r\n")
        folded = head.lower()
        if not has_body:
            return head, b""
        if b"transfer-encoding: chunked" in folded:
            return head, await self._chunks()
        _, mark, rest = folded.partition(b"content-length: ")
        assert mark or not head, head
        return head, await self.exactly(int(rest.split(b"\r\n")[0])) if mark else b""

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.until(b"\r\n") or b"0", 16):
            body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        assert await self.until(b"\r\n") in (b"\r\n", b"")
        return body

    def end(self) -> None:
        """Half-close: nothing more comes from here."""
        self.writer.write_eof()

    def reset(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


Script = Callable[[Peer], Awaitable[None]]


def answering(*responses: bytes) -> Script:
    """Return a script that answers heads without a body, each in one write; the last for ever."""

    async def play(peer: Peer) -> None:
        for response in chain(responses, repeat(responses[-1])):
            if not await peer.until(b"\r\n\r\n"):
                return
            await peer.send(response)

    return play


class Upstream:
    """Plays the next script on each connection that comes, the last one for ever."""

    def __init__(self) -> None:
        self.scripts: list[Script] = [answering(OK)]
        self.peers: list[Peer] = []
        self.faults: list[BaseException] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def received(self) -> list[bytes]:
        """What came over each connection, in the order in which they were opened."""
        return [peer.received for peer in self.peers]

    async def start(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> int:
        self._server = await asyncio.start_server(
            self._accept, host, port, ssl=tls, reuse_address=True
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer)
        script = self.scripts[min(len(self.peers), len(self.scripts) - 1)]
        self.peers.append(peer)
        try:
            await script(peer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:
            self.faults.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()


class Lookup:
    """Asks the store each time: what a cache remembers is another test's matter."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def get(self, digest: str) -> TokenRecord | None:
        return None

    def is_absent(self, digest: str) -> bool:
        return False

    def is_familiar(self, digest: str) -> bool:
        return False

    async def look_up(self, digest: str, asker: str = "") -> TokenRecord | None:
        await asyncio.sleep(0)
        return await self._store.look_up(digest)


OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Proxy:
    """A running proxy and what a test looks at."""

    port: int
    listeners: Listeners
    server: ProxyServer
    gateway: Gateway
    store: MemoryStore
    upstream: Upstream
    entries: list[RequestLog] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    async def drain(self, timeout_seconds: float) -> None:
        """Come to an end as the process does: accept nothing more, let finish what runs."""
        self.listeners.close_all()
        await self.server.drain(timeout_seconds)

    @property
    def pool(self) -> Pool:
        return next(iter(self.gateway.rules.upstreams.values())).pool

    async def caller(self, tls: ssl.SSLContext | None = None) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, ssl=tls))
        self.peers.append(peer)
        return peer

    async def settle(self, is_settled: Callable[[], bool]) -> None:
        """Wait until something that must come true has; an assertion fails if it never does."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not is_settled():
            assert time.monotonic() < end, "this never came true"
            await asyncio.sleep(0.01)


def request(method: str = "GET", path: str = "/x", *lines: str, token: str = TOKEN) -> bytes:
    """Return a request's head with a token."""
    fields = ["Host: service", f"Authorization: Bearer {token}", *lines]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode()


EVERYWHERE: tuple[Mapping[str, Any], ...] = (
    {"path": "/public/**", "public": True},
    {"path": "/**"},
)


@contextlib.asynccontextmanager
async def running_proxy(  # noqa: PLR0913 - a test sets one or two of them
    *scripts: Script,
    limits: Mapping[str, Any] | None = None,
    listen_tls: ssl.SSLContext | None = None,
    upstream_tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    dialer: Dialer | None = None,
    is_balancer: Callable[[str], bool] | None = None,
    routes: Sequence[Mapping[str, Any]] = EVERYWHERE,
    accounts: Mapping[str, Any] | None = None,
    **upstream_settings: Any,
) -> AsyncIterator[Proxy]:
    """Run a proxy before an upstream that plays ``scripts``; by default, any account may go
    anywhere.

    The upstream listens on 127.0.0.1; ``host`` is the name that ``dialer`` reaches it by. With
    ``is_balancer``, connections begin with a PROXY header.
    """
    upstream = Upstream()
    upstream.scripts = [*scripts] or upstream.scripts
    scheme = "https" if upstream_tls else "http"
    address = f"{scheme}://{host}:{await upstream.start(upstream_tls)}"
    settings = Settings.model_validate(
        {
            "upstreams": {"service": {"url": address, **upstream_settings}},
            "routes": [dict(route) for route in routes],
            "accounts": dict(accounts or {"acme": {}}),
            "limits": dict(limits or {}),
        },
        context={"directory": Path()},
    )
    proxy = await _start(settings, upstream, listen_tls, dialer, is_balancer)
    try:
        yield proxy
    finally:
        for peer in proxy.peers:
            peer.reset()
        await proxy.drain(1.0)
        proxy.pool.close()
        await upstream.stop()
    assert not upstream.faults, upstream.faults


async def _start(
    settings: Settings,
    upstream: Upstream,
    tls: ssl.SSLContext | None,
    dialer: Dialer | None,
    is_balancer: Callable[[str], bool] | None,
) -> Proxy:
    store = MemoryStore(time.time)
    await store.create(
        TokenRecord(
            id="token000001",
            account="acme",
            name="a token",
            kind=TokenKind.IMPORTED,
            digest=sha256(TOKEN.encode()).hexdigest(),
            created_at=time.time(),
            expires_at=None,
        )
    )
    entries: list[RequestLog] = []
    rules = build_rules(settings, asyncio.get_running_loop(), dialer=dialer)
    tokens = Lookup(store)
    gateway = Gateway(
        rules,
        Authenticator(tokens, PasswordAuth(PasswordVerifier(verify_in_thread))),
        LastUses(store.record_use),
        LiveStreams(tokens),
        lambda entry, now: entries.append(entry),
    )
    limits = settings.limits
    server = ProxyServer(
        gateway.serve,
        limits=RequestLimits(
            limits.headers, limits.header_bytes, limits.url_bytes, limits.body_bytes
        ),
        new_head_cache=build_header_cache(settings).for_connection,
        connection_limits=ConnectionLimits(
            max_connections=limits.connections,
            max_connections_per_address=limits.connections_per_address,
            header_timeout_seconds=limits.header_timeout,
            idle_timeout_seconds=limits.idle_timeout,
            shortest_timeout_seconds=0.25,
        ),
        too_many=lambda: b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    )
    listeners = Listeners({"proxy": bind("127.0.0.1", 0, None)}, 0)

    async def accept(listener: socket.socket) -> Acceptor:
        return Acceptor(listener, server, tls, is_balancer)

    await listeners.open_with("proxy", accept)
    return Proxy(listeners.ports["proxy"], listeners, server, gateway, store, upstream, entries)
