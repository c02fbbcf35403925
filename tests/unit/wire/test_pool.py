"""Which request gets which upstream connection, in which order; and no place is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.core.errors import Overloaded, UpstreamTimeout, UpstreamUnreachable
from sidecar.wire.destination import Destination
from sidecar.wire.pool import Pool
from sidecar.wire.upstream import UpstreamConnection
from tests.fake_transport import FakeTransport
from tests.unit.wire.fake_upstream import ANSWER, FakeSink, FakeUpstream


class FakeService(FakeUpstream):
    """An upstream in memory with a pool of connections to it."""

    def __init__(self, most: int = 1, timeout_seconds: float = 20.0) -> None:
        super().__init__()
        destination = Destination(
            "service", "h", 1, connect_timeout_seconds=timeout_seconds, max_connections=most
        )
        self.pool = Pool(destination, asyncio.get_running_loop(), self.open)


def state_of(pool: Pool) -> str:
    return repr(pool).removeprefix("<Pool service ").removesuffix(">")


def use(connection: UpstreamConnection, *, is_complete: bool = True) -> None:
    """Let a lent connection serve one exchange."""
    connection.start("GET", False, b"GET / HTTP/1.1\r\n\r\n", True, FakeSink())
    if is_complete:
        connection.data_received(ANSWER)


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_an_answer_whose_caller_has_left_never_reaches_the_next_one() -> None:
    """The response was complete at the moment its caller left, so its body was never taken."""
    pool = FakeService().pool
    connection = await pool.connect()
    use(connection, is_complete=False)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nacme")
    pool.give_back(connection)
    assert pool.take_idle() is connection
    use(connection)
    assert connection.take() == b""


async def test_clean_connections_are_lent_again_the_most_recent_first() -> None:
    service = FakeService(2)
    pool = service.pool
    first, second = await pool.connect(), await pool.connect()
    for connection in (first, second):
        use(connection)
        pool.give_back(connection)
    assert state_of(pool) == "open=2 idle=2 waiting=0"
    assert [pool.take_idle(), pool.take_idle(), pool.take_idle()] == [second, first, None]


def answered_early(connection: UpstreamConnection) -> None:
    connection.start("POST", False, b"POST", False, FakeSink())
    connection.data_received(ANSWER)


def answered_before_the_whole_request(connection: UpstreamConnection) -> None:
    answered_early(connection)
    connection.note_whole_request()


def left_unanswered(connection: UpstreamConnection) -> None:
    use(connection, is_complete=False)


def said_more(connection: UpstreamConnection) -> None:
    use(connection)
    connection.data_received(b"more")


def closed(connection: UpstreamConnection) -> None:
    use(connection)
    connection.eof_received()


def left_unused(connection: UpstreamConnection) -> None:
    assert connection.served == 0


@pytest.mark.parametrize(
    "spoil",
    [
        *(answered_early, answered_before_the_whole_request),
        *(left_unanswered, said_more, closed, left_unused),
    ],
)
async def test_a_connection_that_may_hold_leftovers_is_closed(
    spoil: Callable[[UpstreamConnection], None],
) -> None:
    service = FakeService()
    pool = service.pool
    connection = await pool.connect()
    spoil(connection)
    pool.give_back(connection)
    await turn()
    assert pool.take_idle() is None
    assert state_of(pool) == "open=0 idle=0 waiting=0"


async def test_a_returned_connection_reads_again_after_a_slow_caller() -> None:
    """A pooled connection that is not read would never respond, nor notice a close."""
    service = FakeService()
    pool = service.pool
    connection = await pool.connect()
    use(connection)
    connection.set_reading(False)
    pool.give_back(connection)
    assert isinstance(connection.transport, FakeTransport)
    assert not connection.transport.is_paused


@pytest.mark.parametrize("event", ["bytes", "end", "loss"])
async def test_an_idle_connection_that_sends_or_closes_is_forgotten(event: str) -> None:
    service = FakeService()
    pool = service.pool
    connection = await pool.connect()
    use(connection)
    pool.give_back(connection)
    if event == "bytes":
        connection.data_received(ANSWER)
    elif event == "end":
        assert not connection.eof_received()
    else:
        connection.connection_lost(ConnectionResetError())
    assert pool.take_idle() is None


async def test_an_idle_connection_grows_stale() -> None:
    service = FakeService(2)
    pool = service.pool
    for _ in range(2):
        connection = await pool.connect()
        use(connection)
        pool.give_back(connection)
        connection.idle_since -= 100
    pool.drop_stale()
    await turn()
    assert state_of(pool) == "open=0 idle=0 waiting=0"
    connection = await pool.connect()
    use(connection)
    pool.give_back(connection)
    connection.idle_since -= 100
    assert pool.take_idle() is None


async def test_requests_that_find_none_get_returned_connections_in_order() -> None:
    service = FakeService()
    pool = service.pool
    lent = await pool.connect()
    waiting = [asyncio.create_task(pool.connect()) for _ in range(2)]
    await turn()
    use(lent)
    pool.give_back(lent)
    assert pool.take_idle() is None, "nobody who comes later is served before"
    await turn()
    assert [task.done() for task in waiting] == [True, False]
    assert waiting[0].result() is lent
    use(lent)
    pool.give_back(lent)
    assert await waiting[1] is lent
    assert len(service.made) == 1


async def test_a_place_that_becomes_free_goes_to_the_waiting_request() -> None:
    service = FakeService()
    pool = service.pool
    lent = await pool.connect()
    waiting = asyncio.create_task(pool.connect())
    await turn()
    pool.give_back(lent)  # unused, so it is closed
    await turn()
    assert (await waiting) is service.made[1]
    assert state_of(pool) == "open=1 idle=0 waiting=0"


async def test_a_failed_attempt_frees_its_place() -> None:
    service = FakeService()
    pool = service.pool
    service.error = ConnectionRefusedError(111, "refused")
    waiting = [asyncio.create_task(pool.connect()) for _ in range(3)]
    for task in waiting:
        with pytest.raises(UpstreamUnreachable):
            await task
    assert state_of(pool) == "open=0 idle=0 waiting=0"
    service.error = None
    assert await pool.connect() is service.made[0]


async def test_waiting_for_a_connection_ends_with_the_connect_timeout() -> None:
    service = FakeService(timeout_seconds=0.05)
    pool = service.pool
    lent = await pool.connect()
    with pytest.raises(Overloaded):
        await pool.connect()
    assert state_of(pool) == "open=1 idle=0 waiting=0"
    use(lent)
    pool.give_back(lent)
    assert pool.take_idle() is lent


async def test_connecting_ends_with_the_connect_timeout() -> None:
    service = FakeService(timeout_seconds=0.05)
    pool = service.pool
    service.gate = asyncio.get_running_loop().create_future
    with pytest.raises(UpstreamTimeout):
        await pool.connect()
    assert not pool._opening


async def test_a_connection_lost_while_opening_takes_no_place() -> None:
    service = FakeService()
    pool = service.pool
    made = await pool.connect()
    made.connection_lost(None)
    lost = UpstreamConnection(asyncio.get_running_loop(), "h:1", pool._forget)
    lost.connection_made(FakeTransport(lost))
    lost.connection_lost(None)
    assert state_of(pool) == "open=0 idle=0 waiting=0"
    lost.start("GET", False, b"", True, FakeSink())
    with pytest.raises(UpstreamUnreachable):
        await lost.answered()


@pytest.mark.parametrize("turns", range(6))
async def test_a_request_cancelled_at_any_moment_frees_its_place(turns: int) -> None:
    service = FakeService()
    pool = service.pool
    lent = await pool.connect()
    waiting = [asyncio.create_task(pool.connect()) for _ in range(3)]
    await turn(1)
    use(lent)
    pool.give_back(lent)
    await turn(turns)
    waiting[0].cancel()
    waiting[1].cancel()
    await turn()
    for task in waiting[:2]:
        if not task.cancelled():
            connection = task.result()
            use(connection)
            pool.give_back(connection)
    last = await waiting[2]
    use(last)
    pool.give_back(last)
    await turn()
    assert state_of(pool) == "open=1 idle=1 waiting=0"
    assert not pool._opening


async def test_a_caller_that_leaves_while_connecting_frees_its_place() -> None:
    service = FakeService()
    pool = service.pool
    service.gate = asyncio.get_running_loop().create_future
    task = asyncio.create_task(pool.connect())
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    service.gate = None
    assert await pool.connect() is service.made[0]


async def test_a_closed_pool_keeps_nothing() -> None:
    service = FakeService(2)
    pool = service.pool
    lent, kept = await pool.connect(), await pool.connect()
    for connection in (kept, lent):
        use(connection)
    pool.give_back(kept)
    pool.close()
    pool.give_back(lent)
    await turn()
    assert state_of(pool) == "open=0 idle=0 waiting=0"


def test_an_address_is_shown_as_configured() -> None:
    assert Destination("a", "h", 80).address == "h:80"
    assert Destination("a", "h", 80, unix_path="/run/a.sock").address == "unix:/run/a.sock"
