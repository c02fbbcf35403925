"""The tokens of the bench are like real ones, and nothing shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import tokens
from benchmarks.processes import BenchError
from benchmarks.redis_server import RedisServer, encode
from benchmarks.trees import ours
from sidecar.core.tokens import Shape, classify, digest
from sidecar.store import record
from sidecar.store.index import name_field
from sidecar.store.redis import connect


def test_minted_tokens_are_access_tokens_and_a_spoilt_one_has_a_bad_checksum() -> None:
    (token,) = tokens.mint(1)

    assert classify(token, tokens.PREFIX) is Shape.ACCESS
    assert classify(tokens.spoil(token), tokens.PREFIX) is Shape.BAD_CHECKSUM


def test_a_written_record_is_one_that_the_store_reads() -> None:
    (token,) = tokens.mint(1)

    _, (_, key, value, _, lifetime_ms) = tokens.sidecar_commands([token], "bench")

    assert key == f"sidecar:token:{digest(token)}".encode()
    known = record.decode(digest(token), value)
    assert known is not None
    assert known.account == "bench"
    assert int(lifetime_ms) == tokens.LIFETIME_SECONDS * 1000


def test_a_tree_writes_its_tokens_by_its_own_code() -> None:
    given = tokens.mint(3)

    written = list(tokens.commands_of(ours().checkout, given, "bench", lifetime_seconds=86400))

    records = [command for command in written if command[0] == b"SET"]
    assert [command[1] for command in records] == [tokens.sidecar_key(token) for token in given]


def test_a_tree_without_a_benchmark_can_write_none(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="does not write the records"):
        list(tokens.commands_of(tmp_path, ["a"], "bench", lifetime_seconds=86400))


def test_no_command_holds_a_token() -> None:
    given = tokens.mint(3)
    written = [*tokens.sidecar_commands(given, "bench"), *tokens.peers_commands(given, "bench")]

    sent = b"".join(map(encode, written))

    assert not any(token.encode() in sent for token in given)


def test_the_holder_shows_neither_token_nor_password() -> None:
    holder = tokens.Holder()

    assert holder.token not in repr(holder)
    assert holder.password not in repr(holder)


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert encode((b"SET", b"k", b"\r\n")) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the bench."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    server = RedisServer(tmp_path / "redis", cores=cores)
    yield server
    server.stop()


async def test_tokens_written_in_bulk_are_found_listed_and_revoked_by_the_store(
    redis: RedisServer,
) -> None:
    given = tokens.mint(3)
    redis.send(tokens.sidecar_commands(given, "bench"))
    store = connect(f"redis://127.0.0.1:{redis.port}/0", prefix=tokens.KEY_PREFIX)
    try:
        listed = await store.list("bench")

        assert {known.digest for known in listed} == {digest(token) for token in given}
        assert await store.look_up(digest(given[0])) in listed
        assert await store.revoke(listed[0])
        assert await store.list("bench") == listed[1:]
    finally:
        await store.close()


async def test_a_token_written_in_bulk_takes_the_keys_and_fields_that_the_store_writes(
    redis: RedisServer,
) -> None:
    (token,) = tokens.mint(1)
    redis.send(tokens.sidecar_commands([token], "bench"))
    store = connect(f"redis://127.0.0.1:{redis.port}/1", prefix=tokens.KEY_PREFIX)
    try:
        known = record.decode(digest(token), redis.ask(b"GET", tokens.sidecar_key(token)) or b"")
        assert known is not None
        await store.create(known)
    finally:
        await store.close()

    index, name = b"sidecar:account:bench", name_field(known.name)
    for command in (
        (b"DBSIZE",),
        (b"GET", tokens.sidecar_key(token)),
        (b"HLEN", index),
        (b"HGET", index, name),
        (b"HSTRLEN", index, known.id.encode()),
        (b"HSTRLEN", index, name),
    ):
        assert redis.ask(*command) == redis.ask(*command, database=1)
