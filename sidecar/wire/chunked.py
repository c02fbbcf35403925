"""Where a chunked body ends, and what its data is (RFC 9112 section 7.1). Pure: bytes in, data out.

Size lines are parsed; data is counted, and its bytes are never looked at. The parser is strict,
because two readings of one chunked body are a smuggled request: a line ends in CR LF only, no space
may surround a size, and a trailer field must have the form of RFC 9110 section 5.5. Extensions and
trailers are checked and dropped (RFC 9112 section 7.1.1 and RFC 9110 section 6.5.1).
"""

from __future__ import annotations

import re
from typing import Final

MOST_CHUNKS_AT_ONCE: Final = 256
"""The most chunks read in one call, as a tiny chunk costs far more time per byte than a large one.
In a run of tiny chunks, ``_RUN_SHARE`` of them count as one.
"""

_MOST_LINE_BYTES: Final = 16 * 1024
_FRAMING_BYTES: Final = 16 * 1024  # size lines and extensions allowed in any body,
_FRAMING_RATIO: Final = 16  # plus this for each data byte: a chunk of one byte has 5

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_read_size_line: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*"
    % (_TOKEN, _TOKEN, _QUOTED)
).fullmatch
_is_plain_size: Final = re.compile(rb"[0-9A-Fa-f]{1,8}").fullmatch
_is_trailer_field: Final = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*" % _TOKEN).fullmatch

_RUN_CHUNKS: Final = 1024
_RUN_SHARE: Final = 32
_LAST_DIGIT: Final = 16
_RUN_BYTES: Final = _RUN_SHARE * 6  # for chunks of one byte; larger ones count more
_TINY_FRAMING_BYTES: Final = 5  # a digit and two line ends


def _digit_of(size: int) -> bytes:
    return b"[%x%X]" % (size, size)


def tiny_run(size: int) -> re.Pattern[bytes]:
    """Match consecutive chunks of one size below 16."""
    return re.compile(rb"(?s:(?:%b\r\n.{%d}\r\n){4,%d})" % (_digit_of(size), size, _RUN_CHUNKS))


def mixed_run() -> re.Pattern[bytes]:
    """Match consecutive chunks of any sizes below 16."""
    chunks = [rb"%b\r\n.{%d}" % (_digit_of(size), size) for size in range(1, _LAST_DIGIT)]
    return re.compile(rb"(?s:(?:(?:%b)\r\n){4,%d})" % (b"|".join(chunks), _RUN_CHUNKS))


def mixed_data() -> re.Pattern[bytes]:
    """Match one chunk of a mixed run; its only group is the data."""
    data = [rb"(?<=%b\r\n).{%d}" % (_digit_of(size), size) for size in range(1, _LAST_DIGIT)]
    return re.compile(rb"(?s:[1-9a-fA-F]\r\n(%b)\r\n)" % b"|".join(data))


_match_same: Final = {
    ord(digit): (size, tiny_run(size).match)
    for size in range(1, _LAST_DIGIT)
    for digit in {f"{size:x}", f"{size:X}"}
}
_match_mixed: Final = mixed_run().match
_find_data: Final = mixed_data().findall

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
_DONE: Final = 4


class ChunkError(Exception):
    """The framing is malformed or excessive; the message says which."""


class TrailersTooLarge(ChunkError):
    """The trailer section has more fields, or bytes, than a header section may have."""


