"""Redis and issuers that are names: each is looked up on its own, whatever the resolver does."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.auth.issuers import FetchedKeys
from sidecar.core.errors import StoreUnavailable
from sidecar.store.redis import connect
from tests.contract.records import make_record
from tests.in_process import on_uvloop
from tests.patience import PATIENCE_SECONDS
from tests.redis_servers import BINARIES, RedisServer, binary_of, running_redis
from tests.redis_topologies import running_sentinels

HANGING = [f"hang{number}.test" for number in range(10)]
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
FAILURES = [
    pytest.param(socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), id="temporary"),
    pytest.param(socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), id="failure"),
    pytest.param(OSError(24, "Too many open files"), id="system"),
]


class System:
    """Stands in for the system's resolver: ``known`` names are here, ``hang*`` never answer."""

    def __init__(self) -> None:
        self.known = {"redis.test", "issuer.test"}
        self.failure: OSError = NO_NAME
        self.asked: list[str] = []
        self.is_over = threading.Event()
        self._ask = socket.getaddrinfo

    def __call__(self, host: Any, *more: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or not name.endswith(".test"):
            return self._ask(host, *more, **options)
        if options.get("flags"):
            raise NO_NAME  # it is asked whether this is a literal address
        self.asked.append(name)
        if name.startswith("hang"):
            self.is_over.wait(PATIENCE_SECONDS)
        if name not in self.known:
            raise self.failure
        return self._ask("127.0.0.1", *more, **options)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.is_over.set()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(binary_of(BINARIES[0]), tmp_path_factory.mktemp("redis")) as running:
        yield running


def test_names_that_hang_keep_no_redis_from_being_found(system: System, redis: RedisServer) -> None:
    """Ten issuers' names hang, more than a loop has threads for."""

    @on_uvloop
    async def play() -> None:
        issuers = [FetchedKeys(name, f"http://{name}/", ("ES256",)) for name in HANGING]
        fetching = [asyncio.create_task(issuer.keep_fresh()) for issuer in issuers]
        while len(system.asked) < len(HANGING):
            await asyncio.sleep(0.01)
        store = connect(f"redis://redis.test:{redis.port}", prefix="sidecar:")
        await store.ping()
        await store.create(make_record())
        assert await store.find(make_record().id, make_record().account) == make_record()
        await store.close()
        system.is_over.set()
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)

    play()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_redis_found_before_is_found_again_while_the_resolver_fails(
    system: System, redis: RedisServer, failure: OSError
) -> None:
    @on_uvloop
    async def play() -> None:
        store = connect(f"redis://redis.test:{redis.port}", prefix="sidecar:", budget_seconds=2)
        await store.ping()
        await store.list("acme")
        system.known.clear()
        system.failure = failure
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await answers(store):
                await asyncio.sleep(0.05)
        await store.close()

    play()


async def answers(store: Any) -> bool:
    try:
        await store.ping()
        await store.list("acme")
    except StoreUnavailable:
        return False
    return True


def test_a_name_that_does_not_exist_is_i_do_not_know(system: System) -> None:
    system.known.clear()

    @on_uvloop
    async def play() -> None:
        store = connect("redis://redis.test:1", prefix="sidecar:")
        with pytest.raises(StoreUnavailable, match="there is no host of this name"):
            await store.ping()
        await store.close()

    play()


def test_sentinels_that_are_names_are_looked_up_alike(system: System, tmp_path: Path) -> None:
    system.known = {f"sentinel{number}.test" for number in range(3)}

    @on_uvloop
    async def play() -> None:
        names = iter(sorted(system.known))
        url = re.sub(r"127\.0\.0\.1", lambda _: next(names), group.url())
        store = connect(url, prefix="sidecar:", budget_seconds=2)
        await store.ping()
        await store.list("acme")
        await store.close()
        assert system.known <= {*system.asked}

    with running_sentinels(binary_of(BINARIES[0]), tmp_path) as group:
        play()


def test_an_issuer_found_before_is_found_again_while_the_resolver_fails(system: System) -> None:
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"keys":[]}')
        writer.close()

    @on_uvloop
    async def play() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        issuer = FetchedKeys("i", f"http://issuer.test:{port}/keys", ("ES256",))
        await issuer._refresh()
        system.known.clear()
        system.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        issuer._connector._resolver.refresh_soon("issuer.test")
        await issuer._refresh()
        listening.close()

    play()
    assert len(requests) == 2
    assert b"Host: issuer.test" in requests[0]
