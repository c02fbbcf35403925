"""A chunked body: its framing is read, its data is counted, and the work of one call is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.chunked import MOST_CHUNKS_AT_ONCE, ChunkedBody, ChunkError, TrailersTooLarge

LAST = b"0\r\n\r\n"
BEHIND = b"GET / HTTP/1.1\r\n"


def frame(chunks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + LAST


def read(pieces: list[bytes], body: ChunkedBody | None = None) -> tuple[bytes, bytes, ChunkedBody]:
    """Return the data, what was left behind the body, and the reader."""
    body = body or ChunkedBody()
    data: list[bytes] = []
    left = b""
    for piece in pieces:
        start = 0
        while start < len(piece) and not body.is_complete:
            went_on = body.read(piece, start, data)
            assert went_on > start, "each call makes progress"
            start = went_on
        left += piece[start:]
    return b"".join(data), left, body


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(cut, len(raw)) for cut in cuts} | {len(raw)})
    return [raw[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


CHUNK = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n\r\n", b"\r\n", LAST, b"\r", b"\n", b"1\r\na\r\n", b"\r\n\r\n" * 300]),
)
REPEATED = st.lists(st.tuples(CHUNK, st.integers(1, 9)), max_size=8).map(
    lambda runs: [chunk for chunk, times in runs for _ in range(times)]
)


@given(REPEATED, st.lists(st.integers(0, 2000), max_size=6))
def test_any_data_comes_out_as_it_went_in_however_it_is_split(
    chunks: list[bytes], cuts: list[int]
) -> None:
    data, left, body = read(split(frame(chunks) + BEHIND, cuts))
    assert data == b"".join(chunks)
    assert left == BEHIND
    assert body.is_complete
    assert body.data_bytes == len(data)


@pytest.mark.parametrize("size", range(1, 16))
def test_tiny_chunks_of_one_size_are_read_in_runs(size: int) -> None:
    chunks = [bytes((number + place) % 256 for place in range(size)) for number in range(5000)]
    for raw in (frame(chunks), frame(chunks).upper() if size > 9 else frame(chunks)):
        body, data, start, calls = ChunkedBody(), list[bytes](), 0, 0
        while start < len(raw):
            start = body.read(raw, start, data)
            calls += 1
        assert 1 <= calls <= 4
        assert body.is_complete
        assert len(b"".join(data)) == 5000 * size
    assert read([frame(chunks)])[0] == b"".join(chunks)


def test_tiny_chunks_of_changing_sizes_are_read_in_runs_too() -> None:
    chunks = [bytes((n + place) % 256 for place in range(1 + n % 15)) for n in range(5000)]
    raw, data = frame(chunks), list[bytes]()
    start = ChunkedBody().read(raw, 0, data)
    assert start > 5 * MOST_CHUNKS_AT_ONCE
    assert len(data) < 10
    assert read([raw])[0] == b"".join(chunks)


def test_one_call_reads_a_bounded_number_of_chunks() -> None:
    raw = frame([b"a" * 20, b"b" * 21] * 5000)
    data: list[bytes] = []
    ChunkedBody().read(raw, 0, data)
    assert len(data) == MOST_CHUNKS_AT_ONCE
    assert len(read([raw])[0]) == 205_000


@given(
    st.lists(st.integers(1, 15).flatmap(lambda n: st.binary(min_size=n, max_size=n)), max_size=60),
    st.lists(st.integers(0, 500), max_size=4),
)
def test_runs_of_tiny_chunks_are_read_like_the_single_ones(
    chunks: list[bytes], cuts: list[int]
) -> None:
    whole = frame(chunks) + BEHIND
    bytewise = [whole[place : place + 1] for place in range(len(whole))]
    assert read(split(whole, cuts))[:2] == read(bytewise)[:2] == (b"".join(chunks), BEHIND)


@pytest.mark.parametrize(
    "bad", [b"1\r\nab\r\n", b"2\r\na\r\n", b"1\r\na\n", b" 1\r\na\r\n", b"+1\r\na\r\n"]
)
def test_a_run_ends_before_a_chunk_that_is_malformed(bad: bytes) -> None:
    with pytest.raises(ChunkError):
        read([frame([b"a", b"bc"] * 8)[: -len(LAST)] + bad + LAST])


READ = {
    "no data": LAST,
    "upper and lower case": b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST,
    "leading zeros": b"000a\r\n0123456789\r\n" + LAST,
    "an extension": b"1;a\r\nx\r\n0;b=c\r\n\r\n",
    "a quoted extension": b'1;a="b \\" ;c"\r\nx\r\n' + LAST,
    "white space around an extension": b"1 ; a = b\t;c\r\nx\r\n" + LAST,
    **{
        f"white space in {line!r}": line + b"\r\nx\r\n0" + line[1:] + b"\r\n\r\n"
        for line in (
            *(b"1; a=b", b"1 ;a=b", b"1;a =b", b"1;a= b", b"1\t;\ta\t=\tb", b"1   ;   a"),
            *(b'1; a="b;c"', b'1;a= "b ; c"', b'1 ; a = "\\"" ; b'),
        )
    },
    "trailers": LAST[:-2] + b"X: y\r\nY:\r\n\r\n",
}


@pytest.mark.parametrize("name", READ)
def test_every_form_that_the_grammar_allows_is_read(name: str) -> None:
    raw = READ[name]
    for pieces in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        _, left, body = read(pieces)
        assert body.is_complete
        assert left == b""


REFUSED = {
    **{
        f"size {size!r}": size + b"\r\nabcdef\r\n" + LAST
        for size in (
            *(b"", b" ", b"5 ", b" 5", b"\t5", b"5\t", b"0x5", b"+5", b"-5", b"5_0", b"g"),
            *(b"5;", b"5;=a", b"5;a=", b'5;a="', b"5;a\x00", b"5;a\rb", b"5;a\nb", b"5 a", b"5,5"),
            *("٥".encode(), b"1" * 17, b"5;" + b"a" * 20_000),
        )
    },
    "data longer than its size": b"1\r\nab\r\n" + LAST,
    "data shorter than its size": b"3\r\nab\r\n" + LAST,
    "data ended by LF": b"1\r\na\n" + LAST,
    "data ended by CR": b"1\r\na\r\r\n" + LAST,
    "size ended by LF": b"1\na\r\n" + LAST,
    "all lines ended by LF": b"1\na\n0\n\n",
    "an extension ended by LF": b"1; a=b\na\n",
    "a trailer ended by LF": b"0\r\nX: y\n\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a trailer without a colon": b"0\r\nX\r\n\r\n",
    "a trailer without a name": b"0\r\n: y\r\n\r\n",
    "space before the colon": b"0\r\nX : y\r\n\r\n",
    "a control character in a trailer": b"0\r\nX: \x00\r\n\r\n",
    "mostly framing": b"1;%b\r\na\r\n" % (b"a" * 90) * 500 + LAST,
}


@pytest.mark.parametrize("name", REFUSED)
def test_framing_that_could_be_read_in_two_ways_is_refused(name: str) -> None:
    raw = REFUSED[name]
    for pieces in ([raw], [raw[i : i + 7] for i in range(0, len(raw), 7)]):
        with pytest.raises(ChunkError):
            read(pieces)


@pytest.mark.parametrize(
    "trailers", [b"X: y\r\n" * 5, b"X: %b\r\n" % (b"a" * 200), b"X: " + b"a" * 200]
)
def test_a_trailer_section_is_bounded_as_a_header_section_is(trailers: bytes) -> None:
    with pytest.raises(TrailersTooLarge):
        read([b"0\r\n" + trailers], ChunkedBody(4, 100))


def test_a_size_line_that_never_ends_is_refused() -> None:
    body = ChunkedBody()
    with pytest.raises(ChunkError):
        read([b"1;" + b"a" * 1000] * 100, body)
