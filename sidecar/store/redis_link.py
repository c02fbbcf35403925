"""One connection to one Redis master, for frequent questions: RESP3, read by hiredis.

No coroutine reads a reply, so none can be cancelled with a reply half read (the class of
CVE-2023-28858). A link that sees anything unexpected is closed for good; it never recovers.

Why not redis-py's asyncio client: with 64 callers at once, a look-up takes 0.8 us of CPU here and
28 us there; with one caller, 9 us and 28 us (compiled; interpreted, 1.4 and 11 us here). Batches of
ours over redis-py's ``MGET`` take 2.0 and 37 us. A whole cache miss takes 25 to 50 us. Nor does
that client offer what the cache is built on: ``CLIENT TRACKING`` in broadcast mode, and a check of
the server's role in the same write as a question.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeVar, cast

import hiredis

from sidecar.core.errors import StoreUnavailable
from sidecar.store.budgets import limit
from sidecar.store.dialing import StoreDialer
from sidecar.store.endpoints import HELLO, Endpoint, Login
from sidecar.store.resp import pack

_log = logging.getLogger(__name__)

Reply = Any
"""What hiredis makes of a RESP3 reply; an error reply is a ``hiredis.ReplyError`` value."""

_ROLE_CHECK_SECONDS = 1.0
_INVALIDATE = b"invalidate"
_TRACK = (b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX")
_INCOMPLETE = object()
_SILENT_IN_TLS = (
    "Redis did not answer in time to a TLS handshake: if it speaks no TLS there, write redis:// "
    "instead of rediss:// in store.url"
)


_ASK_ROLE = pack(HELLO)


class Tracker(Protocol):
    """Receives the invalidations of client-side caching while a link is up."""

    prefix: bytes
    """The prefix of the keys to track."""

    def on_tracking(self) -> None:
        """Redis reports changes from now on."""

    def on_changed_keys(self, keys: list[bytes] | None) -> None:
        """These keys have changed; ``None``: all keys (FLUSHDB, FLUSHALL)."""

    def on_heard(self, age_seconds: float) -> None:
        """All changes until ``age_seconds`` ago have been reported."""

    def on_lost(self) -> None:
        """The link is closed; changes are no longer reported."""


class RedisLink(asyncio.Protocol):
    """A connection that matches replies to requests by order, and closes at the first doubt."""

    def __init__(self, tracker: Tracker | None = None) -> None:
        self._tracker = tracker
        self._is_tracking = False
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._awaited: deque[asyncio.Future[Reply] | None] = (
            deque()
        )  # None: a question for the role
        self._loop = asyncio.get_running_loop()
        self._role_checked_at = self._asked_at = (
            monotonic()
        )  # the loop's clock stands still in a callback
        self.is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<RedisLink {state}, awaiting {len(self._awaited)}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all requests that still wait: their replies cannot come any more."""
        self._close(exc or ConnectionResetError("connection closed by Redis"))

    def data_received(self, data: bytes) -> None:
        """Give each complete reply to the request that has waited longest."""
        try:
            self._reader.feed(data)
            while not self.is_closed and (reply := self._reader.gets()) is not _INCOMPLETE:
                self._deliver(reply)
        except hiredis.HiredisError as error:
            self._close(error)

    def _deliver(self, reply: Reply) -> None:
        if type(reply) is hiredis.PushNotification:
            if reply[0] == _INVALIDATE and self._tracker is not None:
                self._tracker.on_changed_keys(reply[1])
            return
        if not self._awaited:
            self._close(ConnectionAbortedError("a reply that nobody asked for"))
            return
        future = self._awaited.popleft()
        if future is None:
            if not is_master(reply):
                self._close(ConnectionAbortedError("the server is no longer a master"))
            return
        self._report_heard()
        if not future.done():
            future.set_result(reply)

    def _report_heard(self) -> None:
        """Report to the tracker that all changes before the answered question have been reported.

        An answer that took long, or lay unread while this process slept or was busy, proves that
        for the time of the question and no later one.
        """
        if self._is_tracking and self._tracker is not None:
            self._tracker.on_heard(monotonic() - self._asked_at)

    def request(self, *commands: bytes) -> list[asyncio.Future[Reply]]:
        """Write packed commands at once; return the futures of their replies, in order."""
        futures: list[asyncio.Future[Reply]] = [self._loop.create_future() for _ in commands]
        self._awaited.extend(futures)
        self._write(b"".join(commands))
        return futures

    def probe(self, key: bytes) -> bytes:
        """Return the packed command whose reply proves that look-ups will be answered."""
        return pack((b"MGET", key))

    def is_fault(self, reply: Reply) -> bool:
        """Return whether a reply to the first commands means that look-ups will fail."""
        return isinstance(reply, hiredis.ReplyError)

    def may_answer(self, hello: Reply) -> bool:
        """Return, by the reply to ``HELLO``, whether the server may be asked for tokens."""
        return is_master(hello)

    def fetch(self, keys: Sequence[bytes]) -> asyncio.Future[Reply]:
        """Ask for the values of keys; the future gives a list as long as ``keys``, or an error.

        Once a second the same write asks for the server's role, and that reply is judged first: a
        master that was demoted under an open connection would go on answering from old data.
        """
        command = pack((b"MGET", *keys))
        now = monotonic()
        if not self._awaited:
            self._asked_at = now
        if now - self._role_checked_at >= _ROLE_CHECK_SECONDS:
            self._role_checked_at = now
            self._awaited.append(None)
            command = _ASK_ROLE + command
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._awaited.append(answer)
        self._write(command)
        return answer

    async def track(self) -> None:
        """Ask Redis to report changes; a server that cannot (before 6.0, or by its ACL) is used
        without.
        """
        tracker = self._tracker
        if tracker is None:
            return
        (answer,) = self.request(pack((*_TRACK, tracker.prefix)))
        if isinstance(await answer, hiredis.ReplyError):
            _log.warning("Redis refuses CLIENT TRACKING: every request asks it, none is cached")
        elif not self.is_closed:
            self._is_tracking = True
            tracker.on_tracking()

    def _write(self, data: bytes) -> None:
        if self.is_closed or self._transport is None:
            self._close(ConnectionResetError("the connection is closed"))
        else:
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once; requests that still wait fail. Idempotent."""
        self._close(ConnectionAbortedError("the connection was given up"))

    def _close(self, error: Exception) -> None:
        self.is_closed = True
        if self._is_tracking and self._tracker is not None:
            self._is_tracking = False
            self._tracker.on_lost()
        if self._transport is not None:
            self._transport.abort()
        while self._awaited:
            future = self._awaited.popleft()
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # mark as retrieved: nobody may be waiting any more


def is_master(hello: Reply) -> bool:
    """Return, by a ``HELLO`` reply, whether the server is a master."""
    return isinstance(hello, dict) and hello.get(b"role") == b"master"


RedisLinkT = TypeVar("RedisLinkT", bound=RedisLink)


async def open_link(
    endpoint: Endpoint,
    login: Login,
    dialer: StoreDialer,
    probe_key: bytes,
    make_link: Callable[[], RedisLinkT],
    step_seconds: float,
    confirm: Callable[[], Awaitable[None]] | None = None,
) -> RedisLinkT:
    """Connect, sign in, select the database, and prove with a read that look-ups will be answered.

    After that the link's tracker receives changes. Before it, ``confirm`` is called, which may
    raise and bounds its own time. Every other step has a budget of ``step_seconds``, so that an
    attempt that makes progress on a slow loop is not started over.

    Raises one of ``sidecar.store.faults.FAULTS`` or ``StoreUnavailable``. A cancelled call leaves
    no connection behind.
    """
    try:
        async with limit(step_seconds):
            link = await dialer.open(endpoint, make_link)
    except TimeoutError:
        raise TimeoutError if dialer.tls is None else StoreUnavailable(_SILENT_IN_TLS) from None
    try:
        async with limit(step_seconds):
            replies = await asyncio.gather(*link.request(*login.greeting(), link.probe(probe_key)))
        for reply in replies:
            if link.is_fault(reply):
                raise reply
        if not link.may_answer(replies[0]):
            raise StoreUnavailable("the Redis that answers is a replica, not a master")
        if confirm is not None:
            await confirm()
        async with limit(step_seconds):
            await link.track()
    except BaseException:
        link.abort()
        raise
    return link
