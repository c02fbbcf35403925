"""Where a response ends, which of it is accepted, and whether its connection may be reused."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import UpstreamBroken
from sidecar.wire.responses import HeadMemory, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n"
WEBSOCKET = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
INTERIM_STATUSES = (100, 102, 103, 104, 150, 199)


@dataclass(frozen=True)
class Seen:
    """The parts of a response that a test compares."""

    status: int
    body: bytes = b""
    length: int | None = None
    is_complete: bool = True
    is_clean: bool = True
    keeps_alive: bool = True
    has_body: bool = True
    interim: tuple[int, ...] = ()
    tunnelled: bytes | None = None


def read(
    pieces: list[bytes],
    method: str = "GET",
    *,
    wants_upgrade: bool = False,
    memory: HeadMemory | None = None,
) -> Seen:
    """Feed ``pieces`` as a connection would. Raises ``UpstreamBroken``."""
    reader = ResponseReader(memory)
    reader.expect(method, wants_upgrade)
    for piece in pieces:
        reader.receive(piece)
    return describe(reader)


def describe(reader: ResponseReader) -> Seen:
    head = reader.head
    assert head is not None
    return Seen(
        head.status,
        reader.take(),
        head.length,
        reader.is_complete,
        reader.is_clean,
        head.keeps_alive,
        head.has_body,
        tuple(interim.status for interim in reader.interim),
        reader.tunnelled if reader.is_upgraded else None,
    )


READ: dict[str, tuple[bytes, Seen]] = {
    "length": (OK + b"Content-Length: 3\r\n\r\nabc", Seen(200, b"abc", 3)),
    "length in odd case and white space": (
        OK + b"cOnTeNt-LeNgTh: \t3 \t\r\n\r\nabc",
        Seen(200, b"abc", 3),
    ),
    "length of zero": (OK + b"Content-Length: 0\r\n\r\n", Seen(200, b"", 0)),
    "not all there": (
        OK + b"Content-Length: 3\r\n\r\nab",
        Seen(200, b"ab", 3, is_complete=False),
    ),
    "chunks": (CHUNKED + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n", Seen(200, b"abcd")),
    "chunks, none": (CHUNKED + b"0\r\n\r\n", Seen(200)),
    "chunks, more to come": (CHUNKED + b"3\r\nab", Seen(200, b"ab", is_complete=False)),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\nSet-Cookie: x\r\n\r\n", Seen(200, b"a")),
    "until the connection closes": (
        OK + b"\r\nabc",
        Seen(200, b"abc", is_complete=False, keeps_alive=False),
    ),
    "HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        Seen(200, b"a", 1, keeps_alive=False),
    ),
    "HTTP/1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        Seen(200, b"a", 1),
    ),
    "the last one": (
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na",
        Seen(200, b"a", 1, keeps_alive=False),
    ),
    "HTTP/1.0 that stays and closes": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 1\r\n\r\na",
        Seen(200, b"a", 1, keeps_alive=False),
    ),
    "HTTP/1.0 that stays, in chunks": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\n\r\n",
        Seen(200, b"a", keeps_alive=False),
    ),
    "204 with a length": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        Seen(204, length=5, has_body=False, keeps_alive=False),
    ),
    "204 with a length of zero": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        Seen(204, length=0, has_body=False),
    ),
    "204 in chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        Seen(204, has_body=False, keeps_alive=False),
    ),
    "205 with a body": (
        b"HTTP/1.1 205 Reset\r\nContent-Length: 1\r\n\r\na",
        Seen(205, b"a", 1),
    ),
    **{
        f"chunks, {line!r}": (CHUNKED + line + b"\r\na\r\n0\r\n\r\n", Seen(200, b"a"))
        for line in (b"1;a=b", b"1 ; a = b", b"1\t;\ta", b'1 ;a="b;c" ; d', b"1 ", b"1   \t", b"01")
    },
    "chunks, a last size with white space": (
        CHUNKED + b"1\r\na\r\n0 ; a = b\r\n\r\n",
        Seen(200, b"a"),
    ),
    "status 999": (b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n", Seen(999, length=0)),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Seen(204, has_body=False)),
    "304 with the length of what does not come": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        Seen(304, length=5, has_body=False),
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Seen(200, length=0)),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\na",
        Seen(200, b"a", 1, interim=(100, 103)),
    ),
    "interim answers that announce no body": (
        b"".join(b"HTTP/1.1 %d X\r\nContent-Length: 0 \r\n\r\n" % s for s in INTERIM_STATUSES)
        + OK
        + b"Content-Length: 1\r\n\r\na",
        Seen(200, b"a", 1, interim=INTERIM_STATUSES),
    ),
    "an interim answer before chunks": (
        HINT + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        Seen(200, b"abc", interim=(103,)),
    ),
    "an interim answer before one without a body": (
        HINT + b"HTTP/1.1 204 No Content\r\n\r\n",
        Seen(204, has_body=False, interim=(103,)),
    ),
    "empty lines before each head": (
        b"\r\n" + HINT + b"\r\n\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na",
        Seen(200, b"a", 1, interim=(103,)),
    ),
    "a body like a head of another protocol": (
        OK + b"Content-Length: 18\r\n\r\nRTSP/1.0 200 OK\r\n\r",
        Seen(200, b"RTSP/1.0 200 OK\r\n\r", 18),
    ),
    "an upgrade that is only advertised": (
        OK + WEBSOCKET + b"Content-Length: 1\r\n\r\na",
        Seen(200, b"a", 1),
    ),
    "bytes behind a counted answer": (
        OK + b"Content-Length: 1\r\n\r\nabc",
        Seen(200, b"a", 1, is_clean=False),
    ),
    "an answer nobody asked for behind a counted one": (
        OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 1\r\n\r\nb",
        Seen(200, b"a", 1, is_clean=False),
    ),
    "an answer nobody asked for behind a chunked one": (
        CHUNKED + b"0\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nb",
        Seen(200, is_clean=False),
    ),
    "an answer nobody asked for behind an empty one": (
        OK + b"Content-Length: 0\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nb",
        Seen(200, length=0, is_clean=False),
    ),
    "junk behind a 204": (b"HTTP/1.1 204 N\r\n\r\njunk", Seen(204, has_body=False, is_clean=False)),
}


LOOSE: dict[str, tuple[bytes, bytes, bytes]] = {
    "space before the colon": (OK, b"X-A : b\r\n", b"b"),
    "tabs before the colon": (OK, b"X-A\t \t: b\r\n", b"b"),
    "space before the colon of a length": (OK, b"X-A: b\r\nContent-Length : 1\r\n", b"b"),
    "bare LF": (b"HTTP/1.1 200 OK\n", b"X-A: b\n", b"b"),
    "bare LF after one field": (OK, b"X-A: b\n", b"b"),
    "a fold": (OK, b"X-A: b\r\n  c\r\n", b"b c"),
    "a fold by a tab, with bare LF": (OK, b"X-A: b\n\tc\n", b"b c"),
    "two folds": (OK, b"X-A: b\r\n c\r\n d\r\n", b"b c d"),
    "an empty fold": (OK, b"X-A: b\r\n \r\n", b"b"),
    "a fold before the value": (OK, b"X-A:\r\n b\r\n", b"b"),
    "the same length twice": (OK, b"X-A: b\r\nContent-Length: 1\r\n", b"b"),
    "the same length in a list": (OK, b"X-A: b\r\nContent-Length: 1, 1\r\n", b"b"),
    "two spaces before the status": (b"HTTP/1.1  200 OK\r\n", b"X-A: b\r\n", b"b"),
    "a tab before the status": (b"HTTP/1.1\t200\tOK\r\n", b"X-A: b\r\n", b"b"),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n", b"X-A: b\r\n", b"b"),
    "UTF-8 in a value": (OK, "X-A : ü\r\n".encode(), "ü".encode()),
}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("name", LOOSE)
def test_a_loose_head_is_put_right(name: str, end: bytes, size: int) -> None:
    line, fields, value = LOOSE[name]
    data = line + fields + b"Content-Length: 1" + end + end + b"a"
    reader = ResponseReader(HeadMemory())
    for _ in range(2):  # the second one might be read from the memory
        reader.expect("GET", False)
        for start in range(0, len(data), size):
            reader.receive(data[start : start + size])
        assert reader.head is not None
        assert reader.head.headers == [(b"X-A", value), (b"Content-Length", b"1")] or (
            sorted(reader.head.headers) == [(b"Content-Length", b"1"), (b"X-A", value)]
        )
        assert describe(reader) == Seen(200, b"a", 1)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (b" O\x01K", b"OK"),
        (b" O\x1b[31mK", b"O[31mK"),
        (b" \x7f", b""),
        (b" O\tK", b"O\tK"),
        (" für".encode(), "für".encode()),
        (b" ", b""),
        (b"", b""),
    ],
)
def test_no_control_character_of_a_reason_reaches_the_caller(
    reason: bytes, expected: bytes
) -> None:
    reader = ResponseReader()
    reader.expect("GET", False)
    reader.receive(b"HTTP/1.1 200" + reason + b"\r\nContent-Length: 0\r\n\r\n")
    assert reader.head is not None
    assert reader.head.reason == expected


FAULTS = {
    "white space before the first name": "white space before the response's first field name",
    "a space within a name": "a field name in the response is empty, or holds what no name may",
    "no colon": "a line of the response's head has no colon",
    "two lengths": "the response has several lengths",
    "a control character in a value": "a field in the response holds a control character",
    "a bare CR in a value": "a field in the response holds a bare CR",
    "a bare CR in the reason": "the response's status line holds a bare CR",
    "status of two digits": "the response's status line has no status of three digits",
    "HTTP/2.0": "the response's version is not one of HTTP/1.1",
    "space before a chunk size": "the response's chunked body is malformed: the size of a chunk",
    "a 101 nobody asked for": "the upstream switched protocols without being asked",
}


# What a service might make up as the caller's next answer, in the body of an interim one.
FORGED = OK + b"Content-Length: 5\r\n\r\nhello"
FORGED_BODIES = (
    b"Content-Length: %d\r\n\r\n%b" % (len(FORGED), FORGED),
    b"Content-Length: 1\r\n\r\na",
    b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(FORGED), FORGED),
    b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 00\r\n\r\n",
)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(c, len(data)) for c in cuts} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


@pytest.mark.parametrize("name", READ)
def test_an_answer_is_read_in_one_piece(name: str) -> None:
    data, expected = READ[name]
    assert read([data]) == expected


@pytest.mark.parametrize("name", READ)
def test_an_answer_is_the_same_byte_by_byte(name: str) -> None:
    data, expected = READ[name]
    assert read([data[i : i + 1] for i in range(len(data))]) == expected


@given(st.sampled_from(sorted(READ)), st.lists(st.integers(0, 300), max_size=6))
def test_an_answer_is_the_same_however_its_bytes_are_split(name: str, cuts: list[int]) -> None:
    data, expected = READ[name]
    assert read(cut(data, cuts)) == expected


BROKEN: dict[str, bytes] = {
    "CL and TE": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 2\r\n\r\nabc",
    "two lengths in one field": OK + b"Content-Length: 3, 2\r\n\r\nabc",
    **{
        f"length {value!r}": OK + b"Content-Length: " + value + b"\r\n\r\n"
        for value in (b"", b"+3", b"-1", b"0x3", b"9223372036854775808", b"1" * 19)
    },
    **{
        f"coding {value!r}": OK + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n"
        for value in (b"gzip", b"gzip, chunked", b"identity", b"", b"chunked, chunked")
    },
    "coding twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "NUL": OK + b"X: a\0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "white space before the first name": OK + b" X: a\r\n\r\n",
    "a folded length": OK + b"Content-Length: 1\r\n 0\r\n\r\n",
    "no colon": OK + b"X\r\n\r\n",
    "no name": OK + b": a\r\n\r\n",
    "a space within a name": OK + b"X Y: a\r\n\r\n",
    "a delimiter within a name": OK + b"X(Y): a\r\n\r\n",
    "a control character in a value": OK + b"X: a\x01\r\n\r\n",
    "a bare CR in a value": OK + b"X: a\rb\r\n\r\n",
    "a bare CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "space before a chunk size": CHUNKED + b" 1\r\na\r\n0\r\n\r\n",
    "bare LF after a chunk size": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "chunk size 0x1": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "space before the status line": b" " + OK + b"\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "missing CRLF after a chunk": CHUNKED + b"1\r\naX0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 No\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "nothing but junk": b"\x16\x03\x01\x02",
    "a 101 nobody asked for": SWITCH + WEBSOCKET + b"\r\n",
    "a bare 101": SWITCH + b"\r\n",
    **{
        f"interim answer {status} with a body {number}": b"HTTP/1.1 %d X\r\n%b%b"
        % (status, framed, OK + b"Content-Length: 2\r\n\r\nhi")
        for status in INTERIM_STATUSES
        for number, framed in enumerate(FORGED_BODIES)
    },
    "an interim answer with a body behind one without": HINT * 2
    + b"HTTP/1.1 104 X\r\n"
    + FORGED_BODIES[0],
    **{
        f"{protocol.decode()} {behind}": ahead + protocol + b" 200 OK\r\nContent-Length: 0\r\n\r\n"
        for protocol in (b"RTSP/1.0", b"RTSP/1.1", b"ICE/1.0", b"ICE/1.1", b"rtsp/1.0", b"ICY")
        for behind, ahead in (
            ("", b""),
            ("behind empty lines", b"\r\n\r\n"),
            ("behind an interim answer", HINT * 2),
        )
    },
    "RTSP, interim": b"RTSP/1.1 103 E\r\n\r\n",
    "HTTP/2.0, interim": b"HTTP/2.0 103 E\r\n\r\n",
    "a flood of interim answers": b"HTTP/1.1 103 E\r\n\r\n" * 17,
    "a head without end": OK + b"X: a\r\n" * 50_000,
    "a field without end": OK + b"X: " + b"a" * 300_000,
    "many fields": OK + b"X: a\r\n" * 513 + b"\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_response_breaks_the_exchange(name: str) -> None:
    with pytest.raises(UpstreamBroken):
        read([BROKEN[name]])


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_says_what_is_wrong(name: str) -> None:
    with pytest.raises(UpstreamBroken, match=re.escape(FAULTS[name])):
        read([BROKEN[name]])


def test_many_folds_are_put_right_in_linear_time() -> None:
    reader = ResponseReader()
    reader.expect("GET", False)
    reader.receive(OK + b"X: a\r\n" + b" b\r\n" * 60_000 + b"Content-Length: 0\r\n\r\n")
    assert reader.head is not None
    assert reader.head.headers[0] == (b"X", b"a" + b" b" * 60_000)


@pytest.mark.parametrize("name", BROKEN)
def test_it_breaks_in_small_pieces_too(name: str) -> None:
    data = BROKEN[name]
    with pytest.raises(UpstreamBroken):
        read([data[i : i + 5] for i in range(0, len(data), 5)])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"Content-Length: 5\r\n\r\n", Seen(200, length=5, has_body=False)),
        (b"Content-Length: 5\r\n\r\nabcde", Seen(200, length=5, has_body=False, is_clean=False)),
        (b"Transfer-Encoding: chunked\r\n\r\n", Seen(200, has_body=False)),
        (b"\r\n", Seen(200, has_body=False, keeps_alive=False)),
    ],
)
def test_an_answer_to_head_ends_with_its_head(sent: bytes, expected: Seen) -> None:
    assert read([OK + sent], "HEAD") == expected


def test_after_head_the_next_answer_is_read_from_its_start() -> None:
    reader = ResponseReader()
    reader.expect("HEAD", False)
    reader.receive(OK + b"Content-Length: 5\r\n\r\n")
    reader.expect("GET", False)
    reader.receive(OK + b"Content-Length: 2\r\n\r\nhi")
    assert describe(reader) == Seen(200, b"hi", 2)


@pytest.mark.parametrize(
    "first",
    [
        CHUNKED + b"1\r\na\r\n0\r\nSet-Cookie: stolen\r\nX: 1\r\n\r\n",
        OK + b"Content-Length: 1\r\n\r\na",
        b"HTTP/1.1 103 E\r\nSet-Cookie: stolen\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
    ],
)
def test_nothing_of_one_response_leaks_into_the_next(first: bytes) -> None:
    reader = ResponseReader()
    reader.expect("GET", False)
    reader.receive(first)
    assert reader.is_complete
    reader.take()
    reader.interim.clear()
    reader.expect("GET", False)
    reader.receive(OK + b"Content-Length: 2\r\n\r\nhi")
    assert reader.head is not None
    assert reader.head.headers == [(b"Content-Length", b"2")]
    assert describe(reader) == Seen(200, b"hi", 2)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_after_a_requested_101_bytes_belong_to_the_tunnel(size: int) -> None:
    data = SWITCH + WEBSOCKET + b"\r\n" + b"\x81\x02hi"
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    seen = read(pieces, wants_upgrade=True)
    assert (seen.status, seen.tunnelled, seen.is_clean) == (101, b"\x81\x02hi", False)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: close\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    ],
)
def test_a_101_that_names_no_websocket_opens_no_tunnel(fields: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read([SWITCH + fields + b"\r\n" + b"bytes"], wants_upgrade=True)


@pytest.mark.parametrize(
    "fields",
    [
        b"Upgrade: websocket\r\n",
        b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n",
        b"Upgrade : websocket\n",
    ],
)
def test_a_101_without_a_connection_field_opens_its_tunnel(fields: bytes) -> None:
    seen = read([SWITCH + fields + b"\r\n" + b"bytes"], wants_upgrade=True)
    assert (seen.status, seen.tunnelled) == (101, b"bytes")


@pytest.mark.parametrize("framed", FORGED_BODIES)
def test_a_101_with_a_body_opens_no_tunnel(framed: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read([SWITCH + WEBSOCKET + framed], wants_upgrade=True)


def test_a_101_that_announces_no_body_opens_its_tunnel() -> None:
    data = SWITCH + WEBSOCKET + b"Content-Length: 0\r\n\r\nhi"
    assert read([data], wants_upgrade=True).tunnelled == b"hi"


def test_a_refused_upgrade_is_an_ordinary_response() -> None:
    refusal = b"HTTP/1.1 426 Upgrade Required\r\n" + WEBSOCKET + b"Content-Length: 2\r\n\r\nno"
    assert read([refusal], wants_upgrade=True) == Seen(426, b"no", 2)


def test_the_close_ends_only_a_body_that_lasts_until_then() -> None:
    reader = ResponseReader()
    reader.expect("GET", False)
    reader.receive(OK + b"\r\nabc")
    reader.end()
    assert describe(reader) == Seen(200, b"abc", is_clean=False, keeps_alive=False)


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 2", OK + b"Content-Length: 2\r\n\r\na", CHUNKED + b"1\r\na\r\n"],
)
def test_a_close_before_the_end_breaks_the_answer(sent: bytes) -> None:
    reader = ResponseReader()
    reader.expect("GET", False)
    if sent:
        reader.receive(sent)
    with pytest.raises(UpstreamBroken):
        reader.end()


def test_bytes_before_any_request_make_the_connection_unfit() -> None:
    reader = ResponseReader()
    reader.receive(OK + b"Content-Length: 0\r\n\r\n")
    assert not reader.is_clean


def test_header_bytes_come_out_as_they_went_in() -> None:
    reader = ResponseReader()
    reader.expect("GET", False)
    reader.receive(OK + b"sEt-CoOkIe: a\r\nSet-Cookie: \xe9\r\nX:\r\nContent-Length: 0\r\n\r\n")
    assert reader.head is not None
    assert reader.head.headers == [
        (b"sEt-CoOkIe", b"a"),
        (b"Set-Cookie", b"\xe9"),
        (b"X", b""),
        (b"Content-Length", b"0"),
    ]


@given(
    st.lists(st.sampled_from(sorted(READ)), min_size=2, max_size=6),
    st.lists(st.integers(0, 200), max_size=4),
)
def test_a_head_seen_before_is_read_as_the_parser_reads_it(
    names: list[str], cuts: list[int]
) -> None:
    memory = HeadMemory()
    for name in names:
        data, expected = READ[name]
        ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
        pieces = [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]
        assert read(pieces, memory=memory) == read([data], memory=memory) == expected


@pytest.mark.parametrize("rest", [b"", b"ab", b"abc", b"abcEXTRA"])
def test_a_head_seen_before_frames_each_answer_anew(rest: bytes) -> None:
    memory = HeadMemory()
    head = OK + b"Content-Length: 3\r\n\r\n"
    read([head + b"abc"], memory=memory)
    assert len(memory) == 1
    assert read([head + rest], memory=memory) == read([head + rest])
    assert read([head, rest], memory=memory) == read([head, rest])


def test_a_head_seen_before_promises_no_body_to_a_head_request() -> None:
    memory = HeadMemory()
    head = OK + b"Content-Length: 3\r\n\r\n"
    read([head + b"abc"], memory=memory)
    assert read([head], "HEAD", memory=memory) == read([head], "HEAD")


@pytest.mark.parametrize(
    "fields",
    [b"Set-Cookie: a=b\r\nContent-Length: 1", b"X: %b\r\nContent-Length: 1" % (b"a" * 2000)],
)
def test_no_cookie_and_no_large_head_is_kept(fields: bytes) -> None:
    memory = HeadMemory()
    read([OK + fields + b"\r\n\r\na"], memory=memory)
    assert len(memory) == 0


@pytest.mark.parametrize("stray", [b"\n\r\n\r\n", b"\r\r\n\r\n", b"\n\n\r\n\r\n"])
def test_line_ends_before_an_answer_are_not_taken_for_the_head_of_another(stray: bytes) -> None:
    memory = HeadMemory()
    read([stray + OK + b"Content-Length: 5\r\n\r\nhello"], memory=memory)
    other = [stray + b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"]
    assert read(other, memory=memory) == read(other)


def test_the_memory_of_heads_is_bounded() -> None:
    memory = HeadMemory(most=3)
    for number in range(9):
        read([OK + b"Date: %d\r\nContent-Length: 1\r\n\r\na" % number], memory=memory)
    assert len(memory) == 3
