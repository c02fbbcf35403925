"""Redis stopped, killed, loading, demoted, full or locked: "I don't know" in time, and healing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sidecar.core.errors import Overloaded, StoreUnavailable
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.patience import PATIENCE_SECONDS
from tests.redis_servers import BINARIES, RedisServer, binary_of, running_redis
from tests.store_load import Load

MOST_SECONDS = 15.0
"""Far beyond the budget of 250 ms: a call without one would hang, on the busiest machine too."""


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(binary_of(request.param), tmp_path) as running:
        yield running


@pytest.fixture
async def store(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[RedisStore]:
    """One Redis is reached by TCP, the other by its unix socket."""
    is_tcp = request.node.callspec.params["server"] == BINARIES[0]
    made = connect(server.url if is_tcp else server.unix_url, prefix="sidecar:")
    await made.create(make_record())
    assert await made.look_up(make_record().digest) == make_record()
    yield made
    await made.close()


def load_on(store: RedisStore, concurrency: int = 64) -> Load:
    return Load(store.look_up, [make_record()], concurrency)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.01)


async def healed_within(store: RedisStore, seconds: float) -> bool:
    """Tell whether a look-up succeeds before so many seconds are over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return await store.look_up(make_record().digest) == make_record()
        except StoreUnavailable:
            await asyncio.sleep(0.01)
    return False


async def test_a_stopped_redis_is_unavailable_in_time_and_heals_by_itself(
    store: RedisStore, server: RedisServer
) -> None:
    async with load_on(store) as load:
        await asyncio.sleep(0.1)
        server.pause()
        await until(lambda: load.outcomes["unavailable"] > 64)
        during = load.outcomes.copy()
        server.resume()
        assert await healed_within(store, PATIENCE_SECONDS)
        await until(lambda: load.outcomes["good"] > during["good"])
    assert load.outcomes["WRONG"] == 0
    assert load.slowest_seconds < MOST_SECONDS


async def test_a_killed_redis_is_unavailable_at_once_and_heals_when_it_is_back(
    store: RedisStore, server: RedisServer
) -> None:
    server.command("CONFIG", "SET", "appendonly", "yes")
    record = make_record()
    dumped = server.command("DUMP", f"sidecar:token:{record.digest}")
    async with load_on(store) as load:
        server.kill()
        await until(lambda: load.outcomes["unavailable"] > 0)
        server.start()
        server.command("DEL", f"sidecar:token:{record.digest}")
        server.command("RESTORE", f"sidecar:token:{record.digest}", 0, dumped)
        assert await healed_within(store, PATIENCE_SECONDS)
    assert load.slowest_seconds < MOST_SECONDS


async def test_every_other_call_ends_in_time_too(store: RedisStore, server: RedisServer) -> None:
    server.pause()
    record = make_record(2)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: store.create(record),
        "list": store.list,
        "list one": lambda: store.list("acme"),
        "find": lambda: store.find(record.id),
        "revoke": lambda: store.revoke(record),
        "supersede": lambda: store.supersede(make_record(), record, 60),
        "last_uses": lambda: store.last_uses([record]),
        "ping": store.ping,
    }
    for name, call in calls.items():
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await call()
        assert time.monotonic() - started < MOST_SECONDS, name
    server.resume()


async def test_an_outage_costs_no_memory(store: RedisStore, server: RedisServer) -> None:
    async with load_on(store, concurrency=500):
        server.pause()
        await asyncio.sleep(0.5)
        before = resident_bytes()
        await asyncio.sleep(2)
        grown = resident_bytes() - before
        server.resume()
    assert grown < 8 << 20


async def test_the_queue_of_look_ups_is_bounded(store: RedisStore, server: RedisServer) -> None:
    server.pause()
    digest = make_record().digest
    outcomes = await asyncio.gather(
        *(store.look_up(digest) for _ in range(40_000)), return_exceptions=True
    )
    server.resume()
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable, Overloaded}
    assert any("waiting" in str(outcome) for outcome in outcomes)
    assert await healed_within(store, PATIENCE_SECONDS)


async def test_connections_that_redis_closes_cost_no_look_up(
    store: RedisStore, server: RedisServer
) -> None:
    async with load_on(store, concurrency=16) as load:
        for _ in range(10):
            await asyncio.sleep(0.05)
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert load.outcomes["unavailable"] == 0
    assert load.outcomes["good"] > 100


