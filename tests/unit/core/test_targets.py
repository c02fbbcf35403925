"""Request targets: taken apart byte for byte, or refused; never repaired."""

from __future__ import annotations

import re
from itertools import product
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.model import Denial
from sidecar.core.targets import Target, is_valid_host, parse_target


def code_of(raw: str, method: str = "GET") -> str | None:
    target = parse_target(method, raw)
    return target.code if isinstance(target, Denial) else None


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/", Target("/", None, None)),
        ("/?", Target("/", "", None)),
        (
            "/v1/dynamic/listener/a1?x=1&y=%2F+",
            Target("/v1/dynamic/listener/a1", "x=1&y=%2F+", None),
        ),
        ("/a?b?c", Target("/a", "b?c", None)),
        ("/a?%zz=%", Target("/a", "%zz=%", None)),
        ("/a?/../%2e%2e/%00", Target("/a", "/../%2e%2e/%00", None)),
        ("//admin", Target("//admin", None, None)),
        ("/a//b/", Target("/a//b/", None, None)),
        ("/.well-known/x", Target("/.well-known/x", None, None)),
        ("/...", Target("/...", None, None)),
        ("/a..b/c./d..", Target("/a..b/c./d..", None, None)),
        ("/a;x=1/b", Target("/a;x=1/b", None, None)),
        ("/a%3Bx%20%C3%A9%3f%23", Target("/a%3Bx%20%C3%A9%3f%23", None, None)),
        ("/100%25", Target("/100%25", None, None)),
        ("/100%25zz", Target("/100%25zz", None, None)),
        ("/a%2eb", Target("/a%2eb", None, None)),
        ("/a[1]", Target("/a[1]", None, None)),
        ("http://shop.example/a?b", Target("/a", "b", "shop.example")),
        ("HTTPS://shop.example:8443", Target("/", None, "shop.example:8443")),
        ("http://shop.example?b", Target("/", "b", "shop.example")),
        ("http://[::1]:80/", Target("/", None, "[::1]:80")),
        ("/http://x/", Target("/http://x/", None, None)),
    ],
)
def test_a_good_target_is_taken_apart_and_nothing_is_decoded(raw: str, target: Target) -> None:
    assert parse_target("GET", raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        *["*", "", "a", "example.com:80", "?a", "admin/x"],
        *["http://", "http:///a", "http:/a", "http://[", "http://u:p@h/a", "http://u@h/"],
        *["http://a,b/", "http://h:99999/", "http://h:x/", "ftp://h/", "ws://h/", "h/"],
        *["/a#b", "/admin#/public/", "/a?b#c", '/a"', "/<a>", "/{a}", "/a|b", "/a^b", "/a`b"],
        *["/a b", "/a\tb", "/a\x00", "/a\x7f", "/\udc80", "/\udcff", "/é", "/a?é", "/a\r\nX: y"],
    ],
)
def test_what_http_does_not_allow_is_a_bad_request(raw: str) -> None:
    assert code_of(raw) == "bad_request"


DOTS = [".", "%2e", "%2E", "..", ".%2e", "%2e.", "%2E%2e", "%252e", "%252e.", "%25252e%2e", "%%32e"]
ENDS = [
    "",
    "/",
    "/admin",
    ";",
    ";x",
    ";x=1/admin",
    "%3b",
    "%3Bx/admin",
    "%253b",
    "?x",
    "%3fx",
    "%23",
]


@pytest.mark.parametrize(("dots", "end"), list(product(DOTS, ENDS)))
@pytest.mark.parametrize("start", ["/", "/public/", "http://host/", "/%41/"])
def test_dot_segments_are_unsafe_however_they_are_spelt(start: str, dots: str, end: str) -> None:
    assert code_of(start + dots + end) == "unsafe_path"


@pytest.mark.parametrize(
    "encoded",
    [
        *["%2f", "%2F", "%5c", "%5C", "%00", "%01", "%09", "%0a", "%0D", "%1f", "%1F", "%7f"],
        *["%252f", "%255c", "%2500", "%250a", "%25252F", "%25%32%66", "%2%35", "\\", "%2525252525"],
        *["%", "%z", "%zz", "%2", "%a", "%2g", "%%"],
    ],
)
@pytest.mark.parametrize(
    "place", ["/{}", "/a{}x", "/public/..{}/admin", "/a/{}/b?c", "http://h/{}"]
)
def test_encoded_delimiters_and_bad_encodings_are_unsafe(place: str, encoded: str) -> None:
    assert code_of(place.format(encoded)) == "unsafe_path"


