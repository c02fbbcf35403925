"""The tokens of the bench are like real ones, and nothing shows them."""

from __future__ import annotations

from benchmarks import tokens
from benchmarks.redis_server import encode
from sidecar.core.tokens import Shape, classify, digest
from sidecar.store import record


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
