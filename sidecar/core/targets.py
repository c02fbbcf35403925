"""Request targets: the bytes that are judged are the bytes that are forwarded.

A path that two programs could read differently is refused rather than repaired (``unsafe_path``):
dot segments, raw or encoded; an encoded slash, backslash, NUL or control character; any of these
encoded several times; a ``%`` without two hex digits. On request, encoded slashes are let through,
if they are encoded once and make no dot segment; ``routes`` decides where. What RFC 9112 section
3.2 forbids is ``bad_request``. A query is never decoded here and passes as it came, even with
characters that sloppy callers leave unencoded (``{ } | " < > ^``). Only ``#`` and anything but
visible ASCII are refused.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import unquote

from sidecar.core.memo import BoundedMemo
from sidecar.core.model import Denial

BAD_TARGET: Final = Denial("bad_request", "The request target is not one that HTTP allows here.")
BAD_CHARACTER: Final = Denial("bad_request", "The request target holds a character it may not.")
BAD_METHOD: Final = Denial("bad_request", "CONNECT and TRACE are not served.", status=501)
BACKSLASH: Final = Denial("unsafe_path", "The request target holds a backslash.")
BAD_ENCODING: Final = Denial("unsafe_path", "The path holds a % without two hex digits after it.")
DOT_SEGMENT: Final = Denial("unsafe_path", "The path holds a dot segment.")
ENCODED_DELIMITER: Final = Denial(
    "unsafe_path", "The path holds an encoded slash, backslash or control character."
)
ENCODED_OVER_AND_OVER: Final = Denial("unsafe_path", "The path is percent-encoded too many times.")

MAX_HOST_CHARS: Final = 255 + len(":65535")
_MAX_ENCODINGS: Final = 4

# A path without %, then any query. Segments that start with a dot are checked separately, as some
# versions of `re` mishandle a look-ahead within a repeat.
_parse_plain: Final = re.compile(
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)(?:\?([\x21\x22\x24-\x7e]*))?"
).fullmatch
_DOT_FIRST: Final = "/."
_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]|#")
_FORBIDDEN_IN_PATH: Final = re.compile(r'["<>{}|^`]')
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_DELIMITER: Final = re.compile(r"%(?:2[Ff]|5[Cc]|[01][0-9A-Fa-f]|7[Ff])")
_ENCODED_MARK: Final = re.compile(r"%(?:25)*3[Ff]")
_ENCODED_BUT_SLASH: Final = re.compile(r"%(?:5[Cc]|[01][0-9A-Fa-f]|7[Ff])")
# A dot segment is dangerous even before a path parameter (";x") or an encoded delimiter.
_DOT_SEGMENT: Final = re.compile(r"/(?:\.|%2[Ee]){1,2}(?:[/;?#]|%3[BbFf]|%23|\Z)")
_parse_absolute: Final = re.compile(
    r"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(/[^?]*)?(?:\?(.*))?"
).fullmatch

_parse_host: Final = re.compile(
    r"(?:[A-Za-z0-9._~-]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
).fullmatch
_valid_hosts: Final[BoundedMemo[str, bool]] = BoundedMemo(1024)


class Target(NamedTuple):
    """A parsed request target; nothing in it is decoded."""

    path: str
    """As sent; ``/`` for an absolute form without one."""
    query: str | None
    """What follows the first ``?``, as sent and maybe empty; ``None`` without a ``?``."""
    authority: str | None
    """The authority of an absolute form, which replaces ``Host`` (RFC 9112 section 3.2.2)."""


def parse_target(method: str, raw: str, *, with_slashes: bool = False) -> Target | Denial:
    """Parse a request target, or return why it is refused.

    Origin form and absolute form (``http`` and ``https``) are accepted. ``*``, authority form,
    CONNECT and TRACE are ``bad_request``, the methods with 501 (RFC 9110 section 9.1).
    ``with_slashes``: the path may hold encoded slashes (``%2F``).
    """
    if method == "CONNECT" or method == "TRACE":
        return BAD_METHOD
    plain = _parse_plain(raw)
    if plain is not None and _DOT_FIRST not in plain[1]:
        return Target(plain[1], plain[2], None)
    return _parse_carefully(raw, with_slashes)


def path_of(method: str, raw: str) -> str:
    """Return the path of a target for the log; empty if the target is a ``bad_request``.

    Of an unsafe path, only what precedes a ``?`` is returned, however that is encoded: it may begin
    a query that holds a credential. So is what precedes a character that is encoded over and over.
    """
    target = parse_target(method, raw)
    if not isinstance(target, Denial):
        return target.path
    if target.code != "unsafe_path":
        return ""
    sent = _split(raw)
    path = "" if sent is None else _ENCODED_MARK.split(sent.path, maxsplit=1)[0]
    return path.partition("%25")[0] if target is ENCODED_OVER_AND_OVER else path


def is_valid_host(value: str) -> bool:
    """Tell whether a ``Host`` value is a host name or an address, with an optional port.

    Stricter than RFC 3986: letters, digits and ``-._~`` only, an IPv6 address in brackets, a port
    of 0 to 65535. The port may be empty (RFC 3986 section 3.2.3). No userinfo, list, path or empty
    value.
    """
    if _valid_hosts.get(value) is not None:
        return True
    is_valid = len(value) <= MAX_HOST_CHARS and _is_host(value)
    if is_valid:
        _valid_hosts.put(value, True)
    return is_valid


def _parse_carefully(raw: str, with_slashes: bool) -> Target | Denial:
    if _FORBIDDEN.search(raw):
        return BAD_CHARACTER
    target = _split(raw)
    if target is None:
        return BAD_TARGET
    if _FORBIDDEN_IN_PATH.search(target.path):
        return BAD_CHARACTER
    if "\\" in target.path:
        return BACKSLASH
    return _find_danger(target.path, with_slashes) or target


def _split(raw: str) -> Target | None:
    if raw.startswith("/"):
        path, mark, query = raw.partition("?")
        return Target(path, query if mark else None, None)
    absolute = _parse_absolute(raw)
    if absolute is None or not is_valid_host(absolute[1]):
        return None
    return Target(absolute[2] or "/", absolute[3], absolute[1])


def _find_danger(path: str, with_slashes: bool) -> Denial | None:
    """Check the path as it is, and as it reads after each further decoding.

    With slashes, ``%2F`` is a danger only in what has been decoded already.
    """
    forbidden = _ENCODED_BUT_SLASH if with_slashes else _ENCODED_DELIMITER
    if _BAD_PERCENT.search(path):
        return BAD_ENCODING
    for _ in range(_MAX_ENCODINGS):
        if forbidden.search(path):
            return ENCODED_DELIMITER
        forbidden = _ENCODED_DELIMITER
        if _DOT_SEGMENT.search(path):
            return DOT_SEGMENT
        decoded = unquote(path, encoding="latin-1")
        if decoded == path:
            return None
        path = decoded
    return ENCODED_OVER_AND_OVER


def _is_host(value: str) -> bool:
    found = _parse_host(value)
    if found is None or int(found[2] or 0) > 65535:
        return False
    return found[1] is None or _is_ipv6(found[1])


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True
