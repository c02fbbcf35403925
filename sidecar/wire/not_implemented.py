"""What is HTTP and not implemented here: methods and transfer codings that the parser rejects.

Such a request isn't malformed, and its answer is 501 instead of 400 (RFC 9110 section 9.1, RFC 9112
section 6.1). The rules are exact: a line or a coding that isn't well-formed stays a 400.
"""

from __future__ import annotations

import re
from typing import Final

_MOST_METHOD_BYTES: Final = 64
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VERSIONS: Final = (b"HTTP/1.1\r\n", b"HTTP/1.0\r\n")
_is_token: Final = re.compile(_TOKEN).fullmatch
_is_target: Final = re.compile(rb"[\x21-\x7e]*").fullmatch
_parse_coding: Final = re.compile(
    rb'(%b)((?:[ \t]*;[ \t]*%b[ \t]*=[ \t]*(?:%b|"[\t \x21\x23-\x5b\x5d-\x7e]*"))*)'
    % (_TOKEN, _TOKEN, _TOKEN)
).fullmatch
_find_codings: Final = re.compile(rb"\r\n(?i:transfer-encoding):[ \t]*([^\r\n]*)").findall


def may_become_line(line: bytes) -> bool:
    """Tell whether these bytes may begin a request line of HTTP/1 (RFC 9112 section 3), with any
    method; if they end with LF, whether they are one. Empty lines before it don't count.
    """
    method, _, rest = line.lstrip(b"\r\n").partition(b" ")
    if len(method) > _MOST_METHOD_BYTES or not _is_token(method):
        return False
    target, space, version = rest.partition(b" ")
    if not _is_target(target):
        return False
    if line.endswith(b"\n"):
        return bool(target) and version in _VERSIONS
    return not space or any(known.startswith(version) for known in _VERSIONS)


def has_unknown_coding(head: bytes) -> bool:
    """Tell whether a head has exactly one ``Transfer-Encoding``, of an unknown coding."""
    values = _find_codings(head)
    return len(values) == 1 and is_unknown_coding(values[0])


def is_unknown_coding(value: bytes) -> bool:
    """Tell whether a ``Transfer-Encoding`` is well-formed and names another coding than
    ``chunked``.

    ``chunked`` may only be the last one, without parameters (RFC 9112 sections 6.3 and 7).
    """
    is_chunked = is_other = False
    for member in value.split(b","):
        found = _parse_coding(member.strip(b" \t"))
        if found is None or is_chunked:
            return False
        is_chunked = found[1].lower() == b"chunked"
        if is_chunked and found[2]:
            return False
        is_other = is_other or not is_chunked
    return is_other
