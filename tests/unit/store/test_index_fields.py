"""What the fields of an account's index hold, and that nothing else is taken for an entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.store.index import IndexSnapshot, _pack_entry, _sort_in, _unpack_entry, name_field
from tests.contract.records import make_record

ENTRY = bytes(range(36))
NAME = name_field("shop")


@given(st.integers(0, 2**32 - 1))
def test_an_entry_is_read_back_to_the_second(now: int) -> None:
    record = make_record()
    entry = _unpack_entry(_pack_entry(record, now + 0.5))
    assert entry is not None
    assert (entry.digest, entry.indexed_at) == (record.digest, now)


@given(st.binary(max_size=40).filter(lambda value: len(value) != 36))
def test_a_value_of_another_length_is_no_entry(value: bytes) -> None:
    assert _unpack_entry(value) is None


@pytest.mark.parametrize("value", [None, 7, "x" * 36, [ENTRY]], ids=repr)
def test_a_reply_of_another_type_is_no_entry(value: object) -> None:
    assert _unpack_entry(value) is None


@pytest.mark.parametrize("name", ["s", "n" * 100, "Łódź", "=", "\u2028x"])
def test_the_field_of_a_name_is_as_short_for_any_name(name: str) -> None:
    assert len(name_field(name)) == 13
    assert name_field(name).startswith(b"=")


def test_different_names_have_different_fields() -> None:
    assert len({name_field(f"name {number}") for number in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (b"k3j9x2qpvm0abc", ENTRY, "entry"),
        (NAME, b"k3j9x2qpvm0abc", "name"),
        (NAME, b"\xff", "name"),
        (NAME[:-1], b"k3j9x2qpvm0abc", "foreign"),
        (NAME + b"x", b"k3j9x2qpvm0abc", "foreign"),
        (b"=", b"", "foreign"),
        (b"k3j9x2qpvm0abc", ENTRY[:-1], "foreign"),
        (b"k3j9x2qpvm0abc", b"", "foreign"),
        (b"\xff\xfe", ENTRY, "foreign"),
    ],
)
def test_a_field_is_an_entry_a_name_or_foreign(field: bytes, value: bytes, expected: str) -> None:
    snapshot = IndexSnapshot()
    _sort_in(snapshot, field, value)
    found = {"entry": snapshot.entries, "name": snapshot.names, "foreign": snapshot.foreign}
    assert [kind for kind, fields in found.items() if fields] == [expected]
