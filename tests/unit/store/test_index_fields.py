"""What stands in the index of an account: ids in nine bytes, and times in three."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.tokens import ID_ALPHABET, ID_CHARS, new_id
from sidecar.store.index import _pack_entry, _unpack_entry
from sidecar.store.packed_ids import PACKED_BYTES, pack, unpack
from tests.contract.records import make_record

SPAN_SECONDS = 2**24


@given(st.text(ID_ALPHABET, min_size=ID_CHARS, max_size=ID_CHARS))
def test_an_id_comes_back_from_nine_bytes(token_id: str) -> None:
    assert len(pack(token_id)) == PACKED_BYTES
    assert unpack(pack(token_id)) == token_id


def test_every_id_that_is_made_here_has_a_packed_form() -> None:
    for _ in range(100):
        assert pack(new_id(os.urandom))


@pytest.mark.parametrize("other", ["", "token000000001", "0" * 13, "0" * 15, "A" * 14, "é" * 14])
def test_any_other_id_has_none(other: str) -> None:
    assert pack(other) == b""


@pytest.mark.parametrize("packed", [b"", b"\0" * 8, b"\0" * 10, b"\x40" + b"\0" * 8, b"\xff" * 9])
def test_bytes_that_are_no_packed_id_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="no packed id"):
        unpack(packed)


@given(st.integers(10**9, 10**10), st.integers(-60, SPAN_SECONDS - 61))
def test_the_time_of_an_entry_is_the_latest_that_it_can_mean(now: int, age_seconds: int) -> None:
    """It is right for 194 days, and for a clock that is a minute ahead of the reader's."""
    record = make_record()
    entry = _unpack_entry(_pack_entry(record, now - age_seconds + 0.5), now + 0.5)
    assert entry is not None
    assert (entry.digest, entry.indexed_at) == (record.digest, now - age_seconds)


@given(st.binary(max_size=40).filter(lambda value: len(value) not in {35, 36}))
def test_what_is_no_entry_is_none(value: bytes) -> None:
    assert _unpack_entry(value, 1e9) is None
