"""A method or a transfer coding that isn't known gets 501; anything malformed stays 400."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.wire.not_implemented import is_unknown_coding, may_become_line
from sidecar.wire.requests import RequestLimits, RequestReader, RequestRefused

LIMITS = RequestLimits(headers=16, header_bytes=1024, url_bytes=512, body_bytes=100_000)
LOOP = asyncio.new_event_loop()  # nothing ever runs on it
LOOP.close()
REST = b"Host: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"


def answer_to(data: bytes, size: int = 0) -> tuple[str, int]:
    """Return code and status of the refusal of a head that arrives in pieces of ``size``."""
    reader = RequestReader(LOOP, LIMITS)
    step = size or len(data)
    try:
        for start in range(0, len(data), step):
            reader.receive(data[start : start + step])
            reader.next_request()
    except RequestRefused as refusal:
        return refusal.denial.code, refusal.denial.status
    return "", 0


NOT_IMPLEMENTED = {
    **{
        f"the method {method!r}": b"%b /x HTTP/1.1\r\n%b" % (method, REST)
        for method in (
            *(b"FOO", b"get", b"Get", b"GETS", b"GE", b"G", b"X!Y", b"A" * 64, b"0", b"FOO-BAR_1"),
            *(b"DESCRIBE", b"ANNOUNCE", b"PLAY"),  # of RTSP
        )
    },
    "a method in HTTP/1.0": b"FOO /x HTTP/1.0\r\n\r\n",
    "a method, and a query": b"FOO /x?y=%%zz HTTP/1.1\r\n" + REST,
    "a method behind empty lines": b"\r\n\r\nFOO /x HTTP/1.1\r\n" + REST,
    "a method, and no end of the head": b"FOO /x HTTP/1.1\r\n",
    "a method with a long target": b"FOO /%b HTTP/1.1\r\n" % (b"x" * 400),
    **{
        f"the coding {value!r}": POST + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % value
        for value in (
            *(b"foo", b"gzip", b"gzip, chunked", b"identity", b"xchunked"),
            *(
                b"GZIP ,\tChunked",
                b'foo;a=b;c="d", chunked',
                b"deflate, gzip, chunked",
                b"chunkedx",
            ),
        )
    },
    "a coding beside repeated fields": POST
    + b"Server: a\r\nServer: b\r\nTransfer-Encoding: br\r\n\r\n",
}
MALFORMED = {
    **{
        f"the line {line!r}": line + b"\r\n" + REST
        for line in (
            *(b"G=T /x HTTP/1.1", b"FOO  /x HTTP/1.1", b"FOO /x  HTTP/1.1", b"FOO /x HTTP/1.1 "),
            *(b"FOO\t/x\tHTTP/1.1", b"FOO /x HTTP/1.2", b"FOO /x HTTP/2.0", b"FOO /x RTSP/1.0"),
            *(b"FOO /x", b"FOO", b"FOO  HTTP/1.1", b"A" * 65 + b" /x HTTP/1.1", b"EHLO a.example"),
            *(b"FOO /\xe9 HTTP/1.1", b"FOO /\0 HTTP/1.1", b" FOO /x HTTP/1.1", b"F\0O /x HTTP/1.1"),
            *(b"FOO /x http/1.1", b"FOO /x HTTP/1.1 x", b"PRI * HTTP/2.0", b"{} /x HTTP/1.1"),
        )
    },
    "a line that LF ends": b"FOO /x HTTP/1.1\nHost: a\n\n",
    "a hello of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200 + b"\n",
    **{
        f"the coding {value!r}": POST + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % value
        for value in (
            *(
                b"",
                b",",
                b",chunked",
                b"chunked,",
                b"chunked, chunked",
                b"chunked;a=b",
                b'"chunked"',
            ),
            *(
                b"chu nked",
                b"\x0bchunked",
                b"foo;",
                b"foo;a",
                b'foo;a="b',
                b"gzip, chunked, chunked",
            ),
            *(b"chunked, gzip", b"gzip, chunked, br", b"chunked, identity"),
            *(b"fo\xc3\xb6", b"gzip chunked", b"gzip; chunked"),
        )
    },
    "a coding in HTTP/1.0": b"POST /x HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a coding beside a length": POST + b"Content-Length: 1\r\nTransfer-Encoding: gzip\r\n\r\nx",
    "a length beside a coding": POST + b"Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
    "two lines of codings": POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("name", NOT_IMPLEMENTED)
def test_what_is_well_formed_and_unknown_is_not_implemented(name: str, size: int) -> None:
    assert answer_to(NOT_IMPLEMENTED[name], size) == ("bad_request", 501)


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_a_bad_request(name: str, size: int) -> None:
    assert answer_to(MALFORMED[name], size) == ("bad_request", 0)


def test_noise_is_refused_before_its_line_ends() -> None:
    assert answer_to(b"\x16\x03\x01") == ("bad_request", 0)
    assert answer_to(b"FOO\0") == ("bad_request", 0)
    assert answer_to(b"FOO /x HTTQ") == ("bad_request", 0)


def test_a_line_of_an_unknown_method_that_never_ends_is_refused() -> None:
    assert answer_to(b"FOO /" + b"x" * 4000, 50) == ("headers_too_large", 0)


@pytest.mark.parametrize("length", range(1, 26))
def test_any_beginning_of_a_request_line_may_become_one(length: int) -> None:
    line = b"\r\nFOO /x?y HTTP/1.0\r\n"
    assert may_become_line(line[: max(length, 3)])


def test_a_coding_is_unknown_only_before_one_plain_chunked() -> None:
    assert is_unknown_coding(b"gzip")
    assert is_unknown_coding(b"gzip, br, chunked")
    assert not is_unknown_coding(b"chunked, gzip")
    assert not is_unknown_coding(b"chunked")
    assert not is_unknown_coding(b"gzip, chunked;x=y")
