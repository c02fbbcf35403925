"""A caller's connection takes turns, so that what it sends at once delays others only briefly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.proxy.header_cache import HeaderCache
from sidecar.wire.buffers import BufferBudget
from sidecar.wire.client import MOST_REQUESTS_IN_TURN, ClientConnection
from sidecar.wire.requests import HeadCache, RequestLimits, RequestRefused
from sidecar.wire.turn_queue import UNWATCHED_WORK, TurnQueue
from tests.fake_transport import FakeTransport

GET = b"GET /z HTTP/1.1\r\nHost: a\r\n\r\n"
UNFINISHED = b"GET /z HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000


class Turns:
    """A queue whose turn is over when the test says so, or when others wait.

    It sets what the queue has measured, as nothing can inherit from a compiled class.
    """

    def __init__(self) -> None:
        self.queue = TurnQueue(asyncio.get_running_loop(), turn_seconds=0.0)
        self.is_over = False

    @property
    def is_over(self) -> bool:
        return self.queue._is_watched

    @is_over.setter
    def is_over(self, is_over: bool) -> None:
        self.queue._is_watched = is_over
        self.queue._watched_from = -1e9
        self.queue._work = UNWATCHED_WORK if is_over else -1_000_000


class Host:
    """A server that answers each request at once with a dot, and notes the order."""

    limits = RequestLimits()
    header_timeout_seconds = 7.0
    idle_timeout_seconds = 70.0
    closes_after_answers = False
    is_closing = False

    def __init__(self, budget_bytes: int = 1 << 20) -> None:
        self.cache = HeaderCache(RequestLimits())
        self.line = Turns()
        self.turns = self.line.queue
        self.buffers = BufferBudget(budget_bytes)
        self.order: list[str] = []
        self.refused: dict[str, str] = {}
        self.ended: list[str] = []
        self.judging: asyncio.Event | None = None

    def new_head_cache(self) -> HeadCache:
        return self.cache.for_connection()

    def on_opened(self, connection: ClientConnection) -> None:
        return

    def on_closed(self, connection: ClientConnection) -> None:
        return

    def on_served(self, connection: ClientConnection) -> None:
        return

    async def serve(self, connection: ClientConnection) -> None:
        name = connection.network
        try:
            while (request := await connection.next_request()) is not None:
                if self.judging is not None:
                    await self.judging.wait()
                self.order.append(name)
                connection.write(b".")
                connection.reader.cache_head(request)
        except RequestRefused as refusal:
            self.refused[name] = refusal.code
        self.ended.append(name)
        connection.close()


async def connected(host: Host, name: str) -> tuple[ClientConnection, FakeTransport]:
    client = ClientConnection(asyncio.get_running_loop(), host, name)
    transport = FakeTransport(client)
    client.connection_made(transport)
    await asyncio.sleep(0)
    return client, transport


async def hears(client: ClientConnection, data: bytes) -> None:
    """Deliver bytes as the loop does: outside of any task."""
    asyncio.get_running_loop().call_soon(client.data_received, data)
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_pipelined_requests_are_served_a_bounded_number_in_a_turn() -> None:
    host = Host()
    client, transport = await connected(host, "flood")
    await hears(client, GET * 9000)
    assert len(transport.written) <= MOST_REQUESTS_IN_TURN
    await until(lambda: len(transport.written) == 9000)


async def test_another_caller_is_served_between_two_turns_of_a_flood() -> None:
    host = Host()
    flood, _ = await connected(host, "flood")
    honest, transport = await connected(host, "honest")
    await hears(flood, GET * 5000)
    served_before = len(host.order)
    await hears(honest, GET)
    await until(lambda: transport.written == b".")
    assert host.order.index("honest") - served_before <= 2 * MOST_REQUESTS_IN_TURN
    await until(lambda: len(host.order) == 5001)


async def test_a_request_that_arrives_after_the_turn_is_queued() -> None:
    host = Host()
    host.line.is_over = True
    first, _ = await connected(host, "first")
    second, _ = await connected(host, "second")
    await hears(first, GET)
    assert host.order == []
    await hears(second, GET)
    assert len(host.turns) >= 1
    await until(lambda: len(host.order) == 2)


async def test_a_flood_of_connections_from_one_network_delays_another_by_one_of_them() -> None:
    host = Host()
    flood = [(await connected(host, "flood"))[0] for _ in range(200)]
    honest, _ = await connected(host, "honest")
    host.line.is_over = True
    loop = asyncio.get_running_loop()
    for client in [*flood, honest]:
        loop.call_soon(client.data_received, GET)
    await until(lambda: len(host.order) == 201)
    assert host.order.index("honest") <= 1


async def test_a_caller_that_disconnects_while_queued_is_forgotten() -> None:
    host = Host()
    host.line.is_over = True
    client, _ = await connected(host, "gone")
    await hears(client, GET)
    client.connection_lost(None)
    await until(lambda: not len(host.turns))
    await asyncio.sleep(0)
    assert host.order == []
    assert client.transport is None


async def test_a_deadline_that_passes_while_queued_is_not_the_callers_fault() -> None:
    host = Host()
    host.line.is_over = True
    client, transport = await connected(host, "a")
    await hears(client, GET)
    client.on_deadline()
    await until(lambda: host.order == ["a"])
    assert not transport.is_aborted
    assert host.refused == {}


async def test_a_tunnel_or_body_is_not_read_while_its_connection_is_queued() -> None:
    host = Host()
    host.judging = asyncio.Event()
    client, transport = await connected(host, "a")
    await hears(client, GET)
    for _ in range(3):
        await hears(client, b"a" * 30_000)
    assert transport.is_paused
    host.judging.set()


async def test_empty_lines_after_a_request_do_not_start_the_header_timeout() -> None:
    host = Host()
    client, transport = await connected(host, "a")
    await hears(client, GET + b"\r\n")
    await until(lambda: transport.written == b".")
    before = client.deadline
    await hears(client, b"\r\n")
    await asyncio.sleep(0)
    assert client.deadline == before
    client.on_deadline()
    await until(lambda: host.ended == ["a"])
    assert host.refused == {}
    assert transport.written == b"."


async def test_heads_that_do_not_end_share_a_budget() -> None:
    host = Host(budget_bytes=30 * 9000)
    clients = [await connected(host, f"n{number}") for number in range(30)]
    for client, _ in clients:
        await hears(client, UNFINISHED)
    assert host.buffers.held_bytes <= 30 * 9000
    await until(lambda: len(host.refused) == host.buffers.shed_total)
    assert set(host.refused.values()) == {"overloaded"}
    assert host.buffers.shed_total >= 20
    for client, _ in clients:
        await hears(client, b"\r\n\r\n")
    await until(lambda: len(host.order) == 30 - len(host.refused))
    assert host.buffers.held_bytes == 0


@pytest.mark.parametrize("piece", [b"", GET])
async def test_a_connection_whose_bytes_were_dropped_closes_after_its_response(
    piece: bytes,
) -> None:
    """Whatever follows would be read from the middle of the dropped bytes."""
    host = Host(budget_bytes=50_000)
    host.judging = asyncio.Event()
    client, transport = await connected(host, "a")
    await hears(client, GET)
    await hears(client, GET * 2000 + b"GET /se")
    assert client.refusal is not None
    await hears(client, b"cret HTTP/1.1\r\nHost: a\r\n\r\n" + piece)
    host.judging.set()
    await until(lambda: host.ended == ["a"])
    assert host.order == ["a"]
    assert transport.is_closing()
