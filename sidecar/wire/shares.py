"""Who is served next while a pool is full, and whose exchange is ended to make room for another.

A pool with connections to spare needs none of this and counts nothing. Once only the reserved ones
are left, its places are shared out on two levels:

- among *owners*: accounts, and for requests without one (public routes) the clients' networks;
- within an owner, among its *parts*: each a client's network together with a token.

A place that becomes free goes to the waiting owner that holds the fewest places, within it to the
part that holds the fewest, and within that to the request that has waited longest. The fair share
of an owner is the size of the pool divided by the number of owners that hold a place or wait for
one, and at least 1; the fair share of a part is what its owner holds, divided likewise.

One place in ``RESERVED_SHARE`` of a large pool is reserved: while only that many are free, an owner
that already holds as many gets no more. So a flood from one account, or from one network, never
takes the whole pool, and the first request of anyone else finds a place at once.

When a request waits and its owner holds less than its share, one exchange of an owner that holds
more than its share is ended: of the owner that holds most, and within it of the part that holds
most. If the waiting request's owner already has its share, its own parts are compared in the same
way. Only exchanges that are held up by their own client are ended (``ResponseSink.client_rate``),
the slowest first; tunnels and event streams come last. An exchange that waits for the service is
left alone, however long that takes.

The cost does not grow with the number of waiting requests: they are ranked by how many places their
owner holds, and exchanges are looked through in a *survey*, which is rate-limited and serves all
waiting requests at once.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Iterator
from itertools import islice
from math import inf
from time import monotonic
from typing import Final, Generic, TypeVar

from sidecar.core.subjects import network_of
from sidecar.wire.upstream import Borrower, UpstreamConnection

RESERVED_SHARE: Final = 32
_SURVEY_SECONDS: Final = 0.05
_SURVEY_SHARE: Final = 20  # surveys take at most 1/20 of the time, however large the pool is
_MOST_SERVED: Final = 32  # the neediest waiting requests that a retry looks at
_MOST_TRIED: Final = 32  # victims that a choice looks at: they may have moved since the survey

_Key = tuple[str, str]


class Waiter:
    """A waiting request. ``future`` gets a kept connection, or ``None``: a place to open one."""

    __slots__ = ("borrower", "future", "part")

    def __init__(self, borrower: Borrower, future: Future[UpstreamConnection | None]) -> None:
        self.borrower = borrower
        self.future = future
        self.part: _Part | None = None


class _Holder:
    """An owner or a part, with the number of places it holds and of its requests that wait."""

    __slots__ = ("held", "key", "waiting")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.held = 0
        self.waiting = 0


class _Part(_Holder):
    """``held`` includes ``promised``: places that others had to give up for it.

    ``victims`` are those of its exchanges that may be ended according to the last survey; the last
    of them is ended first.
    """

    __slots__ = ("line", "owner", "promised", "victims")

    def __init__(self, key: _Key, owner: _Owner) -> None:
        super().__init__(key)
        self.owner = owner
        self.line: dict[Waiter, None] = {}
        self.promised = 0
        self.victims: list[_Victim] = []


class _Owner(_Holder):
    """``preemptible`` are those of its parts that have victims."""

    __slots__ = ("parts", "preemptible")

    def __init__(self, key: _Key) -> None:
        super().__init__(key)
        self.parts: _Level[_Part] = _Level()
        self.preemptible: list[_Part] = []


class _Victim:
    """An exchange that may be ended, with its ``client_rate``."""

    __slots__ = ("borrower", "connection", "rate")

    def __init__(self, connection: UpstreamConnection, borrower: Borrower, rate: float) -> None:
        self.connection = connection
        self.borrower = borrower
        self.rate = rate

    def is_still_one(self) -> bool:
        """Tell whether the exchange is still running, and still held up by its client."""
        connection = self.connection
        if connection.borrower is not self.borrower or connection.sink is None:
            return False
        return connection.sink.client_rate() is not None


H = TypeVar("H", bound=_Holder)


class _Level(Generic[H]):
    """The holders of one level; those that wait are ranked by how many places they hold.

    The counts add up to the size of the pool, so few of them can differ (at most 32 in a pool of
    512), and the least is found as fast among ten thousand holders as among ten.
    """

    __slots__ = ("_waiting", "members")

    def __init__(self) -> None:
        self.members: dict[_Key, H] = {}
        self._waiting: dict[int, dict[H, None]] = {}

    def neediest(self) -> H | None:
        """Return the waiting holder with the fewest places; among equals, the one longest so."""
        waiting = self._waiting
        return next(iter(waiting[min(waiting)])) if waiting else None

    def by_need(self) -> Iterator[H]:
        """Yield the waiting holders, the neediest first; none may change in the meantime."""
        for held in sorted(self._waiting):
            yield from self._waiting[held]

    def share_of(self, places: int) -> int:
        """Return each holder's fair share of ``places``."""
        return max(1, places // max(1, len(self.members)))

    def change(self, holder: H, held: int, waiting: int) -> None:
        """Add to a holder's counts, and forget it once both are zero."""
        if held:
            self._unrank(holder)
            holder.held += held
        holder.waiting += waiting
        if holder.waiting:
            self._waiting.setdefault(holder.held, {})[holder] = None  # keeps its rank if it has one
        else:
            self._unrank(holder)
        if not holder.held and not holder.waiting:
            self.members.pop(holder.key, None)

    def _unrank(self, holder: H) -> None:
        rank = self._waiting.get(holder.held)
        if rank is not None:
            rank.pop(holder, None)
            if not rank:
                del self._waiting[holder.held]


class Shares:
    """The places of one pool that is full, or was a moment ago.

    ``places`` is the size of the pool, ``borrowers`` are those who hold places now.
    """

    def __init__(self, places: int, borrowers: Iterable[Borrower]) -> None:
        self._places = places
        self._reserved = places // RESERVED_SHARE
        self._held = 0
        self._owners: _Level[_Owner] = _Level()
        self._preemptible: list[_Part] = []
        self._has_no_victims = False
        self._survey_due = -inf
        self._promised: set[_Part] = set()
        self._ended: set[UpstreamConnection] = set()
        self.waiting_count = 0
        """How many requests wait."""
        for borrower in borrowers:
            self.hold(borrower)

    def __repr__(self) -> str:
        return f"<Shares owners={len(self._owners.members)} waiting={self.waiting_count}>"

    @property
    def is_idle(self) -> bool:
        """Tell whether no request waits and no promised place is outstanding."""
        return not self.waiting_count and not self._ended

    # Holding places.

    def hold(self, borrower: Borrower) -> None:
        """Count one more place for a borrower."""
        self._change(self._part_of(borrower), 1, 0)

    def release(self, borrower: Borrower) -> None:
        """Count one place fewer for a borrower."""
        part = self._find_part(borrower)
        if part is not None and part.held > part.promised:
            self._change(part, -1, 0)

    def may_hold_more(self, borrower: Borrower) -> bool:
        """Tell whether a borrower may take one of the free places."""
        owner = self._owners.members.get(_owner_key(borrower))
        return self._has_room_for(0 if owner is None else owner.held)

    # Waiting.

    def join(self, waiter: Waiter) -> None:
        """Add a waiting request."""
        part = waiter.part = self._part_of(waiter.borrower)
        part.line[waiter] = None
        self.waiting_count += 1
        self._change(part, 0, 1)

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiting request; does nothing if it is not waiting any more."""
        part = waiter.part
        if part is None or waiter not in part.line:
            return
        self._take_out(part, waiter)
        if part.promised > part.waiting:
            part.promised -= 1
            self._change(part, -1, 0)

    def next_waiter(self) -> Waiter | None:
        """Remove and return the request to serve next; its borrower now holds a place."""
        while True:
            owner = self._owners.neediest()
            part = None if owner is None else owner.parts.neediest()
            if owner is None or part is None:
                return None
            if not self._promised and not self._has_room_for(owner.held):
                return None  # nor has any other: they hold more
            waiter = next(iter(part.line))
            if waiter.future.done():
                self.leave(waiter)
                continue
            if part.promised:
                part.promised -= 1
            else:
                self._change(part, 1, 0)
            self._take_out(part, waiter)
            return waiter

    # Making room.

    def seconds_to_survey(self) -> float:
        """Return how long it is until the next survey may be made; 0: now."""
        return max(0.0, self._survey_due - monotonic())

    def survey(self, connections: Iterable[UpstreamConnection]) -> None:
        """Look through all exchanges for those that may be ended (victims)."""
        began = monotonic()
        self._forget_survey()
        for connection in connections:
            borrower, sink = connection.borrower, connection.sink
            rate = None if borrower is None or sink is None else sink.client_rate()
            if borrower is not None and rate is not None:
                self._add_victim(_Victim(connection, borrower, rate))
        for part in self._preemptible:
            part.victims.sort(key=_rate_of, reverse=True)
        ended = monotonic()
        self._survey_due = ended + max(_SURVEY_SECONDS, (ended - began) * _SURVEY_SHARE)

    def choose_victim(self, waiter: Waiter) -> UpstreamConnection | None:
        """Return the connection whose exchange is to be ended for a waiting request, if any.

        Its place no longer counts for its borrower: it is promised to the waiting request.
        """
        part = waiter.part
        if part is None or part.promised >= part.waiting:
            return None
        victim = self._find_victim(part)
        if victim is None:
            return None
        self.release(victim.borrower)
        victim.connection.borrower = None
        self._ended.add(victim.connection)
        self._promised.add(part)
        part.promised += 1
        self._change(part, 1, 0)
        return victim.connection

    def neediest_waiters(self) -> list[Waiter]:
        """Return one request of each of the neediest waiting parts."""
        owners = list(islice(self._owners.by_need(), _MOST_SERVED))
        parts = [part for owner in owners for part in islice(owner.parts.by_need(), _MOST_SERVED)]
        return [next(iter(part.line)) for part in parts[:_MOST_SERVED]]

    def forget(self, connection: UpstreamConnection) -> None:
        """Note that a connection is gone. Once all ended ones are, drop the promises that are left:
        the place went to another request, and must not be counted for both.
        """
        if connection not in self._ended:
            return
        self._ended.discard(connection)
        if self._ended:
            return
        for part in self._promised:
            promised, part.promised = part.promised, 0
            if promised:
                self._change(part, -promised, 0)
        self._promised.clear()

    # Internals

    def _has_room_for(self, held: int) -> bool:
        """Tell whether an owner that holds ``held`` places may have another."""
        free = self._places - self._held
        return free > self._reserved or (free > 0 and held < self._reserved)

    def _find_part(self, borrower: Borrower) -> _Part | None:
        owner = self._owners.members.get(_owner_key(borrower))
        return None if owner is None else owner.parts.members.get(_part_key(borrower))

    def _part_of(self, borrower: Borrower) -> _Part:
        key = _owner_key(borrower)
        owner = self._owners.members.get(key)
        if owner is None:
            owner = self._owners.members[key] = _Owner(key)
        key = _part_key(borrower)
        part = owner.parts.members.get(key)
        if part is None:
            part = owner.parts.members[key] = _Part(key, owner)
        return part

    def _change(self, part: _Part, held: int, waiting: int) -> None:
        owner = part.owner
        self._held += held
        owner.parts.change(part, held, waiting)
        self._owners.change(owner, held, waiting)

    def _take_out(self, part: _Part, waiter: Waiter) -> None:
        del part.line[waiter]
        self.waiting_count -= 1
        self._change(part, 0, -1)

    def _find_victim(self, part: _Part) -> _Victim | None:
        owner = part.owner
        share = self._owners.share_of(self._places)
        if owner.held < share and not self._has_no_victims:
            victim = _pick([p for p in self._preemptible if p.owner.held > share])
            if victim is not None:
                return victim
            self._has_no_victims = True  # for any owner, until the next survey
        share = owner.parts.share_of(owner.held)
        if part.held >= share or not owner.preemptible:
            return None
        victim = _pick([p for p in owner.preemptible if p.held > share])
        if victim is None:
            owner.preemptible = []
        return victim

    def _forget_survey(self) -> None:
        for part in self._preemptible:
            part.victims = []
            part.owner.preemptible = []
        self._preemptible = []
        self._has_no_victims = False

    def _add_victim(self, victim: _Victim) -> None:
        part = self._find_part(victim.borrower)
        if part is None:
            return
        if not part.victims:
            self._preemptible.append(part)
            part.owner.preemptible.append(part)
        part.victims.append(victim)


def _owner_key(borrower: Borrower) -> _Key:
    account = borrower.account
    return (account, "") if account else ("", network_of(borrower.client))


def _part_key(borrower: Borrower) -> _Key:
    return network_of(borrower.client), borrower.token_id


def _rate_of(victim: _Victim) -> float:
    return victim.rate


def _weight_of(part: _Part) -> tuple[bool, int, int]:
    """Return the key by which parts are compared: the greatest gives up an exchange first."""
    return part.victims[-1].rate < inf, part.owner.held, part.held


def _pick(parts: list[_Part]) -> _Victim | None:
    """Remove and return the next victim among these parts."""
    for _ in range(_MOST_TRIED):
        parts = [part for part in parts if part.victims]
        if not parts:
            return None
        victim = max(parts, key=_weight_of).victims.pop()
        if victim.is_still_one():
            return victim
    return None