class ChunkedBody:
    """Reads one chunked body, as its bytes arrive.

    Its trailer section may have ``most_trailers`` fields, and ``most_trailer_bytes`` in total.
    """

    __slots__ = (
        "_framing_bytes",
        "_missing",
        "_most_trailer_bytes",
        "_most_trailers",
        "_part",
        "_state",
        "_trailer_bytes",
        "_trailers",
        "data_bytes",
    )

    def __init__(self, most_trailers: int = 128, most_trailer_bytes: int = 32 * 1024) -> None:
        self._most_trailers = most_trailers
        self._most_trailer_bytes = most_trailer_bytes
        self._state = _SIZE
        self._missing = 0
        self._part = b""
        self._framing_bytes = 0
        self._trailers = 0
        self._trailer_bytes = 0
        self.data_bytes = 0
        """How many bytes of data have been read."""

    @property
    def is_complete(self) -> bool:
        """Tell whether the last chunk and the whole trailer section have been read."""
        return self._state == _DONE

    def read(self, raw: bytes, start: int, pieces: list[bytes]) -> int:
        """Read ``raw`` from ``start``, append the data to ``pieces``; return where reading stopped.

        That is the end of ``raw``, the end of the body, or the place where ``MOST_CHUNKS_AT_ONCE``
        had been read, from which the next call continues. Raises ``ChunkError``.
        """
        end, chunks = len(raw), 0
        while start < end and self._state != _DONE:
            if self._state == _DATA:
                start = self._take_data(raw, start, pieces)
            elif self._state == _DATA_END:
                start = self._take_data_end(raw, start)
            elif chunks >= MOST_CHUNKS_AT_ONCE:
                break
            else:
                run_end = self._take_run(raw, start, pieces)
                chunks += 1 + (run_end - start) // _RUN_BYTES if run_end else 1
                start = run_end or self._take_chunk(raw, start, pieces)
        return start

    def _take_chunk(self, raw: bytes, start: int, pieces: list[bytes]) -> int:
        """Read a whole chunk without extensions in one step; otherwise, only its size line."""
        found = -1 if self._state != _SIZE or self._part else raw.find(b"\r\n", start, start + 10)
        digits = raw[start:found] if found > 0 else b""
        if _is_plain_size(digits) is None:
            return self._take_line(raw, start)
        size = int(digits, 16)
        data_end = found + 2 + size
        if not size or raw[data_end : data_end + 2] != b"\r\n":
            return self._take_line(raw, start)
        self._count_framing(len(digits))
        pieces.append(raw[found + 2 : data_end])
        self.data_bytes += size
        return data_end + 2

    def _take_run(self, raw: bytes, start: int, pieces: list[bytes]) -> int:
        """Read many tiny chunks in one step, as a caller sends them that flushes every few bytes.

        Return where they end; 0 if there are too few of them.
        """
        if self._state != _SIZE or self._part or raw[start] not in _match_same:
            return 0
        size, match_same = _match_same[raw[start]]
        if (run := match_same(raw, start)) is not None:
            end = run.end()
            data, chunks = _data_of_same(raw, start, end, size)
        elif (run := _match_mixed(raw, start)) is not None:
            end = run.end()
            found: list[bytes] = _find_data(raw, start, end)
            data, chunks = b"".join(found), len(found)
        else:
            return 0
        pieces.append(data)
        self.data_bytes += len(data)
        self._framing_bytes += chunks * _TINY_FRAMING_BYTES
        return end

    def _take_data(self, raw: bytes, start: int, pieces: list[bytes]) -> int:
        data = raw[start : start + self._missing]
        pieces.append(data)
        self.data_bytes += len(data)
        self._missing -= len(data)
        if not self._missing:
            self._state = _DATA_END
        return start + len(data)

    def _take_data_end(self, raw: bytes, start: int) -> int:
        """Read the CR LF after a chunk's data, which may arrive in two pieces."""
        found = self._part + raw[start : start + 2 - len(self._part)]
        if not b"\r\n".startswith(found):
            raise ChunkError("a chunk is longer than its size")
        start += len(found) - len(self._part)
        self._part = found
        if len(found) == 2:
            self._part = b""
            self._state = _SIZE
        return start

    def _take_line(self, raw: bytes, start: int) -> int:
        """Read a size line or a trailer field; keep the part of it if its end is missing."""
        part = self._part
        if part.endswith(b"\r") and raw.startswith(b"\n", start):
            self._part = b""
            self._read_line(part[:-1])
            return start + 1
        found = raw.find(b"\r\n", start)
        if found == -1:
            if raw.find(b"\n", start) != -1:
                raise ChunkError("a line ends in LF alone")
            self._part = part + raw[start:]
            self._check_part()
            return len(raw)
        self._part = b""
        self._read_line(part + raw[start:found] if part else raw[start:found])
        return found + 2

    def _check_part(self) -> None:
        """Limit the size of an unfinished line."""
        if self._state == _TRAILERS:
            if self._trailer_bytes + len(self._part) > self._most_trailer_bytes:
                raise TrailersTooLarge("the trailer section is too large")
        elif len(self._part) > _MOST_LINE_BYTES:
            raise ChunkError("a size line is too long")

    def _read_line(self, line: bytes) -> None:
        if self._state == _TRAILERS:
            self._read_trailer(line)
            return
        size_line = _read_size_line(line)
        if size_line is None or len(line) > _MOST_LINE_BYTES:
            raise ChunkError("the size of a chunk is malformed")
        self._count_framing(len(line))
        self._missing = int(size_line[1], 16)
        self._state = _DATA if self._missing else _TRAILERS

    def _count_framing(self, line_bytes: int) -> None:
        self._framing_bytes += line_bytes + 4  # with the line ends after the size and the data
        if self._framing_bytes > _FRAMING_BYTES + _FRAMING_RATIO * self.data_bytes:
            raise ChunkError("the body is mostly framing")

    def _read_trailer(self, line: bytes) -> None:
        if not line:
            self._state = _DONE
            return
        self._trailers += 1
        self._trailer_bytes += len(line) + 2
        is_too_large = self._trailer_bytes > self._most_trailer_bytes
        if is_too_large or self._trailers > self._most_trailers:
            raise TrailersTooLarge("the trailer section is too large")
        if _is_trailer_field(line) is None:
            raise ChunkError("a trailer field is malformed")


def _data_of_same(raw: bytes, start: int, end: int, size: int) -> tuple[bytes, int]:
    """Return the data of consecutive chunks of one tiny size, and the number of chunks."""
    width = size + _TINY_FRAMING_BYTES
    chunks = (end - start) // width
    data = bytearray(chunks * size)
    for place in range(size):
        data[place::size] = raw[start + 3 + place : end : width]
    return bytes(data), chunks
