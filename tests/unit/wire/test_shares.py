"""A full pool: which request is served next, and which exchanges are ended for it, or never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from random import Random

import pytest

from sidecar.core.errors import Overloaded
from sidecar.wire.destination import Destination
from sidecar.wire.pool import Pool
from sidecar.wire.upstream import UpstreamConnection
from tests.fake_transport import FakeTransport
from tests.unit.wire.fake_upstream import ANSWER, FakeSink, FakeUpstream

SLOW, SERVICE, STREAM = 1.0, None, inf


@dataclass(eq=False)
class Caller:
    """A borrower of a connection."""

    account: str = ""
    client: str = "203.0.113.7"
    token_id: str = ""


class Stage:
    """A pool with a few places, with its exchanges and waiting requests."""

    def __init__(self, places: int, wait_seconds: float = 20.0) -> None:
        destination = Destination("service", "h", 1, None, None, wait_seconds, places)
        self.pool = Pool(destination, asyncio.get_running_loop(), FakeUpstream().open)
        self.waiting: list[asyncio.Task[UpstreamConnection]] = []

    async def lend(self, caller: Caller, rate: float | None) -> UpstreamConnection:
        """Start an exchange of a caller."""
        connection = await self.pool.connect(caller)
        connection.start("POST", False, b"POST", rate is SERVICE, FakeSink(rate))
        return connection

    async def fill(
        self, number: int, caller: Caller, rate: float | None
    ) -> list[UpstreamConnection]:
        return [await self.lend(caller, rate) for _ in range(number)]

    async def wait(self, caller: Caller) -> asyncio.Task[UpstreamConnection]:
        task = asyncio.create_task(self.pool.connect(caller))
        self.waiting.append(task)
        await turn()
        return task

    def end(self, connection: UpstreamConnection) -> None:
        """Complete an exchange."""
        connection.reader.expect("GET", False)
        connection.data_received(ANSWER)
        connection.sent_whole_request = True
        self.pool.give_back(connection)


async def turn(times: int = 8) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def settled(is_settled: Callable[[], bool]) -> None:
    """Wait for a condition that a few surveys must make true; fail if it never is."""
    for _ in range(400):
        if is_settled():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("this never came true")


def ended(connections: list[UpstreamConnection]) -> list[int]:
    """Return which of these exchanges were ended."""
    return [n for n, connection in enumerate(connections) if connection.transport is None]


STRANGER = Caller()
ACME = Caller("acme", "203.0.113.7", "t1")
FOES = {
    "a stranger": (STRANGER, ACME),
    "a stranger, of the same address": (STRANGER, Caller("acme", STRANGER.client)),
    "an account": (Caller("zeta", "198.51.100.1", "t9"), ACME),
    "an account, from many addresses": (Caller("zeta", "198.51.100.1", "t9"), ACME),
    "another address": (STRANGER, Caller("", "198.51.100.2")),
    "another token": (ACME, Caller("acme", "203.0.113.7", "t2")),
    "another address with the same token": (ACME, Caller("acme", "198.51.100.2", "t1")),
    "a /64": (Caller("", "2001:db8::1"), Caller("", "2001:db8:0:1::1")),
}


@pytest.mark.parametrize("foes", FOES.values(), ids=FOES)
async def test_an_owner_that_holds_a_full_pool_up_makes_room_for_one_with_less(
    foes: tuple[Caller, Caller],
) -> None:
    hog, other = foes
    stage = Stage(4)
    held = await stage.fill(4, hog, SLOW)
    served = await stage.wait(other)
    assert (await served).is_open
    assert len(ended(held)) == 1
    with pytest.raises(Overloaded):
        await held[ended(held)[0]].answered()


async def test_an_upload_that_is_ended_is_cut_and_never_completed() -> None:
    stage = Stage(2)
    held = await stage.fill(2, STRANGER, SLOW)
    transports = [connection.transport for connection in held]
    await (await stage.wait(ACME))
    (number,) = ended(held)
    transport = transports[number]
    assert isinstance(transport, FakeTransport)
    assert (transport.is_aborted, transport.is_ended, transport.written) == (True, False, b"POST")


async def test_no_owner_loses_the_last_place_of_its_share() -> None:
    stage = Stage(1)
    held = await stage.fill(1, STRANGER, SLOW)
    waiting = await stage.wait(ACME)
    await asyncio.sleep(0.15)
    assert (ended(held), waiting.done()) == ([], False)


@pytest.mark.parametrize(
    ("rates", "first"),
    [
        ([SLOW, SERVICE, SERVICE, SERVICE], 0),
        ([900.0, 20.0, 0.0, 300.0], 2),
        ([STREAM, STREAM, 5000.0, SERVICE], 2),
        ([SERVICE, SERVICE, STREAM, SERVICE], 2),
    ],
    ids=["its client holds it up", "it moves least", "a stream comes last", "but comes"],
)
async def test_the_slowest_exchange_that_its_client_holds_up_is_ended_first(
    rates: list[float | None], first: int
) -> None:
    stage = Stage(4)
    held = [await stage.lend(STRANGER, rate) for rate in rates]
    await (await stage.wait(ACME))
    assert ended(held) == [first]


async def test_an_exchange_that_waits_for_the_service_is_never_ended() -> None:
    stage = Stage(4, wait_seconds=0.3)
    held = await stage.fill(4, STRANGER, SERVICE)
    with pytest.raises(Overloaded):
        await (await stage.wait(ACME))
    assert ended(held) == []


async def test_an_exchange_that_its_client_comes_to_hold_up_makes_room_later() -> None:
    stage = Stage(4)
    held = await stage.fill(4, STRANGER, SERVICE)
    waiting = await stage.wait(ACME)
    assert not waiting.done()
    assert isinstance(held[1].sink, FakeSink)
    held[1].sink.rate = 0.0
    await settled(waiting.done)
    assert ended(held) == [1]


async def test_no_owner_falls_below_its_share() -> None:
    """Two owners, six places: each may hold three, however many of one wait."""
    stage = Stage(6)
    held = await stage.fill(6, STRANGER, SLOW)
    tasks = [await stage.wait(ACME) for _ in range(9)]
    await settled(lambda: len(ended(held)) == 3)
    await asyncio.sleep(0.2)
    assert len(ended(held)) == 3
    assert [task.done() for task in tasks] == [True] * 3 + [False] * 6


async def test_an_owner_at_its_share_ends_no_other_owners_exchange() -> None:
    stage = Stage(4)
    held = await stage.fill(2, STRANGER, SLOW) + await stage.fill(2, ACME, SLOW)
    for caller in (STRANGER, ACME):
        await stage.wait(caller)
    await asyncio.sleep(0.2)
    assert ended(held) == []


async def test_of_several_owners_above_their_share_the_largest_gives_way() -> None:
    stage = Stage(9)
    lesser = await stage.fill(4, Caller("a", "198.51.100.1"), 0.0)
    greatest = await stage.fill(5, Caller("b", "198.51.100.2"), 500.0)
    await (await stage.wait(ACME))
    assert (ended(lesser), len(ended(greatest))) == ([], 1)


async def test_within_an_account_the_token_that_holds_most_gives_way() -> None:
    stage = Stage(5)
    lesser = await stage.fill(2, Caller("zeta", "198.51.100.1", "t1"), 0.0)
    greatest = await stage.fill(3, Caller("zeta", "198.51.100.1", "t2"), 500.0)
    await (await stage.wait(ACME))
    assert (ended(lesser), len(ended(greatest))) == ([], 1)


async def test_a_place_that_becomes_free_goes_to_the_owner_with_the_fewest() -> None:
    stage = Stage(4)
    few, many = Caller("few", "198.51.100.1"), Caller("many", "198.51.100.2")
    held = await stage.fill(3, many, SERVICE) + await stage.fill(1, few, SERVICE)
    order: list[str] = []
    for caller in (many, few, ACME, ACME):
        task = await stage.wait(caller)
        task.add_done_callback(lambda _, name=caller.account: order.append(name))  # type: ignore[misc]
    for connection in held:
        stage.end(connection)
        await turn()
    assert order == ["acme", "few", "many", "acme"]


async def test_equal_owners_get_places_in_rotation() -> None:
    stage = Stage(1)
    held = await stage.lend(Caller("x"), SERVICE)
    order: list[str] = []
    callers = [Caller("a"), Caller("a"), Caller("b"), Caller("a"), Caller("b")]
    for caller in callers:
        task = await stage.wait(caller)
        task.add_done_callback(lambda _, name=caller.account: order.append(name))  # type: ignore[misc]
    for _ in callers:
        stage.end(held)
        await turn()
    assert order == ["a", "b", "a", "b", "a"]


async def test_a_cancelled_request_gives_up_the_place_made_for_it() -> None:
    stage = Stage(4)
    await stage.fill(4, STRANGER, SLOW)
    leaving = asyncio.create_task(stage.pool.connect(ACME))
    await asyncio.sleep(0)
    leaving.cancel()
    await turn()
    staying = await stage.wait(Caller("other", "198.51.100.5"))
    assert (await staying).is_open
    assert stage.pool.open_count <= 4


async def test_shares_are_discarded_once_none_has_waited_for_a_while() -> None:
    stage = Stage(2)
    held = await stage.fill(2, STRANGER, SLOW)
    lent = await (await stage.wait(ACME))
    assert stage.pool._shares is not None
    for connection in [lent, *held]:
        stage.pool.give_back(connection)
    await turn()
    assert repr(stage.pool._shares) == "<Shares owners=0 waiting=0>"
    stage.pool._asked_at -= 100
    stage.pool.drop_stale()
    assert stage.pool._shares is None


async def test_a_flood_of_waiting_requests_does_not_survey_the_pool_each_time() -> None:
    looks = count()

    class Counting(FakeSink):
        def client_rate(self) -> float | None:
            next(looks)
            return super().client_rate()

    stage = Stage(31)
    for _ in range(31):
        connection = await stage.pool.connect(STRANGER)
        connection.start("POST", False, b"POST", False, Counting(SERVICE))
    addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(500)]
    tasks = [asyncio.create_task(stage.pool.connect(Caller("", each))) for each in addresses]
    await turn()
    assert stage.pool.waiting_count == len(tasks)
    assert next(looks) < 31 * 100


# The reserved places.


@pytest.mark.parametrize("hog", [STRANGER, ACME], ids=["a network", "an account"])
async def test_the_last_places_of_a_large_pool_are_left_for_those_who_hold_few(hog: Caller) -> None:
    stage = Stage(64)
    held = await stage.fill(62, hog, SERVICE)
    first, second = await stage.wait(hog), await stage.wait(hog)
    other = Caller("zeta", "198.51.100.9", "t3")
    assert (await stage.pool.connect(other)).is_open
    stage.end(held[0])
    await turn()
    assert not first.done()
    stage.end(held[1])
    assert (await first) is held[1]
    assert not second.done()


async def test_a_kept_connection_is_lent_by_the_same_rule() -> None:
    stage = Stage(64)
    held = await stage.fill(62, STRANGER, SERVICE)
    spare = await stage.lend(ACME, SERVICE)
    stage.end(spare)
    assert stage.pool.take_idle(STRANGER) is None
    assert stage.pool.take_idle(ACME) is spare
    stage.end(spare)
    waiting = await stage.wait(STRANGER)
    stage.end(held[0])
    assert (await waiting) is held[0]


async def test_a_small_pool_reserves_nothing() -> None:
    stage = Stage(31)
    assert len(await stage.fill(31, STRANGER, SERVICE)) == 31


async def test_a_request_that_waits_for_a_reserved_place_gets_the_next_unreserved_one() -> None:
    stage = Stage(64)
    held = await stage.fill(62, STRANGER, SERVICE)
    others = [await stage.lend(Caller(f"account-{n}"), SERVICE) for n in range(2)]
    waiting = await stage.wait(STRANGER)
    stage.end(others[0])
    await turn()
    stage.pool.give_back(held.pop())
    await turn()
    assert not waiting.done()
    stage.pool.give_back(held.pop())
    assert (await waiting).is_open


@pytest.mark.parametrize("seed", range(15))
async def test_no_owner_takes_a_place_reserved_for_others_and_none_starves(seed: int) -> None:
    random = Random(seed)
    stage = Stage(64)
    lent: dict[UpstreamConnection, str] = {}

    async def borrow(account: str) -> None:
        caller = Caller(account)
        connection = stage.pool.take_idle(caller) or await stage.pool.connect(caller)
        connection.start("POST", False, b"POST", True, FakeSink(SERVICE))
        lent[connection] = account
        assert list(lent.values()).count(account) <= 62

    tasks = []
    for _ in range(300):
        account = random.choice(["hog"] * 8 + ["a", "b"])
        tasks.append(asyncio.create_task(borrow(account)))
        await turn(2)
        if lent and random.random() < 0.45:
            connection = random.choice(list(lent))
            del lent[connection]
            random.choice([stage.end, stage.pool.give_back])(connection)
    while not all(task.done() for task in tasks):
        connection = next(iter(lent))
        del lent[connection]
        stage.end(connection)
        await turn(3)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("seed", range(25))
async def test_no_place_is_lost_or_counted_twice_in_any_order_of_events(
    seed: int,
) -> None:
    random = Random(seed)
    stage = Stage(5)
    callers = [STRANGER, ACME, Caller("acme", "198.51.100.2", "t2"), Caller("zeta")]
    lent: list[UpstreamConnection] = []
    tasks: set[asyncio.Task[UpstreamConnection]] = set()

    def end_one() -> None:
        connection = lent.pop(random.randrange(len(lent)))
        random.choice([stage.end, stage.pool.give_back])(connection)

    for _ in range(120):
        act = random.random()
        if act < 0.5:
            tasks.add(asyncio.create_task(stage.pool.connect(random.choice(callers))))
        elif act < 0.65 and tasks:
            random.choice([*tasks]).cancel()
        elif act < 0.9 and lent:
            end_one()
        await turn(random.randrange(4))
        for task in [task for task in tasks if task.done()]:
            tasks.discard(task)
            if not task.cancelled():
                connection = task.result()
                rate = random.choice([SLOW, SERVICE, STREAM])
                connection.start("POST", False, b"POST", rate is SERVICE, FakeSink(rate))
                lent.append(connection)
        assert stage.pool.open_count <= 5
    for task in tasks:
        task.cancel()
    await turn()
    lent += [task.result() for task in tasks if not task.cancelled()]
    while lent:
        end_one()
    await turn()
    assert repr(stage.pool._shares) == "<Shares owners=0 waiting=0>"
    assert stage.pool._shares is not None
    assert stage.pool._shares.is_idle
    assert not stage.pool._opening


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    current = asyncio.current_task()
    for task in asyncio.all_tasks() - {current}:
        task.cancel()
