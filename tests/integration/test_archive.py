"""All tokens at once, on a real Redis: nothing lost, nothing lengthened, nothing that can't end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sidecar.core.errors import NameTaken, StoreUnavailable
from sidecar.core.model import LastUse, TokenRecord
from sidecar.store.archive import RedisArchive, connect_archive
from sidecar.store.embedded import find_binary
from sidecar.store.port import MOST_RESTORED, Exported, Outcome
from sidecar.store.redis import RedisStore, connect
from tests.contract.records import DAY_SECONDS, Clock, make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import CutProxy, RedisServer, binary_of, running_redis
from tests.redis_topologies import running_cluster, running_sentinels

PREFIX = "si[de]car*:"  # what it holds means something in a glob


@dataclass
class Bench:
    """A Redis with a store and an archive on it, which share a clock."""

    server: RedisServer
    store: RedisStore
    archive: RedisArchive
    clock: Clock

    async def export(self) -> dict[str, Exported]:
        batches = [batch async for batch in self.archive.export()]
        return {token.record.id: token for batch in batches for token in batch.tokens}

    async def restore(self, *tokens: Exported) -> list[Outcome]:
        return await self.archive.restore(tokens)

    async def listed(self) -> dict[str, TokenRecord]:
        return {record.id: record for record in await self.store.list()}

    def key(self, record: TokenRecord) -> str:
        return f"{PREFIX}token:{record.digest}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(str(find_binary()), tmp_path_factory.mktemp("r")) as running:
        yield running


@pytest.fixture
async def bench(server: RedisServer) -> AsyncIterator[Bench]:
    server.command("FLUSHALL")
    clock = Clock()
    store = connect(server.unix_url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS, now=clock)
    archive = connect_archive(server.unix_url, prefix=PREFIX, now=clock)
    yield Bench(server, store, archive, clock)
    await store.close()
    await archive.close()


async def test_what_is_exported_is_all_that_the_store_has(bench: Bench) -> None:
    records = {r.id: r for r in (make_record(n, days=n % 3) for n in range(MOST_RESTORED + 50))}
    for record in records.values():
        await bench.store.create(record)
    use = LastUse(1_790_000_000.0, "203.0.113.9")
    await bench.store.record_use([(use, [make_record(7).digest])])
    exported = await bench.export()
    assert {token_id: token.record for token_id, token in exported.items()} == records
    assert exported[make_record(7).id].use == use
    assert {token.use for token in exported.values()} == {use, None}


async def test_keys_that_are_no_token_of_ours_are_counted_and_left_out(bench: Bench) -> None:
    await bench.store.create(make_record())
    for key in ("x", "0" * 64, "é" * 32):
        bench.server.command("SET", f"{PREFIX}token:{key}", "junk")
    bench.server.command("RPUSH", f"{PREFIX}token:{'1' * 64}", "a list")
    bench.server.command("SET", f"sidecar:token:{'2' * 64}", "another prefix")
    batches = [batch async for batch in bench.archive.export()]
    assert sum(batch.unreadable for batch in batches) == 4
    assert list(await bench.export()) == [make_record().id]


async def test_a_token_whose_key_ends_sooner_is_exported_with_that_end(bench: Bench) -> None:
    """An admin has shortened its life with `redis-cli EXPIRE`; a backup must not undo that."""
    for record in (make_record(1, days=0), make_record(2, days=9)):
        await bench.store.create(record)
        bench.server.command("EXPIRE", bench.key(record), 3600)
    for token in (await bench.export()).values():
        assert token.record.expires_at == pytest.approx(bench.clock() + 3600, abs=5)


async def test_a_token_past_its_own_expiry_is_not_exported(bench: Bench) -> None:
    await bench.store.create(make_record())
    bench.server.command("PERSIST", bench.key(make_record()))
    bench.clock.ahead_seconds = DAY_SECONDS + 5
    assert await bench.export() == {}


async def test_restored_tokens_are_found_listed_and_revoked_as_before(bench: Bench) -> None:
    for number in range(20):
        await bench.store.create(make_record(number, days=number % 3))
    exported, before = await bench.export(), await bench.listed()
    bench.server.command("FLUSHALL")
    assert await bench.restore(*exported.values()) == [Outcome.CREATED] * 20
    assert await bench.listed() == before
    assert await bench.export() == exported
    for record in before.values():
        assert await bench.store.look_up(record.digest) == record
        assert await bench.store.revoke(record)
    assert bench.server.command("KEYS", "*") == []


async def test_doing_it_again_changes_nothing(bench: Bench) -> None:
    token = Exported(make_record(), LastUse(1_790_000_000.0, "::1"))
    assert await bench.restore(token, token) == [Outcome.CREATED, Outcome.PRESENT]
    later = LastUse(1_790_000_060.0, "::2")
    await bench.store.record_use([(later, [token.record.digest])])
    assert await bench.restore(token) == [Outcome.PRESENT]
    assert (await bench.export())[token.record.id] == replace(token, use=later)


async def test_an_index_that_was_lost_is_written_anew(bench: Bench) -> None:
    await bench.store.create(make_record())
    exported = await bench.export()
    bench.server.command("DEL", f"{PREFIX}account:acme")
    assert await bench.listed() == {}
    assert await bench.restore(*exported.values()) == [Outcome.PRESENT]
    assert list(await bench.listed()) == [make_record().id]
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(2, name=make_record().name))


async def test_what_expired_meanwhile_stays_away(bench: Bench) -> None:
    token = Exported(make_record(days=1), LastUse(1_790_000_000.0, "::1"))
    bench.clock.ahead_seconds = DAY_SECONDS + 5
    assert await bench.restore(token) == [Outcome.EXPIRED]
    assert bench.server.command("KEYS", "*") == []


async def test_a_token_that_was_changed_since_stays_as_it_is(bench: Bench) -> None:
    """It has been rotated: its life was shortened, and a backup must not give that back."""
    old, successor = make_record(1, name="shop", days=0), make_record(2, name="shop", days=0)
    await bench.store.create(old)
    backup = await bench.export()
    await bench.store.supersede(old, successor, 3600)
    before = await bench.export()
    assert await bench.restore(*backup.values()) == [Outcome.DIFFERENT]
    assert await bench.export() == before


async def test_a_rotated_token_comes_back_without_its_name(bench: Bench) -> None:
    old, successor = make_record(1, name="shop", days=0), make_record(2, name="shop", days=0)
    await bench.store.create(old)
    await bench.store.supersede(old, successor, 3600.5)
    exported = await bench.export()
    assert {token.holds_name for token in exported.values()} == {True, False}
    bench.server.command("FLUSHALL")
    assert await bench.restore(exported[old.id], exported[successor.id]) == [Outcome.CREATED] * 2
    assert (await bench.export())[old.id] == exported[old.id]
    assert exported[old.id].record.lifetime_seconds is None
    with pytest.raises(NameTaken):
        await bench.store.supersede(exported[old.id].record, make_record(3, name="shop"), 60)
    await bench.store.supersede(successor, make_record(4, name="shop"), 60)


async def test_a_token_whose_name_was_given_away_comes_back_beside_the_other(bench: Bench) -> None:
    lost, made_since = make_record(1, name="shop"), make_record(2, name="shop")
    await bench.store.create(made_since)
    assert await bench.restore(Exported(lost)) == [Outcome.CREATED]
    assert set(await bench.listed()) == {lost.id, made_since.id}
    assert await bench.store.revoke(lost)
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(3, name="shop"))


async def test_a_name_that_a_dead_token_holds_is_taken_over(bench: Bench) -> None:
    dead = make_record(1, name="shop")
    await bench.store.create(dead)
    bench.server.command("DEL", bench.key(dead))
    bench.clock.ahead_seconds = 10
    assert await bench.restore(Exported(make_record(2, name="shop"))) == [Outcome.CREATED]
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(3, name="shop"))


async def test_no_two_tokens_of_an_account_have_one_id(bench: Bench) -> None:
    """The second would take the first one's place in the index, so the first had no end."""
    first, second = make_record(1), make_record(2).replace(id=make_record(1).id)
    elsewhere = make_record(3, account="other").replace(id=first.id)
    outcomes = await bench.restore(Exported(first), Exported(second), Exported(elsewhere))
    assert outcomes == [Outcome.CREATED, Outcome.ID_TAKEN, Outcome.CREATED]
    assert await bench.store.look_up(second.digest) is None
    assert await bench.store.list("acme") == [first]


