"""Where a request ends: transcripts of bytes in, requests or a refusal out, in every splitting."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.header_cache import HeaderCache
from sidecar.wire.requests import Request, RequestLimits, RequestReader, RequestRefused

LIMITS = RequestLimits(headers=16, header_bytes=1024, url_bytes=512, body_bytes=100_000)
HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"
MARK = b"\r\n\r\n"


@dataclass(frozen=True)
class Seen:
    """The parts of a request that a test compares."""

    method: str
    target: str
    names: tuple[bytes, ...]
    length: int | None
    body: bytes
    is_complete: bool
    keeps_alive: bool = True
    wants_upgrade: bool = False


LOOP = asyncio.new_event_loop()  # nothing ever runs on it
LOOP.close()


def read_all(
    pieces: list[bytes], limits: RequestLimits = LIMITS, cache: HeaderCache | None = None
) -> list[Seen | str]:
    """Feed ``pieces`` as a connection would and return the requests, and the code of a refusal.

    Every request is let pass, so that its body is read.
    """
    reader = RequestReader(LOOP, limits, None if cache is None else cache.for_connection())
    seen: list[Seen | str] = []
    request: Request | None = None
    body = b""

    def note() -> None:
        nonlocal request, body
        assert request is not None
        body += request.take()
        seen[-1] = describe(request, body)
        if request.is_complete:
            request, body = None, b""

    def read_on() -> None:
        while reader.has_unread_body:
            reader.read_body()
        note()

    try:
        for piece in pieces:
            is_body = reader.receive(piece)
            assert is_body == (request is not None)
            if request is not None:
                read_on()
            while request is None and (request := reader.next_request()) is not None:
                seen.append("begun")
                reader.cache_head(request)
                if request.length is None:
                    reader.begin_body()
                read_on()
    except RequestRefused as refusal:
        if (seen and seen[-1] == "begun") or request is not None:
            seen.pop()
        seen.append(refusal.code)
    return seen


def describe(request: Request, body: bytes) -> Seen:
    return Seen(
        request.method,
        request.target,
        tuple(name for name, _ in request.headers),
        request.length,
        body,
        request.is_complete,
        request.keeps_alive,
        request.wants_upgrade,
    )


def post(length: int | None, body: bytes, *names: bytes, is_complete: bool = True) -> Seen:
    return Seen("POST", "/x", (b"Host", *names), length, body, is_complete)


AFTER = Seen("GET", "/next", (b"Host",), 0, b"", True)
LENGTH = b"Content-Length"
CODING = b"Transfer-Encoding"
UPGRADE = b"Connection: upgrade\r\nUpgrade: "

READ: dict[str, tuple[bytes, list[Seen | str]]] = {
    "no body": (NEXT, [AFTER]),
    "two pipelined": (NEXT + NEXT, [AFTER, AFTER]),
    "empty lines before": (b"\r\n\r\n\r\n" + NEXT, [AFTER]),
    "length of zero": (HEAD + b"Content-Length: 0\r\n\r\n" + NEXT, [post(0, b"", LENGTH), AFTER]),
    "length": (HEAD + b"Content-Length: 5\r\n\r\nabcde" + NEXT, [post(5, b"abcde", LENGTH), AFTER]),
    "body like a head": (
        HEAD + b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT,
        [post(len(NEXT), NEXT, LENGTH)],
    ),
    "length, not all there": (
        HEAD + b"Content-Length: 5\r\n\r\nabc",
        [post(5, b"abc", LENGTH, is_complete=False)],
    ),
    "chunks": (
        CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + NEXT,
        [post(None, b"abcde", CODING), AFTER],
    ),
    "chunks, none": (CHUNKED + b"0\r\n\r\n" + NEXT, [post(None, b"", CODING), AFTER]),
    "a chunk that looks like an end": (
        CHUNKED + b"9\r\n0\r\n\r\n\r\n\r\n\r\n0\r\n\r\n" + NEXT,
        [post(None, b"0\r\n\r\n\r\n\r\n", CODING), AFTER],
    ),
    "chunk extension": (
        CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n" + NEXT,
        [post(None, b"abc", CODING), AFTER],
    ),
    "trailers, dropped": (
        CHUNKED + b"1\r\na\r\n0\r\nX-Account: admin\r\nHost: evil\r\n\r\n" + NEXT,
        [post(None, b"a", CODING), AFTER],
    ),
    "another upgrade is none, and its body a body": (
        HEAD + UPGRADE + b"foo\r\nContent-Length: 3\r\n\r\nabc" + NEXT,
        [post(3, b"abc", b"Connection", b"Upgrade", LENGTH), AFTER],
    ),
    "another upgrade with chunks": (
        HEAD + UPGRADE + b"h2c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + NEXT,
        [post(None, b"a", b"Connection", b"Upgrade", CODING), AFTER],
    ),
    "another upgrade without a body": (
        b"GET /next HTTP/1.1\r\nHost: b\r\n" + UPGRADE + b"h2c\r\n\r\n" + NEXT,
        [Seen("GET", "/next", (b"Host", b"Connection", b"Upgrade"), 0, b"", True), AFTER],
    ),
    "an upgrade in HTTP/1.0 is none": (
        b"GET /next HTTP/1.0\r\nHost: b\r\n" + UPGRADE + b"websocket\r\n\r\n",
        [
            Seen(
                "GET",
                "/next",
                (b"Host", b"Connection", b"Upgrade"),
                0,
                b"",
                True,
                keeps_alive=False,
            )
        ],
    ),
    "HTTP/1.0": (
        b"GET /next HTTP/1.0\r\n\r\n",
        [Seen("GET", "/next", (), 0, b"", True, keeps_alive=False)],
    ),
    "HTTP/1.0 that stays": (
        b"GET /next HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT,
        [Seen("GET", "/next", (b"Connection",), 0, b"", True), AFTER],
    ),
    "the last one": (
        b"GET /next HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
        [Seen("GET", "/next", (b"Host", b"Connection"), 0, b"", True, keeps_alive=False)],
    ),
    "refused behind a good one": (
        NEXT + b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        [AFTER, "bad_request"],
    ),
}


@pytest.mark.parametrize("name", READ)
def test_requests_are_found_in_one_piece(name: str) -> None:
    data, expected = READ[name]
    assert read_all([data]) == expected


@pytest.mark.parametrize("name", READ)
def test_requests_are_the_same_byte_by_byte(name: str) -> None:
    data, expected = READ[name]
    assert read_all([data[i : i + 1] for i in range(len(data))]) == expected


@given(st.sampled_from(sorted(READ)), st.lists(st.integers(0, 400), max_size=6))
def test_requests_are_the_same_however_the_bytes_are_split(name: str, cuts: list[int]) -> None:
    data, expected = READ[name]
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    starts = [0, *ends]
    pieces = [data[a:b] for a, b in zip(starts, ends, strict=False) if a < b]
    assert read_all(pieces) == expected


@given(
    st.lists(st.sampled_from(sorted(READ)), min_size=2, max_size=6),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_a_section_seen_before_is_read_as_the_parser_reads_it(
    names: list[str], cuts: list[int]
) -> None:
    cache = HeaderCache(LIMITS)
    for name in names:
        data, expected = READ[name]
        ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
        pieces = [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]
        assert read_all(pieces, cache=cache) == expected
        assert read_all([data], cache=cache) == expected


LINES = [
    "GET /next",
    "HEAD /a?b",
    "POST /",
    "PATCH /x",
    "FOO /",
    "GET *",
    "CONNECT a:1",
    "GET /a b",
]


@given(
    st.sampled_from(LINES),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", "HTTP/1.1 "]),
    st.sampled_from(["", "\r\n", " "]),
)
def test_a_section_seen_before_makes_no_bad_line_good(line: str, version: str, ahead: str) -> None:
    cache = HeaderCache(LIMITS)
    section = "\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n"
    data = f"{ahead}{line} {version}{section}".encode()
    fresh = read_all([data])
    assert read_all([f"GET / HTTP/1.1{section}".encode()], cache=cache)
    assert len(cache) == 1
    assert read_all([data], cache=cache) == fresh
    assert read_all([data], cache=cache) == fresh


@pytest.mark.parametrize("ahead", ["\r\n", "\r\n\r\n"])
def test_a_line_is_never_remembered_as_part_of_a_section(ahead: str) -> None:
    cache = HeaderCache(LIMITS)
    data = f"{ahead}GET /next HTTP/1.1\r\nHost: b\r\n\r\n".encode()
    assert read_all([data], cache=cache) == [AFTER]
    assert read_all([b"GET /x HTTP/1.1" + data], cache=cache) == read_all(
        [b"GET /x HTTP/1.1" + data]
    )


SENT_AGAIN = [
    b"GET /a HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer aaaaaaaaaaaaaaaa\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer bbbbbbbbbbbbbbbb\r\n\r\n",
    b"GET /b HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer aaaaaaaaaaaaaaaa\r\n\r\n",
    b"HEAD /b HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer aaaaaaaaaaaaaaaa\r\n\r\n",
    b"GET /aaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer aaaaaaaaaaaaaaaa\r\n\r\n",
    b"GET /bbbbbbbbbbbbbbbb HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer aaaaaaaaaaaaaaaa\r\n\r\n",
    b"GET /aaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer bbbbbbbbbbbbbbbb\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n",
]


@given(st.lists(st.tuples(st.sampled_from(SENT_AGAIN), st.booleans()), max_size=12))
def test_what_a_connection_repeats_to_the_byte_is_read_as_if_it_came_first(
    sent: list[tuple[bytes, bool]],
) -> None:
    reader = RequestReader(LOOP, LIMITS, HeaderCache(LIMITS).for_connection())
    for head, has_body_along in sent:
        fresh = RequestReader(LOOP, LIMITS)
        requests = []
        for each in (reader, fresh):
            each.receive(head)
            request = each.next_request()
            assert request is not None
            body = b"abcd"[: request.length]
            for piece in [body] if has_body_along else [body[:1], body[1:]]:
                if piece:
                    assert each.receive(piece)
            each.cache_head(request)
            requests.append((describe(request, request.take()), request.headers, request.version))
        assert requests[0] == requests[1]


NAMED = ("access_token", "x-api-key")
AROUND = [
    ("\r\nHost: a\r\nAuthorization: Bearer ", "\r\nAccept: */*"),
    ("\r\nauthorization: BASIC ", "\r\nHost: a"),
    ("\r\nHost: a\r\nX-API-Key: ", ""),
    ("\r\nHost: a\r\naccess_token: ", "\r\naccess_token: another-token-of-this-caller"),
    ("\r\nHost: a\r\nAuthorization: Bearer ", "\r\nAuthorization: Bearer \0"),
    ("\r\nHost: a\r\nAuthorization: Digest ", ""),
    ("\r\nHost: a\r\nAuthorization: Bearer  ", " "),
    ("\r\nHost: a\r\nX-Other: Authorization: Bearer ", ""),
]
SECRETS = st.one_of(
    st.text("\0\r\n\t ,=~aZ09._-\x7f", min_size=0, max_size=20),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=14, max_size=40),
    st.sampled_from(
        ["\0", "a" * 900, "a" * 1100, "é" * 20, "a" * 16 + "\r\nX: y", "a" * 16 + "\n"]
    ),
)


def read_fields(data: bytes, cache: HeaderCache | None = None) -> object:
    """Return what a request's header section is read as, or the code of its refusal."""
    return read_next(
        RequestReader(LOOP, LIMITS, None if cache is None else cache.for_connection()), data
    )


