"""What is said of two patterns is what matching says of every path."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.pattern_cover import covers, overlap, shape_of
from sidecar.core.pattern_index import PatternIndex
from sidecar.core.patterns import compile_pattern

SEGMENTS = st.text(alphabet="ab*", max_size=5).filter(lambda text: "**" not in text)
PATTERNS = st.builds(
    lambda segments, rest: "".join(f"/{segment}" for segment in segments) + rest or "/",
    st.lists(SEGMENTS | st.just("{x}"), max_size=3),
    st.sampled_from(["", "/**"]),
)


def paths_of(pattern: str) -> list[str]:
    """Return paths that tell the pattern from every other: with nothing, each letter, a stranger
    and two of them for an asterisk, and with one and two more segments for the rest."""
    head = pattern.removesuffix("/**")
    rests = ["", "/", "/z", "/a/z", "//"] if pattern.endswith("/**") else [""]
    pieces = head.replace("{x}", "{").split("*")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        filled = [text + fill + piece for text in filled for fill in ("", "a", "b", "z", "zyx")]
    named = [text.replace("{", name) for text in filled for name in ("a", "b", "z", "ab", "zyx")]
    found = {path + rest for path in named for rest in rests}
    return [path for path in found if path.startswith("/")]


@given(PATTERNS, PATTERNS)
@example("/*", "/")
@example("/{x}", "/*")
@example("/*", "/{x}")
@example("/a*b*a", "/ab*ba")
@example("/**", "/a/**")
@example("/a/**", "/a")
@example("/a", "/a/**")
@example("/*a*", "/a")
def test_a_pattern_covers_another_if_it_matches_all_its_paths(wide: str, narrow: str) -> None:
    compiled = compile_pattern(wide)
    every = all(compiled.matches(path) for path in paths_of(narrow))
    assert covers(shape_of(wide), shape_of(narrow)) == every


def after(pair: tuple[str, str], letter: str) -> list[tuple[str, str]]:
    return [*product(after_one(pair[0], letter), after_one(pair[1], letter))]


def after_one(left: str, letter: str) -> list[str]:
    """Return what may be left of a pattern after a letter; ``+`` stands for any rest."""
    if left == "/**":
        return ["+"] if letter == "/" else []
    if left[:1] == "+":
        return ["+"]
    if left.startswith("{x}"):
        return [] if letter == "/" else ["*" + left[3:]]
    if left[:1] == "*":
        kept = [] if letter == "/" else [left]
        return kept + after_one(left[1:], letter)
    return [left[1:]] if left[:1] == letter else []


@given(PATTERNS, PATTERNS)
@example("/*", "/")
@example("/{x}", "/")
@example("/a*b", "/*ab")
@example("/a*", "/b*")
@example("/a/**", "/{x}")
@example("/a/b", "/a/**")
def test_two_patterns_overlap_if_some_path_is_of_both(one: str, other: str) -> None:
    found = [path for path in paths_of(one) if compile_pattern(other).matches(path)]
    found += [path for path in paths_of(other) if compile_pattern(one).matches(path)]
    said = overlap(shape_of(one), shape_of(other))
    assert said or not found
    assert said == is_shared(one, other)


def is_shared(one: str, other: str) -> bool:
    """Search for a path of both, letter by letter."""
    seen: set[tuple[str, str]] = set()
    pending = [(one, other)]
    while pending:
        pair = pending.pop()
        if pair in seen:
            continue
        seen.add(pair)
        if all(left.removesuffix("/**") in ("", "*", "+") for left in pair):
            return True
        pending += [pair_after for letter in "abz/" for pair_after in after(pair, letter)]
    return False


@given(st.lists(PATTERNS, max_size=12), PATTERNS)
def test_the_index_finds_what_comparing_one_by_one_finds(patterns: list[str], asked: str) -> None:
    index = PatternIndex()
    for number, pattern in enumerate(patterns):
        index.add(shape_of(pattern), number)
    shapes = [shape_of(pattern) for pattern in patterns]
    expected = [n for n, shape in enumerate(shapes) if covers(shape, shape_of(asked))]
    assert sorted(index.covering(shape_of(asked))) == expected
    shared = {n for n, shape in enumerate(shapes) if overlap(shape, shape_of(asked))}
    for number in range(len(patterns)):
        assert index.has_path_with(shape_of(asked), number.__eq__) == (number in shared)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/**", "/"),
        ("/**", "/v1/{id}"),
        ("/v1/**", "/v1"),
        ("/v1/**", "/%76%31/x"),
        ("/v1/*", "/v1/{id}"),
        ("/v1/*", "/v1/"),
        ("/v1/{id}", "/v1/{other}"),
        ("/v1/{id}", "/v1/a*"),
        ("/v1/a*", "/v1/ab*c"),
        ("/v1/{id}/**", "/v1/x/y/{z}"),
    ],
)
def test_a_pattern_covers_a_narrower_one_and_not_the_other_way_round(
    wide: str, narrow: str
) -> None:
    assert covers(shape_of(wide), shape_of(narrow))
    is_equal = shape_of(wide) == shape_of(narrow)
    assert covers(shape_of(narrow), shape_of(wide)) == is_equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/v1/{id}", "/v1"),
        ("/v1/{id}", "/v1/"),
        ("/v1/{id}", "/v2/**"),
        ("/v1/a*", "/v1/b*"),
        ("/v1/*.json", "/v1/*.xml"),
        ("/V1/**", "/v1/**"),
        ("/v1/{id}/x", "/v1/{id}"),
    ],
)
def test_patterns_without_a_common_path_do_not_overlap(one: str, other: str) -> None:
    assert not overlap(shape_of(one), shape_of(other))
    assert not overlap(shape_of(other), shape_of(one))
