"""Lists of patterns: long ones answer as short ones do, and cost no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.path_index import PathIndex, PathList
from sidecar.core.patterns import PathPattern, compile_pattern

TEXTS = st.lists(
    st.sampled_from(["a", "b", "ab", "{x}", "*", "a*", "*b", "a*b", "*a*", "*ba*", "*a*b*c", ""]),
    min_size=1,
    max_size=3,
).map(lambda segments: "/" + "/".join(segments))
PATTERNS = st.builds(
    lambda text, rest: compile_pattern(text + rest), TEXTS, st.sampled_from(["", "/**"])
)
PATHS = st.text(alphabet="abc/", max_size=12).map(lambda text: "/" + text)


@given(st.lists(PATTERNS, max_size=40), PATHS)
def test_a_list_covers_a_path_if_one_of_its_patterns_does(
    patterns: list[PathPattern], path: str
) -> None:
    listed = [pattern for pattern in patterns if pattern.matches(path)]
    assert PathList(patterns).covers(path) == bool(listed)


@given(st.lists(PATTERNS, max_size=40), PATHS)
def test_an_index_finds_the_value_of_each_pattern_that_matches_and_no_other(
    patterns: list[PathPattern], path: str
) -> None:
    index: PathIndex[list[str]] = PathIndex()
    for pattern in patterns:
        index.put(pattern, []).append(pattern.text)
    found = sorted(text for texts in index.find(path) for text in texts)
    assert found == sorted(p.text for p in patterns if p.matches(path))


@pytest.mark.parametrize("path", ["", "a", "a/b"])
def test_what_does_not_begin_with_a_slash_is_no_path(path: str) -> None:
    index: PathIndex[int] = PathIndex()
    index.put(compile_pattern("/{x}"), 1)
    index.put(compile_pattern("/{x}/{y}"), 2)
    assert index.find(path) == []


def test_patterns_that_differ_in_a_name_alone_share_a_value() -> None:
    index: PathIndex[int] = PathIndex()
    assert index.put(compile_pattern("/l/{id}"), 1) == 1
    assert index.put(compile_pattern("/l/{key}"), 2) == 1
    assert index.put(compile_pattern("/l/*"), 3) == 3
    assert sorted(index.find("/l/a")) == [1, 3]
    assert index.find("/l/") == [3]


@pytest.mark.parametrize("size", [1, 16, 17, 5000])
def test_an_account_with_many_paths_may_use_these_and_no_others(size: int) -> None:
    paths = PathList(compile_pattern(f"/v1/shop-{i}/**") for i in range(size))
    assert paths
    assert paths.covers(f"/v1/shop-{size - 1}/orders")
    assert not paths.covers(f"/v1/shop-{size}/orders")
    assert not paths.covers("/v1/shop-")


def test_an_empty_list_covers_nothing() -> None:
    assert not PathList()
    assert not PathList().covers("/")
