"""A Cluster: each question goes to its slot's master, and all masters together report changes.

Every master has a link and look-ups of its own (``cluster_master``), so one that is away takes only
its own slots along. Twice a second each master is *surveyed*: asked for its role, its state and its
view of the Cluster (``slots``). The view with the greatest epoch counts, so a master that was
suspended during a fail-over is not believed. ``MOVED`` and ``ASK`` are followed at once.

**Why cached records may be used.** The Cluster is *tracked* while every master that serves slots,
or was named by a redirection, is connected, tracks (``CLIENT TRACKING``), and said in its last
survey that it is a master and well. When one no longer does, the tracker learns that changes are
lost, and the cache is emptied. While the Cluster is tracked, records are only read over tracked
links, and:

- a change to a record is reported by its master, as by a single Redis;
- a key that moves to another master is deleted behind itself (``MIGRATE``), which the old master
  reports. A later look-up reads it from the new master, which reports changes from then on. If the
  new master is unknown, the redirection makes it known, and the tracking is lost until it tracks;
- otherwise a slot changes hands only in a fail-over. The old master is then dead (its link breaks
  or its survey stays unanswered), cut off (its state is *fail*), or demoted (its role). The
  tracking is lost after half a second and a budget at the latest, and sooner if Redis closes the
  connection;
- if a key that was *absent* is created, its slot's master reports it. A slot without the key may
  have moved silently to a master that has just joined: the survey finds that in half a second.

All changes count as reported up to the start of a survey that all masters have answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import hiredis
from redis.crc import key_slot

from sidecar.core.errors import StoreUnavailable
from sidecar.store.budgets import ended, limit
from sidecar.store.cluster_master import ClusterMaster, Connect, VisitorLink
from sidecar.store.commands import AskServer, Command
from sidecar.store.endpoints import Endpoint
from sidecar.store.faults import FAULTS, budget, describe
from sidecar.store.lookups import RETRY_SECONDS
from sidecar.store.redis_link import Tracker
from sidecar.store.resp import pack
from sidecar.store.slots import SLOTS, View, read_redirect

_log = logging.getLogger(__name__)

SURVEY_SECONDS: Final = 0.5
_REST_SECONDS: Final = 0.02  # between surveys, however many redirections ask for one
_UNSERVED: Final = "no master of the Cluster serves the slot that a token is in"
_ASKING: Final = pack((b"ASKING",))
_MOST_HOPS: Final = 5
_TRY_AGAIN_SECONDS: Final = 0.02


class Cluster:
    """Look-ups as in ``Lookups``, and a ``CommandChannel``. Belongs to one event loop."""

    is_one_server = False

    def __init__(
        self,
        seeds: Sequence[Endpoint],
        connect: Connect,
        budget_seconds: float,
        probe_key: bytes,
        tracker: Tracker | None = None,
    ) -> None:
        """``seeds`` are the nodes to ask first; ``connect`` opens a link to a node."""
        self._probe_key = probe_key
        self._seeds = seeds
        self._connect = connect
        self._budget_seconds = budget_seconds
        self._tracker = tracker
        self._nodes: dict[Endpoint, ClusterMaster] = {}
        self._owners: list[ClusterMaster | None] = [None] * SLOTS
        self._view: View | None = None
        self._away = "the Cluster did not answer in time"
        self._is_tracked = False
        self._surveyed = asyncio.Event()
        self._survey_due = asyncio.Event()
        self._surveying: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Cluster {self.state}, {len(self._nodes)} masters>"

    @property
    def state(self) -> str:
        """``away`` if any master is, ``open`` if all are, else ``opening``."""
        states = {node.lookups.state for node in self._nodes.values()}
        if states == {"open"}:
            return "open"
        return "away" if "away" in states else "opening"

    async def get(self, key: bytes, asker: str = "") -> bytes | None:
        """See ``Lookups.get``."""
        slot = key_slot(key)
        node = self._owners[slot] or await self._await_owner(slot)
        value: Any = await node.lookups.get(key, asker)
        if _is_error(value):
            async with budget(self._budget_seconds):
                value = await self._follow(slot, node, value, pack((b"GET", key)))
                if _is_error(value):
                    if not str(value).startswith("WRONGTYPE"):
                        raise value
                    value = None
        return cast("bytes | None", value)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """See ``CommandChannel``."""
        questions = [pack([_as_bytes(word) for word in command]) for command in commands]
        slots = [key_slot(_key_of(command)) for command in commands]
        nodes = [self._owners[slot] or await self._await_owner(slot) for slot in slots]
        replies: list[Any] = [None] * len(commands)

        async def put(node: ClusterMaster) -> None:
            numbers = [number for number, owner in enumerate(nodes) if owner is node]
            told = await node.ask(*[questions[number] for number in numbers])
            for number, reply in zip(numbers, told, strict=True):
                replies[number] = reply

        await asyncio.gather(*map(put, dict.fromkeys(nodes)))
        for number, reply in enumerate(replies):
            if _is_error(reply):
                place = slots[number], nodes[number]
                replies[number] = await self._follow(*place, reply, questions[number])
        return replies

    async def servers(self) -> Sequence[AskServer]:
        """See ``CommandChannel``."""
        await self._await_owner(0)

        async def ask(node: ClusterMaster, command: Command) -> Any:
            (reply,) = await node.ask(pack([_as_bytes(word) for word in command]))
            return reply

        return [partial(ask, node) for node in dict.fromkeys(filter(None, self._owners))]

    async def close(self) -> None:
        """See ``Lookups.close``."""
        surveying, self._surveying = self._surveying, None
        if surveying is not None:
            surveying.cancel()
            await asyncio.gather(surveying, return_exceptions=True)
        self._view = None
        self._surveyed.clear()
        await self._drop([*self._nodes])

    async def _await_owner(self, slot: int) -> ClusterMaster:
        """Return a slot's master, after the first survey if need be, within the budget."""
        if self._surveying is None:
            self._surveying = asyncio.get_running_loop().create_task(self._keep_surveying())
        with suppress(TimeoutError):
            async with limit(self._budget_seconds):
                await self._surveyed.wait()
        node = self._owners[slot]
        if node is None:
            is_known = self._view is not None
            raise StoreUnavailable(_UNSERVED if is_known else self._away)
        return node

    async def _follow(self, slot: int, node: ClusterMaster, reply: Any, question: bytes) -> Any:
        """Follow redirections; return the final reply, which may be another error."""
        for _ in range(_MOST_HOPS):
            redirect = read_redirect(node.endpoint, str(reply))
            if redirect is not None:
                node = self._get_master(redirect.endpoint)
                if redirect.is_permanent:
                    self._owners[slot] = node
                    self._survey_due.set()
                    (reply,) = await node.ask(question)
                else:
                    _, reply = await node.ask(_ASKING, question)
            elif str(reply).startswith("TRYAGAIN"):
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                (reply,) = await node.ask(question)
            if not _is_error(reply):
                break
        return reply

    def _get_master(self, endpoint: Endpoint) -> ClusterMaster:
        """Return the master at an endpoint; tracking is lost until a new one tracks."""
        node = self._nodes.get(endpoint)
        if node is None:
            means = self._connect, self._budget_seconds, self._probe_key
            node = ClusterMaster(endpoint, *means, self._tracker, self._update_tracking)
            self._nodes[endpoint] = node
            node.lookups.open()
            self._update_tracking()
        return node

    async def _drop(self, endpoints: Sequence[Endpoint]) -> None:
        dropped = [self._nodes.pop(endpoint) for endpoint in endpoints]
        self._assign_slots()
        for node in dropped:
            await node.close()
        if dropped:
            self._update_tracking()

    def _assign_slots(self) -> None:
        """Rebuild the table of owners from the view."""
        owners: list[ClusterMaster | None] = [None] * SLOTS
        for first, last, endpoint in () if self._view is None else self._view.ranges:
            owners[first : last + 1] = [self._nodes[endpoint]] * (last + 1 - first)
        self._owners = owners

    def _update_tracking(self) -> None:
        """Tell the tracker when all masters have begun to track, or one no longer does."""
        nodes = self._nodes.values()
        is_tracked = bool(nodes) and all(node.is_tracked for node in nodes)
        if not is_tracked:
            self._survey_due.set()
        if self._tracker is not None and is_tracked != self._is_tracked:
            self._is_tracked = is_tracked
            (self._tracker.on_tracking if is_tracked else self._tracker.on_lost)()

    # The survey.

    async def _keep_surveying(self) -> None:
        while True:
            self._survey_due.clear()
            try:
                await self._survey()
            except Exception as error:  # no error may end the surveys
                self._away = describe(error)
            self._surveyed.set()
            await asyncio.sleep(_REST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(SURVEY_SECONDS if self._is_calm else RETRY_SECONDS):
                    await self._survey_due.wait()

    @property
    def _is_calm(self) -> bool:
        nodes = self._nodes.values()
        return bool(nodes) and all(node.is_well for node in nodes)

    async def _survey(self) -> None:
        """Survey all masters, adopt the best view, and report if all changes were reported."""
        started = monotonic()
        heard = [node for node in self._nodes.values() if node.link is not None]
        views = await (self._hear(heard) if heard else self._visit())
        if views:
            self._accept(max(views, key=self._rank))
        await self._drop_strangers()
        for node in self._nodes.values():
            node.lookups.open()
        if self._tracker is not None and self._is_tracked:
            self._tracker.on_heard(monotonic() - started)

    def _rank(self, view: View) -> tuple[bool, int, bool]:
        """Rank a view: a node that is cut off or has a lower epoch may have missed a fail-over."""
        return view.is_well, view.epoch, view == self._view

    async def _hear(self, nodes: Sequence[ClusterMaster]) -> list[View]:
        """Return the views of masters; drop the link of one that does not answer in time."""
        surveys = {asyncio.create_task(_survey_of(node)): node for node in nodes}
        done, late = await ended(surveys, self._budget_seconds)
        for survey in late:
            surveys[survey].give_up()
            survey.cancel()
        return [view for survey in done if (view := survey.result()) is not None]

    async def _visit(self) -> list[View]:
        """Return the views of all known nodes, over connections for this one question."""
        known = {*self._seeds, *(self._view.nodes if self._view is not None else ())}
        visits = {asyncio.create_task(self._view_of(endpoint)) for endpoint in known}
        done, late = await ended(visits, self._budget_seconds / 2)
        if late and not any(visit.result() for visit in done):
            done, late = await ended(visits, self._budget_seconds / 2)
        for visit in late:
            visit.cancel()
        return [view for visit in done if (view := visit.result()) is not None]

    async def _view_of(self, endpoint: Endpoint) -> View | None:
        try:
            async with budget(self._budget_seconds):
                link = await self._connect(endpoint, VisitorLink)
                try:
                    return (await link.survey(endpoint))[1]
                finally:
                    link.abort()
        except StoreUnavailable as error:
            self._away = str(error)
            return None

    def _accept(self, view: View) -> None:
        """Adopt a view: connect to its masters."""
        if view != self._view:
            self._view = view
            for endpoint in view.masters:
                self._get_master(endpoint)
            self._assign_slots()

    async def _drop_strangers(self) -> None:
        """Forget masters without slots that are away; one that is up may get slots again."""
        masters = set() if self._view is None else self._view.masters
        away = [node for node in self._nodes.values() if node.lookups.state == "away"]
        await self._drop([node.endpoint for node in away if node.endpoint not in masters])


async def _survey_of(node: ClusterMaster) -> View | None:
    with suppress(*FAULTS):  # the link is lost, and the master has noticed it
        return await node.survey()
    return None


def _key_of(command: Command) -> bytes:
    """Return the key of a command, of those that the store uses."""
    return _as_bytes(command[3] if command[0] == "EVAL" else command[1])


def _as_bytes(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _is_error(value: Any) -> bool:
    return type(value) is hiredis.ReplyError
