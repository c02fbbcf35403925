"""What else there is where Redis is several: the portal's secret, backups, who may come in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.core.errors import StoreUnavailable
from sidecar.store.archive import RedisArchive, connect_archive
from sidecar.store.port import Outcome
from sidecar.store.portal_secret import connect_secret
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import RedisServer, binary_of
from tests.redis_topologies import running_cluster, running_sentinels

PREFIX = "sidecar:"


@dataclass(frozen=True)
class Stage:
    """Several Redis; ``command`` goes to the master of its key."""

    url: str
    command: Callable[..., Any]
    servers: list[RedisServer]


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    binary, home = binary_of("debian"), tmp_path_factory.mktemp(request.param)
    if request.param == "sentinel":
        with running_sentinels(binary, home, replicas=1) as group:
            yield Stage(group.url(2), group.master_command(2), group.servers)
    else:
        with running_cluster(binary, home) as cluster:
            yield Stage(cluster.url, cluster.command, cluster.servers)


@asynccontextmanager
async def opened(stage: Stage) -> AsyncIterator[tuple[RedisStore, RedisArchive]]:
    stage.command("FLUSHALL")
    store = connect(stage.url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
    archive = connect_archive(stage.url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
    yield store, archive
    await store.close()
    await archive.close()


async def test_the_portals_secret_is_one_for_all(stage: Stage) -> None:
    async with AsyncExitStack() as stack:
        secrets = [
            connect_secret(stage.url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
            for _ in range(5)
        ]
        for secret in secrets:
            stack.push_async_callback(secret.close)
        found = await asyncio.gather(*(secret.read() for secret in secrets))
    assert {*found} == {stage.command("GET", f"{PREFIX}portal:secret")}
    assert len(found[0]) == 32


async def test_a_backup_brings_every_token_back_with_its_end(stage: Stage) -> None:
    records = {r.id: r for r in (make_record(n, days=n % 3) for n in range(30))}
    async with opened(stage) as (store, archive):
        for record in records.values():
            await store.create(record)
        tokens = [token async for batch in archive.export() for token in batch.tokens]
        assert {token.record.id: token.record for token in tokens} == records
        stage.command("FLUSHALL")
        assert await store.list() == []
        assert await archive.restore(tokens) == [Outcome.CREATED] * 30
        assert {record.id: record for record in await store.list()} == records
        for record in records.values():
            assert await store.look_up(record.digest) == record
            left = stage.command("TTL", f"{PREFIX}token:{record.digest}")
            assert (left == -1) == (record.expires_at is None)


@pytest.mark.parametrize("user", ["sidecar", "eve"])
async def test_who_is_not_let_in_is_told_so_and_no_password_is_shown(
    stage: Stage, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for server in stage.servers:
        server.command("ACL", "SETUSER", "sidecar", "on", ">right-p4ss", "~*", "+@all")
    url = stage.url.replace("://", f"://{user}:wrong-p4ss@")
    store = connect(url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
    for call in (store.look_up("0" * 64), store.ping(), store.list()):
        with pytest.raises(StoreUnavailable, match=r"does not accept .*\(WRONGPASS\)") as caught:
            await call
        assert "p4ss" not in str(caught.value) + repr(store)
    await store.close()
    assert "p4ss" not in caplog.text