async def test_a_master_that_becomes_a_replica_is_not_asked_any_more(
    store: RedisStore, server: RedisServer
) -> None:
    server.command("REPLICAOF", "127.0.0.1", "1")
    async with load_on(store, concurrency=4) as load:
        await until(lambda: load.outcomes["unavailable"] > 0)
        await asyncio.sleep(1.2)
        load.outcomes.clear()
        await until(lambda: load.outcomes["unavailable"] > 20)
        assert set(load.outcomes) == {"unavailable"}
        with pytest.raises(StoreUnavailable):
            await store.create(make_record(2))
        with pytest.raises(StoreUnavailable):
            await store.ping()
        server.command("REPLICAOF", "NO", "ONE")
        assert await healed_within(store, PATIENCE_SECONDS)


async def test_a_full_redis_is_read_and_not_written_and_tokens_can_still_be_revoked(
    store: RedisStore, server: RedisServer
) -> None:
    server.command("CONFIG", "SET", "maxmemory", "1")
    assert await store.look_up(make_record().digest) == make_record()
    with pytest.raises(StoreUnavailable):
        await store.create(make_record(2))
    with pytest.raises(StoreUnavailable):
        await store.ping()
    assert await store.revoke(make_record()) is True
    assert await store.look_up(make_record().digest) is None


async def test_a_redis_that_loads_its_data_counts_as_away(tmp_path: Path) -> None:
    settings = ["--enable-debug-command", "local"]
    with running_redis(binary_of("debian"), tmp_path, *settings) as server:
        store = connect(server.url, prefix="sidecar:")
        await store.create(make_record(days=0))
        server.command("DEBUG", "POPULATE", "2000")
        server.command("SAVE")
        server.kill()
        slowly = ["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"]
        server.spawn(*slowly)
        reasons = set()
        for _ in range(50):
            try:
                await store.look_up(make_record().digest)
                break
            except StoreUnavailable as error:
                reasons.add(str(error))
            await asyncio.sleep(0.1)
        assert "Redis is loading its data (LOADING)" in reasons
        assert await store.look_up(make_record(days=0).digest) == make_record(days=0)
        await store.close()


@pytest.mark.parametrize(
    ("user", "code"), [("", "NOAUTH"), (":wrong-password@", "WRONGPASS"), ("eve:x@", "WRONGPASS")]
)
async def test_a_redis_that_lets_us_not_in_is_unavailable_and_no_password_is_told(
    tmp_path: Path, user: str, code: str
) -> None:
    with running_redis(binary_of("debian"), tmp_path, "--requirepass", "right-password") as server:
        store = connect(server.url.replace("//", f"//{user}"), prefix="sidecar:")
        calls: list[Callable[[], Awaitable[object]]]
        calls = [lambda: store.look_up("0" * 64), store.ping, store.list]
        for call in calls:
            with pytest.raises(StoreUnavailable) as caught:
                await call()
            assert "-password" not in str(caught.value) + repr(store)
        with pytest.raises(StoreUnavailable, match=code):
            await store.look_up("0" * 64)
        await store.close()
        friend = connect(server.url.replace("//", "//:right-password@"), prefix="sidecar:")
        await friend.ping()
        await friend.close()


async def test_a_right_that_is_missing_is_named(tmp_path: Path) -> None:
    with running_redis(binary_of("debian"), tmp_path) as server:
        rights = ["~sidecar:*", "+@all", "-mget", "-hscan"]
        server.command("ACL", "SETUSER", "sidecar", "on", ">pass word", *rights)
        url = server.url.replace("//", "//sidecar:pass%20word@")
        store = connect(url, prefix="sidecar:")
        with pytest.raises(StoreUnavailable, match=r"NOPERM for mget.*"):
            await store.look_up("0" * 64)
        with pytest.raises(StoreUnavailable, match=r"NOPERM for hscan"):
            await store.list("acme")
        await store.close()


async def test_no_token_reaches_redis_in_the_clear(tmp_path: Path) -> None:
    """What is sent holds digests alone, so ``MONITOR`` shows no token."""
    with running_redis(binary_of("debian"), tmp_path) as server:
        store = connect(server.url, prefix="sidecar:")
        await store.create(make_record())
        for key in server.command("KEYS", "*"):
            assert b"secret" not in server.command("DUMP", key)
        await store.close()


@pytest.mark.parametrize("loop_kind", ["slow bytes", "nonsense", "silence", "hangs up"])
async def test_something_that_is_no_redis_is_unavailable_in_time(loop_kind: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if loop_kind == "hangs up":
                return
            await reader.read(100)
            if loop_kind == "nonsense":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while loop_kind != "nonsense":
                await asyncio.sleep(0.05)
                writer.write(b"%" if loop_kind == "slow bytes" else b"")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    store = connect(f"redis://127.0.0.1:{port}", prefix="sidecar:")
    calls: list[Callable[[], Awaitable[object]]]
    calls = [lambda: store.look_up("0" * 64), store.ping, store.list]
    for call in calls:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await call()
        assert time.monotonic() - started < MOST_SECONDS
    await store.close()
    listener.close()