def read_next(reader: RequestReader, data: bytes) -> object:
    """Return the same as ``read_fields``, for the next request of a connection."""
    try:
        reader.receive(data)
        request = reader.next_request()
    except RequestRefused as refusal:
        return refusal.code
    assert request is not None
    reader.cache_head(request)
    return request.headers, request.length, request.keeps_alive, request.target


@given(st.sampled_from(AROUND), st.lists(SECRETS, min_size=2, max_size=6))
def test_sections_that_differ_in_their_token_are_read_as_the_parser_reads_them(
    around: tuple[str, str], secrets: list[str]
) -> None:
    """Whatever stood in the token's place before, and whatever stands there now."""
    cache = HeaderCache(LIMITS, NAMED)
    for secret in [*secrets, *secrets]:
        data = f"GET /x HTTP/1.1{around[0]}{secret}{around[1]}\r\n\r\n".encode()
        try:
            assert read_fields(data, cache) == read_fields(data)
        except AssertionError:
            assert read_all([data]) == []  # no whole request: neither reads one


AS_LONG = st.lists(
    st.sampled_from(["a", "b", "_", "~", "\0", "\r", "\n", "\r\n\r\n", " ", "\x7f", "\xe9"]),
    min_size=17,
    max_size=17,
).map(lambda letters: "".join(letters)[:17])
VISIBLE = st.text("ab_", min_size=17, max_size=17)


