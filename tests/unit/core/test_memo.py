"""A memo never grows beyond its bound, and gives back what was put in last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.memo import BoundedMemo


def test_an_unknown_key_has_no_value() -> None:
    memo: BoundedMemo[str, int] = BoundedMemo(2)
    assert memo.get("a") is None


def test_a_full_memo_is_emptied_for_the_next_entry() -> None:
    memo: BoundedMemo[str, int] = BoundedMemo(2)
    for number, key in enumerate("abc"):
        memo.put(key, number)
    assert [memo.get(key) for key in "abc"] == [None, None, 2]


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_it_never_holds_more_than_its_bound(keys: list[int], max_entries: int) -> None:
    memo: BoundedMemo[int, int] = BoundedMemo(max_entries)
    for key in keys:
        memo.put(key, key * key)
        assert memo.get(key) == key * key
        assert len(memo) <= max_entries