async def test_a_record_written_meanwhile_is_not_overwritten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = make_record(1), make_record(2).replace(digest=make_record(1).digest)
    adopt = bench.archive._adopt

    async def adopt_late(tokens: list[Exported]) -> list[str | None]:
        monkeypatch.undo()
        await bench.store.create(theirs)
        return await adopt(tokens)

    monkeypatch.setattr(bench.archive, "_adopt", adopt_late)
    assert await bench.restore(Exported(ours)) == [Outcome.DIFFERENT]
    assert list((await bench.listed()).values()) == [theirs]
    assert await bench.store.find(ours.id) is None


async def test_a_restoration_cut_short_anywhere_leaves_nothing_that_cannot_be_listed_and_revoked(
    server: RedisServer, tmp_path: Path
) -> None:
    proxy = CutProxy(server)
    await proxy.start()
    tokens = [Exported(make_record(n), LastUse(1_790_000_000.0, "::1")) for n in range(3)]
    witness = connect(server.unix_url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
    for steps in range(10):
        server.command("FLUSHALL")
        doomed = connect_archive(proxy.url, prefix=PREFIX)
        proxy.allowed = steps
        try:
            await doomed.restore(tokens)
        except StoreUnavailable:
            proxy.allowed = None
            authorizing = server.command("KEYS", f"{PREFIX.translate({91: '?', 93: '?'})}token:*")
            assert len(await witness.list()) == len(authorizing)
            assert await doomed.restore(tokens)
            assert len(await witness.list()) == len(tokens)
        else:
            assert steps > 3
            break
        finally:
            proxy.allowed = None
            await doomed.close()
    else:
        raise AssertionError("it never came to its end")
    await witness.close()
    await proxy.stop()


async def test_a_cluster_is_walked_node_by_node_and_written_slot_by_slot(tmp_path: Path) -> None:
    records = {r.id: r for r in (make_record(n, days=n % 3) for n in range(MOST_RESTORED + 50))}
    use = LastUse(1_790_000_000.0, "203.0.113.9")
    with running_cluster(binary_of("debian"), tmp_path) as cluster:
        store = connect(cluster.url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
        archive = connect_archive(cluster.url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
        for record in records.values():
            await store.create(record)
        await store.record_use([(use, [make_record(7).digest])])
        backup = [token async for batch in archive.export() for token in batch.tokens]
        assert {token.record.id: token.record for token in backup} == records
        cluster.command("FLUSHALL")
        for start in range(0, len(backup), MOST_RESTORED):
            batch = backup[start : start + MOST_RESTORED]
            assert set(await archive.restore(batch)) == {Outcome.CREATED}
        assert {record.id: record for record in await store.list()} == records
        assert await store.last_uses([make_record(7)]) == {make_record(7).digest: use}
        await archive.close()
        await store.close()


async def test_behind_sentinels_the_master_is_asked_in_the_database_that_is_named(
    tmp_path: Path,
) -> None:
    record = make_record()
    with running_sentinels(binary_of("debian"), tmp_path, replicas=1, sentinels=1) as group:
        url = group.url(database=3)
        store = connect(url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
        archive = connect_archive(url, prefix=PREFIX, budget_seconds=BUDGET_SECONDS)
        await store.create(record)
        (backup,) = [token async for batch in archive.export() for token in batch.tokens]
        assert backup.record == record
        await store.revoke(record)
        assert await archive.restore([backup]) == [Outcome.CREATED]
        assert await store.look_up(record.digest) == record
        assert group.master.command("INFO", "keyspace").keys() == {"db3"}
        await archive.close()
        await store.close()
