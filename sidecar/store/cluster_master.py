"""One master of a Cluster: its link, the look-ups on it, and its view of the Cluster.

The link sends a ``GET`` for each key, as an ``MGET`` may not cross slots; a batch is one write. An
error reply belongs to its key and disturbs no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import hiredis

from sidecar.core.errors import StoreUnavailable
from sidecar.store.endpoints import Endpoint
from sidecar.store.lookups import Lookups
from sidecar.store.redis_link import RedisLink, Tracker, is_master
from sidecar.store.resp import pack
from sidecar.store.slots import View, read_view

_ANSWERS: Final = ("MOVED ", "ASK ", "CLUSTERDOWN ")
_SURVEY: Final = (
    pack((b"HELLO", b"3")),
    pack((b"CLUSTER", b"INFO")),
    pack((b"CLUSTER", b"SLOTS")),
)


class NodeLink(RedisLink):
    """A link to one master of a Cluster; a replica would redirect every key (``MOVED``)."""

    def probe(self, key: bytes) -> bytes:
        """See ``RedisLink``."""
        return pack((b"GET", key))

    def is_fault(self, reply: Any) -> bool:
        """See ``RedisLink``; a reply about a slot that the node does not serve is not a fault."""
        return super().is_fault(reply) and not str(reply).startswith(_ANSWERS)

    def fetch(self, keys: Sequence[bytes]) -> asyncio.Future[Any]:
        """Ask for the values of keys; the future gives a list as long, of values and errors."""
        futures = self.request(*[b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(k), k) for k in keys])
        answer: asyncio.Future[Any] = self._loop.create_future()

        def land(last: asyncio.Future[Any]) -> None:
            if answer.done():
                return
            error = last.exception()
            if error is None:
                answer.set_result([future.result() for future in futures])
            else:
                answer.set_exception(error)
                answer.exception()  # mark as retrieved: nobody may be waiting any more

        futures[-1].add_done_callback(land)
        return answer

    async def survey(self, endpoint: Endpoint) -> tuple[bool, View | None]:
        """Ask whether the node is a master, and for its view of the Cluster."""
        hello, info, slots = await asyncio.gather(*self.request(*_SURVEY))
        return is_master(hello), read_view(endpoint, info, slots)


class VisitorLink(NodeLink):
    """A link for a single question, which a replica may answer as well."""

    def may_answer(self, hello: Any) -> bool:
        """See ``RedisLink``."""
        return True

    async def survey(self, endpoint: Endpoint) -> tuple[bool, View | None]:
        """See ``NodeLink``; raises the error of a server that gives no view, as it may say why."""
        hello, info, slots = await asyncio.gather(*self.request(*_SURVEY))
        if isinstance(slots, hiredis.ReplyError):
            raise slots
        return is_master(hello), read_view(endpoint, info, slots)


Connect = Callable[[Endpoint, Callable[[], NodeLink]], Awaitable[NodeLink]]
"""Opens a link of a class to a node, and proves that it works."""


class ClusterMaster:
    """A master, and whether its changes are tracked. It is the ``Tracker`` of its link."""

    def __init__(
        self,
        endpoint: Endpoint,
        connect: Connect,
        budget_seconds: float,
        probe_key: bytes,
        tracker: Tracker | None,
        on_update: Callable[[], None],
    ) -> None:
        """``tracker`` receives changed keys; ``on_update`` is called if ``is_tracked`` changes."""
        self._probe_key = probe_key
        self.endpoint = endpoint
        self._is_tracking = False
        self._is_well = False  # until a survey over this link says so
        self.lookups = Lookups(self._open, budget_seconds)
        self._connect = connect
        self._tracker = tracker
        self._on_update = on_update
        self._link: NodeLink | None = None
        self.prefix = b"" if tracker is None else tracker.prefix

    def __repr__(self) -> str:
        word = "tracked" if self.is_tracked else "untracked"
        return f"<ClusterMaster {self.endpoint.host}:{self.endpoint.port} {word} {self.lookups!r}>"

    @property
    def is_tracked(self) -> bool:
        """Whether this master reports every change and serves its slots."""
        return self._is_tracking and self._is_well

    @property
    def is_well(self) -> bool:
        """Whether it is up and served its slots when last asked."""
        return self._is_well and self.link is not None

    @property
    def link(self) -> NodeLink | None:
        """Return the link, if one is up."""
        return None if self._link is None or self._link.is_closed else self._link

    async def ask(self, *questions: bytes) -> list[Any]:
        """Send packed commands, past the queue of look-ups; return their replies."""
        if self.link is None:
            await self.lookups.get(self._probe_key)  # returns when a link is up, or raises
        if self.link is None:
            raise StoreUnavailable("a master of the Cluster can't be reached")
        return await asyncio.gather(*self.link.request(*questions))

    async def survey(self) -> View | None:
        """Return the master's view of the Cluster, if it gives one."""
        link = self.link
        if link is None:
            return None
        is_master, view = await link.survey(self.endpoint)
        if not is_master:
            link.abort()
        elif self.link is link:
            self._update(self._is_tracking, view is not None and view.is_well)
        return view

    def give_up(self) -> None:
        """Close a link that no longer answers; look-ups open another."""
        if self._link is not None:
            self._link.abort()

    async def close(self) -> None:
        """Close the link for good."""
        await self.lookups.close()
        self.give_up()

    async def _open(self) -> NodeLink:
        tracker = None if self._tracker is None else self
        self._link = await self._connect(self.endpoint, partial(NodeLink, tracker))
        return self._link

    def on_tracking(self) -> None:
        """See ``Tracker``."""
        self._update(True, self._is_well)

    def on_changed_keys(self, keys: list[bytes] | None) -> None:
        """See ``Tracker``."""
        if self._tracker is not None:
            self._tracker.on_changed_keys(keys)

    def on_heard(self, age_seconds: float) -> None:
        """See ``Tracker``; one master alone proves nothing."""

    def on_lost(self) -> None:
        """See ``Tracker``."""
        self._update(False, False)

    def _update(self, is_tracking: bool, is_well: bool) -> None:
        if (is_tracking, is_well) != (self._is_tracking, self._is_well):
            self._is_tracking, self._is_well = is_tracking, is_well
            self._on_update()
