"""Who is served next while a pool is full, and whose exchange makes room for another's.

A pool with connections to spare needs none of this and counts nothing. Once only the reserved ones
are left, its places are shared out on two levels:

- among *owners*: accounts, and for requests without one (public routes) the clients' networks;
- within an owner among its *parts*: a client's network together with a token.

A place that becomes free goes to the waiting owner that holds the fewest, within it to the part
that holds the fewest, then to whoever has waited longest. The fair share of an owner is the size of
the pool divided by the owners that hold a place or wait for one, and at least 1; that of a part is
what its owner holds, divided likewise.

One place in ``RESERVED_SHARE`` of a large pool is reserved: while only that many are free, an owner
that already holds as many does not get another. A flood of one account, or from one network, thus
never takes the whole pool, and the first request of anybody else finds a place at once.

When a request waits whose owner holds less than its share, one exchange of an owner that holds more
than its own is ended: of the one that holds most, and within it of the part that holds most. Where
the waiting request's owner has its share already, its own parts are compared in the same way. Only
exchanges that their own client holds up are ended (``ResponseSink.client_rate``), the slowest
first; tunnels and event streams come last. One that waits for the service is left alone, however
long that takes.

None of this costs more when more requests wait: those that wait are ranked by how much is held, and
exchanges are looked through in a *survey*, at most once in a while, for all that wait together.
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
_SURVEY_SHARE: Final = 20  # surveys take at most this part of the time, however large the pool is
_MOST_SERVED: Final = 32  # of those that wait, the neediest that a retry looks at
_MOST_TRIED: Final = 32  # of victims that have moved on since the survey

_Key = tuple[str, str]


class Waiter:
    """A request in line. ``future`` gets a kept connection, or ``None``: a place to open one."""

    __slots__ = ("borrower", "future", "part")

    def __init__(self, borrower: Borrower, future: Future[UpstreamConnection | None]) -> None:
        self.borrower = borrower
        self.future = future
        self.part: _Part | None = None


class _Holder:
    """An owner or a part: how many places it holds, and how many of its requests wait."""

    __slots__ = ("held", "key", "waiting")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.held = 0
        self.waiting = 0


class _Part(_Holder):
    """``held`` includes ``coming``: places that others were made to give up for it.

    ``victims`` are those of its exchanges that may be ended, by the last survey, the first to be
    ended last.
    """

    __slots__ = ("coming", "line", "owner", "victims")

    def __init__(self, key: _Key, owner: _Owner) -> None:
        super().__init__(key)
        self.owner = owner
        self.line: dict[Waiter, None] = {}
        self.coming = 0
        self.victims: list[_Victim] = []


class _Owner(_Holder):
    """``yielding`` are its parts that have victims."""

    __slots__ = ("parts", "yielding")

    def __init__(self, key: _Key) -> None:
        super().__init__(key)
        self.parts: _Level[_Part] = _Level()
        self.yielding: list[_Part] = []


class _Victim:
    """An exchange that may be ended, and its ``client_rate``."""

    __slots__ = ("borrower", "connection", "rate")

    def __init__(self, connection: UpstreamConnection, borrower: Borrower, rate: float) -> None:
        self.connection = connection
        self.borrower = borrower
        self.rate = rate

    def is_still_one(self) -> bool:
        """Tell whether the exchange goes on, and is still held up by its client."""
        connection = self.connection
        if connection.borrower is not self.borrower or connection.sink is None:
            return False
        return connection.sink.client_rate() is not None


H = TypeVar("H", bound=_Holder)


class _Level(Generic[H]):
    """The holders of one level; those that wait are ranked by how many places they hold.

    Only as many different counts are possible as add up to the places there are (of 512 at most
    32), so that the least is found as fast among ten thousand as among ten.
    """

    __slots__ = ("_waiting", "members")

    def __init__(self) -> None:
        self.members: dict[_Key, H] = {}
        self._waiting: dict[int, dict[H, None]] = {}

    def neediest(self) -> H | None:
        """Return, of those that wait, the one that holds the fewest, for the longest time."""
        waiting = self._waiting
        return next(iter(waiting[min(waiting)])) if waiting else None

    def in_need(self) -> Iterator[H]:
        """Yield those that wait, the neediest first; nothing may change meanwhile."""
        for held in sorted(self._waiting):
            yield from self._waiting[held]

    def share_of(self, places: int) -> int:
        """Return how many of so many places each may hold."""
        return max(1, places // max(1, len(self.members)))

    def change(self, holder: H, held: int, waiting: int) -> None:
        """Add to what a holder has; one that has nothing any more is forgotten."""
        if held:
            self._unrank(holder)
            holder.held += held
        holder.waiting += waiting
        if holder.waiting:
            self._waiting.setdefault(holder.held, {})[holder] = None  # keeps a place it has
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
    """The places of one pool that is, or was a moment ago, full.

    ``places`` is how many there are, ``borrowers`` are those who hold them now.
    """

    def __init__(self, places: int, borrowers: Iterable[Borrower]) -> None:
        self._places = places
        self._reserved = places // RESERVED_SHARE
        self._held = 0
        self._owners: _Level[_Owner] = _Level()
        self._yielding: list[_Part] = []
        self._is_barren = False
        self._survey_due = -inf
        self._promised: set[_Part] = set()
        self._ended: set[UpstreamConnection] = set()
        self.waiting_count = 0
        """How many requests are in line."""
        for borrower in borrowers:
            self.hold(borrower)

    def __repr__(self) -> str:
        return f"<Shares owners={len(self._owners.members)} waiting={self.waiting_count}>"

    @property
    def is_at_rest(self) -> bool:
        """Tell whether nobody waits and no place is on its way to somebody."""
        return not self.waiting_count and not self._ended

    # Holding places.

    def hold(self, borrower: Borrower) -> None:
        """Note that a borrower has one more place."""
        self._change(self._part_of(borrower), 1, 0)

    def release(self, borrower: Borrower) -> None:
        """Note that a borrower has one place less."""
        part = self._find_part(borrower)
        if part is not None and part.held > part.coming:
            self._change(part, -1, 0)

    def may_hold_more(self, borrower: Borrower) -> bool:
        """Tell whether a borrower may have one of the places that are free now."""
        owner = self._owners.members.get(_owner_key(borrower))
        return self._has_room_for(0 if owner is None else owner.held)

    # The line.

    def join(self, waiter: Waiter) -> None:
        """Put a request in line."""
        part = waiter.part = self._part_of(waiter.borrower)
        part.line[waiter] = None
        self.waiting_count += 1
        self._change(part, 0, 1)

    def leave(self, waiter: Waiter) -> None:
        """Take a request out of the line; nothing happens if it has left already."""
        part = waiter.part
        if part is None or waiter not in part.line:
            return
        self._take_out(part, waiter)
        if part.coming > part.waiting:
            part.coming -= 1
            self._change(part, -1, 0)

    def next_waiter(self) -> Waiter | None:
        """Take the request that is served next out of the line; it holds a place from now on."""
        while True:
            owner = self._owners.neediest()
            part = None if owner is None else owner.parts.neediest()
            if owner is None or part is None:
                return None
            if not self._promised and not self._has_room_for(owner.held):
                return None  # nor for the others: they hold more
            waiter = next(iter(part.line))
            if waiter.future.done():
                self.leave(waiter)
                continue
            if part.coming:
                part.coming -= 1
            else:
                self._change(part, 1, 0)
            self._take_out(part, waiter)
            return waiter

    # Making room.

    def seconds_to_survey(self) -> float:
        """Return how long it takes until exchanges may be looked through again; 0: now."""
        return max(0.0, self._survey_due - monotonic())

    def survey(self, connections: Iterable[UpstreamConnection]) -> None:
        """Look through all exchanges for those that may be ended."""
        began = monotonic()
        self._forget_survey()
        for connection in connections:
            borrower, sink = connection.borrower, connection.sink
            rate = None if borrower is None or sink is None else sink.client_rate()
            if borrower is not None and rate is not None:
                self._add_victim(_Victim(connection, borrower, rate))
        for part in self._yielding:
            part.victims.sort(key=_rate_of, reverse=True)
        ended = monotonic()
        self._survey_due = ended + max(_SURVEY_SECONDS, (ended - began) * _SURVEY_SHARE)

    def choose_for(self, waiter: Waiter) -> UpstreamConnection | None:
        """Return the connection whose exchange is to be ended for one that waits, if there is one.

        Its place is noted as its borrower's no more, and as coming to the one that waits.
        """
        part = waiter.part
        if part is None or part.coming >= part.waiting:
            return None
        victim = self._find_victim(part)
        if victim is None:
            return None
        self.release(victim.borrower)
        victim.connection.borrower = None
        self._ended.add(victim.connection)
        self._promised.add(part)
        part.coming += 1
        self._change(part, 1, 0)
        return victim.connection

    def in_need(self) -> list[Waiter]:
        """Return, of each of the neediest parts that wait, one request."""
        owners = list(islice(self._owners.in_need(), _MOST_SERVED))
        parts = [part for owner in owners for part in islice(owner.parts.in_need(), _MOST_SERVED)]
        return [next(iter(part.line)) for part in parts[:_MOST_SERVED]]

    def forget(self, connection: UpstreamConnection) -> None:
        """Note that a connection is gone. Once all that were ended are, nothing more is coming:
        who else was served with it must not cost the one it was meant for another.
        """
        if connection not in self._ended:
            return
        self._ended.discard(connection)
        if self._ended:
            return
        for part in self._promised:
            coming, part.coming = part.coming, 0
            if coming:
                self._change(part, -coming, 0)
        self._promised.clear()

    # Internals

    def _has_room_for(self, held: int) -> bool:
        """Tell whether an owner that holds so many places may have another."""
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
        if owner.held < share and not self._is_barren:
            victim = _pick([p for p in self._yielding if p.owner.held > share])
            if victim is not None:
                return victim
            self._is_barren = True  # for all: nobody need look again before the next survey
        share = owner.parts.share_of(owner.held)
        if part.held >= share or not owner.yielding:
            return None
        victim = _pick([p for p in owner.yielding if p.held > share])
        if victim is None:
            owner.yielding = []
        return victim

    def _forget_survey(self) -> None:
        for part in self._yielding:
            part.victims = []
            part.owner.yielding = []
        self._yielding = []
        self._is_barren = False

    def _add_victim(self, victim: _Victim) -> None:
        part = self._find_part(victim.borrower)
        if part is None:
            return
        if not part.victims:
            self._yielding.append(part)
            part.owner.yielding.append(part)
        part.victims.append(victim)


def _owner_key(borrower: Borrower) -> _Key:
    account = borrower.account
    return (account, "") if account else ("", network_of(borrower.client))


def _part_key(borrower: Borrower) -> _Key:
    return network_of(borrower.client), borrower.token_id


def _rate_of(victim: _Victim) -> float:
    return victim.rate


def _weight_of(part: _Part) -> tuple[bool, int, int]:
    """Return by what parts are compared: the greatest has to give up an exchange first."""
    return part.victims[-1].rate < inf, part.owner.held, part.held


def _pick(parts: list[_Part]) -> _Victim | None:
    """Take the next victim that these parts have to give up."""
    for _ in range(_MOST_TRIED):
        parts = [part for part in parts if part.victims]
        if not parts:
            return None
        victim = max(parts, key=_weight_of).victims.pop()
        if victim.is_still_one():
            return victim
    return None