@given(st.sampled_from(AROUND), st.lists(VISIBLE, min_size=1, max_size=3), AS_LONG | VISIBLE)
def test_a_token_in_the_place_of_the_last_one_of_a_connection_is_read_as_if_it_came_first(
    around: tuple[str, str], before: list[str], then: str
) -> None:
    reader = RequestReader(LOOP, LIMITS, HeaderCache(LIMITS, NAMED).for_connection())
    for secret in [*before, *before, then]:
        head = f"GET /{before[0]} HTTP/1.1{around[0]}{secret}{around[1]}\r\n\r\n"
        data = head.encode("latin-1")
        expected = read_fields(data) if read_all([data]) else None
        if expected is None:
            return  # not even a head: the connection waits for the rest
        assert read_next(reader, data) == expected
        if isinstance(expected, str):
            return  # refused: so the connection ends


def test_callers_that_differ_in_their_token_share_a_section_that_holds_none() -> None:
    cache = HeaderCache(LIMITS, NAMED)
    for number in range(10):
        token = f"a-token-of-an-old-system-{number}"
        data = f"GET /x HTTP/1.1\r\nX-Api-Key: {token}\r\nHost: a\r\n\r\n".encode()
        assert read_fields(data, cache) == read_fields(data)
    assert len(cache) == 1
    found = cache.get(b"\r\nX-Api-Key: another-token-of-another\r\nHost: a")
    assert found is not None
    section, secret, start = found
    assert (secret, start) == (b"another-token-of-another", len(b"\r\nX-Api-Key: "))
    assert section.headers == ((b"X-Api-Key", b"\0"), (b"Host", b"a"))


