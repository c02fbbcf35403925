"""Path patterns mean exactly what a naive reading of them means, and never take long."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.patterns import compile_pattern, normalise_path


def is_match(pattern: str, path: str) -> bool:
    """Match by trying everything: the specification, slow and plain."""
    if pattern.endswith("/**"):
        head = pattern[:-3]
        ends = [at for at in range(len(path) + 1) if at == len(path) or path[at] == "/"]
        return any(is_match_of_segments(head, path[:at]) for at in ends)
    return is_match_of_segments(pattern, path)


def is_match_of_segments(pattern: str, path: str) -> bool:
    wanted, given_segments = pattern.split("/"), path.split("/")
    return len(wanted) == len(given_segments) and all(
        segment != "" if glob.startswith("{") else is_glob_match(glob, segment)
        for glob, segment in zip(wanted, given_segments, strict=True)
    )


@cache
def is_glob_match(glob: str, segment: str) -> bool:
    if not glob:
        return not segment
    if glob[0] == "*":
        return is_glob_match(glob[1:], segment) or (
            segment != "" and is_glob_match(glob, segment[1:])
        )
    return segment != "" and segment[0] == glob[0] and is_glob_match(glob[1:], segment[1:])


SEGMENTS = st.text(alphabet="ab.*", max_size=7).filter(
    lambda text: "**" not in text and text not in (".", "..")
)
PATTERNS = st.builds(
    lambda segments, rest: "".join(f"/{segment}" for segment in segments) + rest,
    st.lists(SEGMENTS | st.just("{x}"), min_size=1, max_size=4),
    st.sampled_from(["", "/**"]),
)
PATHS = st.text(alphabet="ab./", max_size=14).map(lambda text: "/" + text)


@given(PATTERNS, PATHS)
@example("/*ab*ba", "/aba")
@example("/a*/**", "/ab")
@example("/*a", "/aa/a")
@example("/*", "/")
@example("/**", "/")
def test_a_pattern_matches_what_a_naive_reading_matches(pattern: str, path: str) -> None:
    assert compile_pattern(pattern).matches(path) == is_match(pattern, path)


@given(PATTERNS, st.data())
def test_a_pattern_matches_paths_made_from_it(pattern: str, data: st.DataObject) -> None:
    filler = st.text(alphabet="ab.", max_size=3)
    path = pattern.removesuffix("/**").replace("{x}", "b")
    while "*" in path:
        path = path.replace("*", data.draw(filler), 1)
    assert compile_pattern(pattern).matches(path or "/") == is_match(pattern, path or "/")
    assert compile_pattern(pattern).matches(path) or not path


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/", ["/"], ["", "//", "/a"]),
        ("/status", ["/status"], ["/status/", "/STATUS", "/statusx", "/a/status", "/status\n"]),
        ("/l/{id}", ["/l/a", "/l/a.b-c", "/l/%20"], ["/l/", "/l", "/l/a/", "/l/a/b", "//l/a"]),
        ("/l/{id}/x", ["/l/a/x"], ["/l//x", "/l/a/b/x", "/l/x"]),
        ("/l/a1*", ["/l/a1", "/l/a1b", "/l/a1.b"], ["/l/a", "/l/a1/", "/l/a1/b", "/l/ba1"]),
        ("/l/*/x", ["/l/a/x", "/l//x"], ["/l/x", "/l/a/b/x"]),
        ("/*.json", ["/.json", "/a.json"], ["/a.jsonx", "/a/b.json", "/ajson"]),
        ("/public/**", ["/public", "/public/", "/public/a/b"], ["/publicx", "/publi", "/", "//"]),
        ("/**", ["/", "/a", "//", "/a/b/"], []),
        ("/{a}/**", ["/x", "/x/", "/x/y"], ["/", "//x"]),
        ("/a.c", ["/a.c"], ["/abc"]),
        ("/a(b|c)[d]+$^", ["/a(b|c)[d]+$^"], ["/ab"]),
        ("/%41%2f", ["/A%2F"], ["/a%2F", "/A%2f", "/A/"]),
    ],
)
def test_the_documented_examples(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [path for path in matching + others if compiled.matches(path)] == matching


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/" + "*a" * 50 + "*b", "/" + "a" * 16_000),
        ("/" + "*a" * 50, "/" + "a" * 16_000 + "b"),
        ("/" + "*/" * 50 + "x", "/" + "a/" * 8_000),
        ("/" + "*a/" * 50 + "x", "/" + "aaa/" * 50 + "y"),
        ("/" + "{n}/" * 50 + "x", "/" + "a/" * 50 + "y"),
        ("/" + "*a*a/" * 20 + "**", "/" + "a" * 8_000 + "/" + "a" * 8_000),
    ],
)
def test_many_stars_do_not_take_exponential_time(pattern: str, path: str) -> None:
    """With backtracking each of these would outlive the universe; the suite's time-out says so."""
    assert not compile_pattern(pattern).matches(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "start with a slash"),
        ("a/b", "start with a slash"),
        ("**", "start with a slash"),
        ("/a**", "not a final"),
        ("/**/a", "not a final"),
        ("/a/**/", "not a final"),
        ("/a/***", "not a final"),
        ("/a/x**", "not a final"),
        ("/a/**/**", "not a final"),
        ("/a{b}", "whole segment"),
        ("/{b}c", "whole segment"),
        ("/{}", "whole segment"),
        ("/{a b}", "holds ' '"),
        ("/{a}{b}", "whole segment"),
        ("/}", "whole segment"),
        ("/a?b", "holds '?'"),
        ("/a#b", "holds '#'"),
        ("/a\\b", "holds"),
        ("/a b", "holds ' '"),
        ("/ü", "holds 'ü'"),
        ("/a\n", "holds"),
        ("/\x7f", "holds"),
        ("/%4", "two hex digits"),
        ("/%zz", "two hex digits"),
    ],
)
def test_an_invalid_pattern_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="the path pattern") as refusal:
        compile_pattern(text)
    assert why in str(refusal.value)


