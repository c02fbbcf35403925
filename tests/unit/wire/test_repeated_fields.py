"""Fields that a sloppy client sends twice arrive twice; those that frame a request never do."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import http_parser

from sidecar.proxy.header_cache import HeaderCache
from sidecar.wire.repeated_fields import REPEATABLE, hide_names, restore_names
from sidecar.wire.requests import HeadCache, Request, RequestLimits, RequestReader, RequestRefused

LIMITS = RequestLimits(headers=16, header_bytes=1024, url_bytes=512, body_bytes=100_000)
LOOP = asyncio.new_event_loop()  # nothing ever runs on it
LOOP.close()
LINE = b"POST /x HTTP/1.1\r\n"
HOST = (b"Host", b"a")
NEXT = b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"

Fields = tuple[tuple[bytes, bytes], ...]


def head(*fields: tuple[bytes, bytes]) -> bytes:
    return LINE + b"".join(b"%b: %b\r\n" % pair for pair in fields) + b"\r\n"


def read(data: bytes, size: int = 0, cache: HeadCache | None = None) -> list[Request]:
    """Return the requests in ``data``, which arrives in pieces of ``size``."""
    reader = RequestReader(LOOP, LIMITS, cache)
    found = []
    step = size or len(data)
    for start in range(0, len(data), step):
        reader.receive(data[start : start + step])
        while reader.current is None or reader.current.is_complete:
            request = reader.next_request()
            if request is None:
                break
            found.append(request)
            reader.cache_head(request)
    return found


REPEATED: dict[str, Fields] = {
    **{
        name: (HOST, (name.encode(), b"a"), (b"X-Between", b"c"), (name.title().encode(), b"b"))
        for name in sorted(REPEATABLE)
    },
    "the same value twice": (HOST, (b"User-Agent", b"a"), (b"User-Agent", b"a")),
    "three times": (HOST, (b"ETag", b"1"), (b"ETAG", b"2"), (b"etag", b"3")),
    "before Host": ((b"Server", b"a"), (b"Server", b"b"), HOST),
    "several fields": (
        HOST,
        *((b"User-Agent", b"a"), (b"Content-Type", b"b"), (b"Content-Type", b"c")),
        *((b"User-Agent", b"d"), (b"Server", b"e")),
    ),
    "empty values": (HOST, (b"Content-Type", b""), (b"Content-Type", b"")),
    "values that look like names": (HOST, (b"Server", b"ETag: x"), (b"Server", b"Host: b")),
    "names that only begin alike": (
        HOST,
        *((b"Server", b"a"), (b"Servers", b"b"), (b"X-Server", b"c"), (b"Server", b"d")),
    ),
    "beside a body": (HOST, (b"Server", b"a"), (b"Content-Length", b"3"), (b"Server", b"b")),
    "beside a connection's end": (
        HOST,
        (b"Server", b"a"),
        (b"Connection", b"close"),
        (b"server", b""),
    ),
}


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.parametrize("size", [0, 1, 7, 40])
def test_repeated_fields_arrive_in_their_order_and_case(name: str, size: int) -> None:
    fields = REPEATED[name]
    body = b"abc" if (b"Content-Length", b"3") in fields else b""
    stays = (b"Connection", b"close") not in fields
    first, *others = read(head(*fields) + body + NEXT * stays, size)
    assert first.headers == fields
    assert (first.length, first.target, first.keeps_alive) == (len(body), "/x", stays)
    assert [request.headers for request in others] == [((b"Host", b"b"),)] * stays


def test_a_repeated_head_is_the_same_from_the_cache() -> None:
    cache = HeaderCache(LIMITS).for_connection()
    data = LINE.replace(b"POST", b"GET") + b"Host: a\r\nServer: b\r\nserver: c\r\n\r\n"
    found = read(data * 3, cache=cache)
    assert [request.headers for request in found] == [
        (HOST, (b"Server", b"b"), (b"server", b"c"))
    ] * 3


TWICE = (b"Server", b"a"), (b"Server", b"b")
REFUSED: dict[str, tuple[bytes, str]] = {
    **{
        f"two {name.decode()}": (head(HOST, (name, value), (name, other), *TWICE), "bad_request")
        for name, value, other in (
            *((b"Host", b"a", b"b"), (b"Host", b"a", b"a"), (b"Content-Length", b"1", b"2")),
            *((b"Content-Length", b"1", b"1"), (b"Transfer-Encoding", b"chunked", b"chunked")),
        )
    },
    "no Host": (head(*TWICE), "bad_request"),
    "two framings": (
        head(HOST, *TWICE, (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")),
        "bad_request",
    ),
    "a bare LF in the second": (
        head(HOST, (b"Server", b"a"), (b"Server", b"b\nX: c")),
        "bad_request",
    ),
    "a bare CR in the first": (
        head(HOST, (b"Server", b"a\rX: c"), (b"Server", b"b")),
        "bad_request",
    ),
    "a NUL behind them": (head(HOST, *TWICE, (b"X", b"\0")), "bad_request"),
    "a folded line behind them": (head(HOST, *TWICE, (b" X", b"a")), "bad_request"),
    "a space before the colon": (head(HOST, *TWICE, (b"Server ", b"a")), "bad_request"),
    "a line without a colon": (head(HOST, *TWICE)[:-2] + b"Server\r\n\r\n", "bad_request"),
    "too many fields": (head(HOST, *TWICE * 8), "headers_too_large"),
    "too large a field": (head(HOST, *TWICE, (b"X", b"a" * 1100)), "headers_too_large"),
    "too much in all": (head(HOST, *TWICE, *((b"X", b"a" * 300),) * 4), "headers_too_large"),
    "a head that never ends": (head(HOST, *TWICE)[:-2] + b"X: y\r\n" * 2000, "headers_too_large"),
    "another version": (head(HOST, *TWICE).replace(b"HTTP/1.1", b"RTSP/1.1"), "bad_request"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [0, 1, 13])
def test_nothing_else_is_forgiven_beside_them(name: str, size: int) -> None:
    data, code = REFUSED[name]
    with pytest.raises(RequestRefused) as refused:
        read(data, size)
    assert refused.value.code == code


def test_the_parsers_other_singletons_frame_a_request() -> None:
    others = http_parser.SINGLETON_HEADERS - REPEATABLE
    assert sorted(others) == ["content-length", "host", "transfer-encoding"]
    assert REPEATABLE <= http_parser.SINGLETON_HEADERS


def test_a_head_stays_as_long_without_the_names() -> None:
    whole = head(HOST, *TWICE, (b"content-TYPE", b"x"))
    hidden = hide_names(whole)
    assert len(hidden) == len(whole)
    assert b"erver" not in hidden
    assert b"TYPE" not in hidden
    assert b"Host: a" in hidden


def test_names_are_put_back_only_where_they_stood() -> None:
    whole = head(HOST, *TWICE)
    fields = (HOST, (b"xxxxxx", b"a"), (b"xxxxxx", b"b"))
    assert restore_names(fields, whole) == (HOST, *TWICE)
    assert restore_names(fields[:2], whole) is None
    assert restore_names((HOST, (b"xxxxx", b"a"), (b"xxxxxx", b"b")), whole) is None