def test_the_cache_is_bounded_in_number_and_size() -> None:
    cache = HeaderCache(LIMITS, most=3)
    for number in range(10):
        read_all([b"GET / HTTP/1.1\r\nHost: b%d\r\n\r\n" % number], cache=cache)
    assert len(cache) == 3
    read_all([b"GET / HTTP/1.1\r\nHost: b\r\nX: %b\r\n\r\n" % (b"a" * 3000)], cache=cache)
    assert cache.get(b"\r\nHost: b9") is not None
    assert len(cache) == 3


@given(
    st.lists(
        st.binary(min_size=1, max_size=40).map(lambda body: body.replace(b"a", MARK)), max_size=5
    ),
    st.lists(st.integers(0, 300), max_size=5),
)
def test_any_chunked_body_comes_out_whole(chunks: list[bytes], cuts: list[int]) -> None:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    data = CHUNKED + framed + b"0\r\n\r\n" + NEXT
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    pieces = [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]
    assert read_all(pieces) == [post(None, b"".join(chunks), CODING), AFTER]


REFUSED: dict[str, tuple[bytes, str]] = {
    "CL and TE": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "TE and CL": (
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    **{
        f"length {value!r}": (HEAD + b"Content-Length: " + value + b"\r\n\r\n", "bad_request")
        for value in (
            *(b"+5", b"-0", b"5_0", b"0x5", "٥".encode(), b"", b"5,6", b"5,5", b"5 5"),
            *(b"9223372036854775808", b"18446744073709551616"),
        )
    },
    **{
        f"coding {value!r}": (HEAD + b"Transfer-Encoding: " + value + b"\r\n\r\n", "bad_request")
        for value in (
            *(b"xchunked", b"chunked\x0b", b",chunked", b"gzip, chunked", b"chunked, gzip"),
            *(b"identity", b"", b"chunked;a=b", "chun\u212aed".encode(), b"chunked, chunked"),
        )
    },
    "coding twice": (
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "empty coding beside a length": (
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding:\r\n\r\na",
        "bad_request",
    ),
    "HTTP/1.0 with chunks": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    **{
        f"version {version!r}": (b"GET / %b\r\nHost: a\r\n\r\n" % version, "bad_request")
        for version in (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"")
    },
    **{
        f"protocol {line!r}": (b"%b\r\nHost: a\r\n\r\n" % line, "bad_request")
        for line in (
            *(b"GET / RTSP/1.0", b"GET / RTSP/1.1", b"POST / RTSP/1.0", b"OPTIONS * RTSP/1.0"),
            *(b"OPTIONS / RTSP/1.1", b"DESCRIBE / RTSP/1.0", b"PLAY / RTSP/1.1"),
            *(b"GET / ICE/1.0", b"SOURCE / ICE/1.0", b"SOURCE / ICE/1.1"),
            *(b"\r\n\r\nGET / RTSP/1.1", b"\nSOURCE / ICE/1.1"),
        )
    },
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request"),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", "bad_request"),
    "bare CR in a value": (HEAD + b"X: a\rb\r\n\r\n", "bad_request"),
    "CR CR LF at the end": (HEAD + b"X: a\r\r\n\r\n", "bad_request"),
    "CR LF LF at the end": (HEAD + b"\n", "bad_request"),
    "NUL": (HEAD + b"X: a\0b\r\n\r\n", "bad_request"),
    "control character": (HEAD + b"X: a\x01b\r\n\r\n", "bad_request"),
    "folded line": (HEAD + b"X: a\r\n b\r\n\r\n", "bad_request"),
    "space before the colon": (HEAD + b"X : a\r\n\r\n", "bad_request"),
    "space before the name": (HEAD[:-11] + b" X: a\r\n\r\n", "bad_request"),
    "empty name": (HEAD + b": a\r\n\r\n", "bad_request"),
    "no colon": (HEAD + b"X\r\n\r\n", "bad_request"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", "bad_request"),
    "two Hosts": (HEAD + b"Host: a\r\n\r\n", "bad_request"),
    "upgrade with a length": (
        HEAD + UPGRADE + b"websocket\r\nContent-Length: 3\r\n\r\nabc",
        "bad_request",
    ),
    "upgrade with chunks": (
        HEAD + UPGRADE + b"websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    **{
        f"chunk {start!r}": (CHUNKED + start + b"\r\nabcde\r\n0\r\n\r\n", "bad_request")
        for start in (
            *(b"5 ", b"0x5", b"+5", b"5_0", b"", b"-1", b"g", b"1" * 17, b"5\t", b" 5"),
            *(b"5;a\nb", b"5;a\rb", b"5;a\0b"),
        )
    },
    "chunk too long for its size": (CHUNKED + b"5\r\nabcdeX\r\n0\r\n\r\n", "bad_request"),
    "chunk ended by LF": (CHUNKED + b"5\r\nabcde\n0\r\n\r\n", "bad_request"),
    "trailer without a colon": (CHUNKED + b"0\r\nbad\r\n\r\n", "bad_request"),
    "huge chunk extension": (
        CHUNKED + b"5;a=" + b"b" * 65536 + b"\r\nabcde\r\n0\r\n\r\n",
        "bad_request",
    ),
    "huge trailer": (CHUNKED + b"0\r\nX: " + b"a" * 4000 + b"\r\n\r\n", "headers_too_large"),
    "many trailers": (CHUNKED + b"0\r\n" + b"X: a\r\n" * 99 + b"\r\n", "headers_too_large"),
    "long target": (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 600), "uri_too_long"),
    "very long target": (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 70_000), "uri_too_long"),
    "large field": (HEAD + b"X: " + b"a" * 1100 + b"\r\n\r\n", "headers_too_large"),
    "large fields together": (
        HEAD + b"X: %b\r\n" % (b"a" * 300) * 5 + b"\r\n",
        "headers_too_large",
    ),
    "many fields": (HEAD + b"X: a\r\n" * 20 + b"\r\n", "headers_too_large"),
    "large body, declared": (HEAD + b"Content-Length: 100001\r\n\r\n", "body_too_large"),
    "large body, in chunks": (
        CHUNKED + b"186a0\r\n" + b"a" * 100_000 + b"\r\n1\r\na\r\n0\r\n\r\n",
        "body_too_large",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unacceptable_request_is_refused_with_its_code(name: str) -> None:
    data, code = REFUSED[name]
    assert read_all([data]) == [code]
    cache = HeaderCache(LIMITS)
    assert read_all([data], cache=cache) == read_all([data], cache=cache) == [code]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_the_same_in_small_pieces(name: str) -> None:
    data, code = REFUSED[name]
    last = read_all([data[i : i + 7] for i in range(0, len(data), 7)])[-1]
    assert last == code


STAYS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "1.0": ("1.0", (), False),
    "1.0, keep-alive": ("1.0", ("Connection: keep-alive",), True),
    "1.0, Keep-Alive and blanks": ("1.0", ("Connection: foo ,\tKeep-Alive ,",), True),
    "1.0, close first": ("1.0", ("Connection: close, keep-alive",), False),
    "1.0, close last": ("1.0", ("Connection: keep-alive, close",), False),
    "1.0, close in the middle": ("1.0", ("Connection: keep-alive,Close,keep-alive",), False),
    "1.0, two lines": ("1.0", ("Connection: keep-alive", "connection: CLOSE"), False),
    "1.0, two lines, close first": ("1.0", ("Connection: close", "Connection: keep-alive"), False),
    "1.0, a word that holds close": ("1.0", ("Connection: keep-alive, closed",), True),
    "1.0, a word that holds keep-alive": ("1.0", ("Connection: xkeep-alive",), False),
    "1.0, Proxy-Connection": ("1.0", ("Proxy-Connection: keep-alive",), False),
    "1.0, only Keep-Alive": ("1.0", ("Keep-Alive: timeout=5",), False),
    "1.1": ("1.1", (), True),
    "1.1, close": ("1.1", ("Connection: close",), False),
    "1.1, close first": ("1.1", ("Connection: close, keep-alive",), False),
    "1.1, close last": ("1.1", ("Connection: keep-alive, CLOSE",), False),
    "1.1, two lines": ("1.1", ("Connection: close", "Connection: keep-alive"), False),
    "1.1, two lines, close last": ("1.1", ("Connection: keep-alive", "CONNECTION: close"), False),
    "1.1, a word that holds close": ("1.1", ("Connection: closed",), True),
}


@pytest.mark.parametrize("name", STAYS)
def test_close_wins_in_any_place_and_version(name: str) -> None:
    version, lines, stays = STAYS[name]
    head = "\r\n".join([f"GET /x HTTP/{version}", "Host: a", *lines, "", ""])
    (seen,) = read_all([head.encode()])
    assert isinstance(seen, Seen)
    assert seen.keeps_alive == stays


def test_a_head_that_never_ends_is_refused_once_it_is_too_large() -> None:
    assert read_all([HEAD, *[b"X: y\r\n"] * 2000]) == ["headers_too_large"]


@pytest.mark.parametrize("piece", [b"\r\n", b"\r", b"\n", b"\r\n\r"])
def test_empty_lines_before_a_request_do_not_begin_one(piece: bytes) -> None:
    reader = RequestReader(LOOP, LIMITS)
    for byte in b"\r\n" * 1000 + piece.lstrip(b"\n"):
        reader.receive(bytes((byte,)))
        assert reader.next_request() is None
    assert not reader.has_begun
    assert reader.held_bytes <= 1


def test_a_refusal_quotes_nothing_of_the_request() -> None:
    reader = RequestReader(LOOP, LIMITS)
    reader.receive(HEAD + b"Authorization: Bearer s3cret\0\r\n\r\n")
    with pytest.raises(RequestRefused) as caught:
        reader.next_request()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_trailer_never_becomes_a_header_of_the_next_request() -> None:
    """aiohttp's parser hands the last trailer to the next message; so it never sees one."""
    smuggled = CHUNKED + b"0\r\nX-Account: admin\r\nAuthorization: Bearer x\r\n\r\n"
    reader = RequestReader(LOOP, LIMITS)
    reader.receive(smuggled + NEXT)
    assert reader.next_request() is not None
    reader.begin_body()
    second = reader.next_request()
    assert second is not None
    assert second.headers == ((b"Host", b"b"),)


def test_bytes_pipelined_after_an_upload_are_held_unparsed() -> None:
    reader = RequestReader(LOOP, LIMITS)
    reader.receive(HEAD + b"Content-Length: 3\r\n\r\nab")
    request = reader.next_request()
    assert request is not None
    assert reader.receive(b"c" + NEXT)
    assert request.is_complete
    assert reader.held_bytes == len(NEXT)
    assert not reader.receive(b"more")
    assert request.take() == b"abc"
    assert request.take() == b""


def test_the_bytes_after_a_websocket_handshake_belong_to_the_tunnel() -> None:
    reader = RequestReader(LOOP, LIMITS)
    reader.receive(b"GET /ws HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"WebSocket\r\n\r\nabc")
    request = reader.next_request()
    assert request is not None
    assert request.wants_upgrade
    reader.receive(b"def")
    assert reader.take_held() == b"abcdef"
    assert reader.take_held() == b""


def test_a_partial_head_is_distinguished_from_silence() -> None:
    reader = RequestReader(LOOP, LIMITS)
    states = [reader.has_begun]
    for piece in (b"GET /", b"next HTTP/1.1\r\nHost: b\r\n\r\n"):
        reader.receive(piece)
        reader.next_request()
        states.append(reader.has_begun)
    assert states == [False, True, False]


def test_many_one_byte_chunks_in_one_segment_are_accepted() -> None:
    data = CHUNKED + b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n"
    assert read_all([data]) == [post(None, b"a" * 40_000, CODING)]


def test_the_target_and_header_bytes_come_out_as_they_went_in() -> None:
    raw = b"GET /a%2Fb?x=%20+&y HTTP/1.1\r\nhOsT: a\r\nX-Obs:  \xe9t\xe9 \r\nX-Obs:\r\n\r\n"
    reader = RequestReader(LOOP, LIMITS)
    reader.receive(raw)
    request = reader.next_request()
    assert request is not None
    assert request.target == "/a%2Fb?x=%20+&y"
    assert request.headers == ((b"hOsT", b"a"), (b"X-Obs", b"\xe9t\xe9"), (b"X-Obs", b""))


def test_the_representation_shows_the_state_and_no_content() -> None:
    reader = RequestReader(LOOP, LIMITS)
    reader.receive(HEAD + b"X: s3cret\r\nContent-Length: 9\r\n\r\nabc")
    reader.next_request()
    assert repr(reader) == "<RequestReader current=<Request POST 3 of 9> held=0>"
