"""The head of a response as the client gets it: the upstream's, less what is hop by hop.

Everything else stays byte for byte and in order, ``Set-Cookie`` twice included. The framing is
declared anew, as the body is framed towards the client.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.headers import HOP_BY_HOP, Headers, NameTable, canonical, read_connection

_IS_LENGTH: Final = 1
_IS_CODING: Final = 2
_IS_CACHING: Final = 3
_IS_CONNECTION: Final = 4
_IS_HOP_BY_HOP: Final = 5
_OF_RESPONSES: Final = {
    "content-length": _IS_LENGTH,
    "transfer-encoding": _IS_CODING,
    "cache-control": _IS_CACHING,
    "connection": _IS_CONNECTION,
}


def _classify(raw_name: bytes) -> int:
    name = raw_name.lower().decode("latin-1")
    return _OF_RESPONSES.get(name, _IS_HOP_BY_HOP if name in HOP_BY_HOP else 0)


_classes: Final = NameTable(_classify)
_join = b": ".join


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

    The upstream's fields stay byte for byte, less what is hop by hop. The framing is declared anew:
    ``is_chunked`` puts ``Transfer-Encoding: chunked`` where the upstream's stood, else at the end,
    and drops any length; otherwise a ``Content-Length`` stays and no coding is declared.
    ``connection`` is empty, or ``CLOSE``, ``KEEP_ALIVE`` or ``WEBSOCKET`` of ``headers``. With
    ``is_private`` a ``Cache-Control: private`` is added unless the upstream sent its own
    (RFC 6750 section 2.3).
    ``extra`` are whole lines to add. ``Via`` is not: RFC 9110 section 7.6.3 leaves it to a gateway.
    """
    lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    is_declared = not is_chunked
    may_have_length = status >= 200 and status != 204  # RFC 9110 section 8.6
    for header in _without_named(headers):
        kind = _classes[header[0]]
        if kind == 0:
            lines.append(_join(header))
        elif kind == _IS_CACHING:
            is_private = False
            lines.append(_join(header))
        elif kind == _IS_LENGTH and not is_chunked and may_have_length:
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


def _without_named(headers: Headers) -> Headers:
    """Take away the fields that ``Connection`` names."""
    values = [value for name, value in headers if _classes[name] == _IS_CONNECTION]
    named = read_connection(tuple(values)).named if values else None
    if not named:
        return headers
    return [header for header in headers if canonical(header[0]) not in named]