@pytest.mark.parametrize("query", ['a={"b":[1]}', "a=b|c", "a=<b>^`", "a=b\\c"])
def test_what_sloppy_callers_leave_unencoded_in_a_query_goes_through(query: str) -> None:
    assert parse_target("GET", f"/a?{query}") == Target("/a", query, None)


def test_nesting_of_encodings_is_bounded() -> None:
    assert code_of("/%" + "25" * 8000 + "2e") == "unsafe_path"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
@pytest.mark.parametrize("raw", ["/", "host:443", "*"])
def test_connect_and_trace_are_bad_requests(method: str, raw: str) -> None:
    assert code_of(raw, method) == "bad_request"


def is_dangerous(path: str) -> bool:
    """Decode three times and look each time: the specification, plainly."""
    for _ in range(4):
        segments = [segment.split(";")[0] for segment in path.split("/")]
        if "." in segments or ".." in segments or re.search(r"[\x00-\x1f\x7f\\]", path):
            return True
        decoded = unquote(path, encoding="latin-1")
        if decoded.count("/") != path.count("/"):
            return True
        path = decoded
    return False


PIECES = ["/", ".", "%2e", "%25", "25", "2e", "2f", "%2F", "%3b", ";", "a", "%61", "%", "00", "-"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "/" + "".join(pieces)))
@example("/%25%32%65")
def test_what_passes_is_harmless_however_often_it_is_decoded(raw: str) -> None:
    target = parse_target("GET", raw)
    if isinstance(target, Target):
        assert not is_dangerous(target.path)


@given(st.text(alphabet="/?ab.%2e;=&+:@\\#", max_size=20))
def test_what_passes_is_passed_on_byte_for_byte(raw: str) -> None:
    target = parse_target("GET", raw)
    if isinstance(target, Target):
        assert target.path + ("" if target.query is None else "?" + target.query) == raw


@given(st.text(max_size=30))
def test_any_text_at_all_is_judged_without_an_error(raw: str) -> None:
    assert isinstance(parse_target("GET", raw), Target | Denial)


@given(st.lists(st.from_regex(r"[a-z0-9._~-]{1,8}", fullmatch=True), min_size=1, max_size=5))
def test_plain_paths_pass_unless_a_segment_is_dots(segments: list[str]) -> None:
    is_safe = "." not in segments and ".." not in segments
    assert (code_of("/" + "/".join(segments)) is None) == is_safe


@pytest.mark.parametrize(
    "value",
    [
        *["localhost", "Example.COM", "example.com.", "a_b.example", "127.0.0.1", "h:0", "h:65535"],
        *["[::1]", "[::1]:8080", "[2001:db8::1]", "[::ffff:1.2.3.4]", "x" * 255],
        *["h:", "h:080", "127.0.0.1:", "example.com.:", "[::1]:", "[::1]:0", "h:00"],
    ],
)
def test_a_host_is_a_name_or_an_address_with_perhaps_a_port(value: str) -> None:
    assert is_valid_host(value)
    assert is_valid_host(value), "and stays so when it is remembered"


@pytest.mark.parametrize(
    "value",
    [
        *["", " ", "a b", "u@h", "u:p@h", "a,b", "a/public?", "a/b", "a?b", "a#b", "a\\b", "a%20b"],
        *[":", "h::", "h: ", "h:x", "h:,i:", "u@h:", "[::1]::", "[::1]:x", "[::1]:65536"],
        *["h:65536", "h:99999", "h:000080", "h:-1", "h:8a", "h:٥", "h:1:2", ":80", "::1"],
        *[
            "[",
            "]",
            "[]",
            "[::1",
            "::1]",
            "[::1]x",
            "[g::1]",
            "[1.2.3.4]",
            "[::1%25eth0]",
        ],
        *["h\n", "h\0", "é.example", "\udc80", "x" * 262, "h;x", "http://h"],
    ],
)
def test_any_other_host_is_invalid(value: str) -> None:
    assert not is_valid_host(value)


def test_the_memory_for_hosts_is_bounded() -> None:
    assert all(is_valid_host(f"h{number}.example") for number in range(5000))
    assert is_valid_host("h1.example")