ITSELF = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()+,;=:@[]"


def test_a_character_that_delimits_nothing_counts_as_itself_however_it_is_spelt() -> None:
    for letter in ITSELF:
        for spelling in (f"%{ord(letter):02x}", f"%{ord(letter):02X}"):
            assert normalise_path(f"/x{spelling}y") == f"/x{letter}y"


def test_every_other_encoding_stays_and_is_written_in_capitals() -> None:
    for high, low in product("0123456789abcdefABCDEF", repeat=2):
        if chr(int(high + low, 16)) not in ITSELF:
            assert normalise_path(f"/%{high}{low}") == f"/%{high}{low}".upper()


@pytest.mark.parametrize("text", ["/a/../b", "/./a", "/a/%2e%2E", "/a/."])
def test_a_pattern_that_no_path_can_match_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="dot segment"):
        compile_pattern(text)


def test_an_encoded_hyphen_does_not_lead_past_the_rule_for_its_path() -> None:
    assert compile_pattern("/my-admin").matches(normalise_path("/my%2Dadmin"))


@pytest.mark.parametrize("path", ["/", "/a/b.c", "/A;b=c,d"])
def test_a_path_without_encoding_is_returned_as_it_came(path: str) -> None:
    assert normalise_path(path) is path


@pytest.mark.parametrize("path", ["/%2541", "/%25%34%31", "/%2F%2a%25"])
def test_decoding_happens_once_and_leads_to_no_other_encoding(path: str) -> None:
    assert normalise_path(path).startswith("/%2")


def test_patterns_are_equal_when_their_texts_are() -> None:
    assert compile_pattern("/a/*") == compile_pattern("/a/*")
    assert repr(compile_pattern("/a/*")) == "PathPattern(text='/a/*')"
