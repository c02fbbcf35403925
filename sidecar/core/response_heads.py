"""Builds the response head for the client: the upstream's without its hop-by-hop fields.

All other fields stay byte for byte and in order, repeated ``Set-Cookie`` included. The framing is
declared anew, to match how the body is sent to the client.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sidecar.core.headers import HOP_BY_HOP, Headers, NameTable, canonical, read_connection


class ResponseHeaderClass(IntEnum):
    """What a response field means to the sidecar; most mean nothing."""

    NOTHING = 0
    LENGTH = 1
    CODING = 2
    CACHING = 3
    CONNECTION = 4
    HOP_BY_HOP = 5
    CHALLENGE = 6
    DATE = 7


_OF_RESPONSES: Final = {
    "content-length": ResponseHeaderClass.LENGTH,
    "transfer-encoding": ResponseHeaderClass.CODING,
    "cache-control": ResponseHeaderClass.CACHING,
    "connection": ResponseHeaderClass.CONNECTION,
    "www-authenticate": ResponseHeaderClass.CHALLENGE,
    "date": ResponseHeaderClass.DATE,
}


def _classify(raw_name: bytes) -> int:
    name = raw_name.lower().decode("latin-1")
    other = ResponseHeaderClass.HOP_BY_HOP if name in HOP_BY_HOP else ResponseHeaderClass.NOTHING
    return _OF_RESPONSES.get(name, other)


MEANINGS: Final = NameTable(_classify)
"""The class of each field name, as an ``int``."""

_IS_LENGTH: Final = int(ResponseHeaderClass.LENGTH)  # ints: looking an enumeration up costs time
_IS_CODING: Final = int(ResponseHeaderClass.CODING)
_IS_CACHING: Final = int(ResponseHeaderClass.CACHING)
_IS_CONNECTION: Final = int(ResponseHeaderClass.CONNECTION)
_IS_CHALLENGE: Final = int(ResponseHeaderClass.CHALLENGE)
_IS_DATE: Final = int(ResponseHeaderClass.DATE)
_join: Final = b": ".join


def build_response_head(
    status: int,
    reason: bytes,
    headers: Headers,
    *,
    connection: bytes = b"",
    is_chunked: bool = False,
    is_private: bool = False,
    extra: bytes = b"",
) -> bytes:
    """Return a whole response head for the client, the empty line included.

    The upstream's end-to-end fields stay byte for byte. The framing is declared anew: with
    ``is_chunked``, ``Transfer-Encoding: chunked`` takes the place of the upstream's or is appended,
    and any length is dropped; otherwise a ``Content-Length`` stays and no coding is declared.
    ``connection`` is empty, or ``CLOSE``, ``KEEP_ALIVE`` or ``WEBSOCKET`` of ``headers``. With
    ``is_private``, ``Cache-Control: private`` is added unless the upstream sent a ``Cache-Control``
    (RFC 6750 section 2.3). ``extra`` are whole lines to add. ``Via`` is not added: RFC 9110 section
    7.6.3 leaves that to a gateway.
    """
    lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    is_declared = not is_chunked
    may_have_length = status >= 200 and status != 204  # RFC 9110 section 8.6
    named = _named_by(headers)
    for header in headers:
        kind = MEANINGS[header[0]]
        if named and canonical(header[0]) in named:
            continue
        if kind == 0:
            lines.append(_join(header))
        elif kind == _IS_LENGTH:
            if may_have_length and not is_chunked:
                lines.append(_join(header))
        elif kind == _IS_CACHING:
            is_private = False
            lines.append(_join(header))
        elif kind in (_IS_CHALLENGE, _IS_DATE):
            lines.append(_join(header))
        elif kind == _IS_CODING and not is_declared:
            is_declared = True
            lines.append(header[0] + b": chunked")
    if not is_declared:
        lines.append(b"Transfer-Encoding: chunked")
    if is_private:
        lines.append(b"Cache-Control: private")
    lines.append(b"%b%b\r\n" % (connection, extra))
    return b"\r\n".join(lines)


def _named_by(headers: Headers) -> frozenset[str]:
    """Return the canonical names of the hop-by-hop fields that ``Connection`` lists."""
    values: tuple[bytes, ...] = ()
    for name, value in headers:
        if MEANINGS[name] == _IS_CONNECTION:
            values += (value,)
    return read_connection(values).named if values else _NONE


_NONE: Final[frozenset[str]] = frozenset()
