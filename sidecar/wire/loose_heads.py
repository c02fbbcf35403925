"""Response heads that are not strictly HTTP/1.1: which are put right, and what is said of the rest.

The parser is strict. A head that it refuses is read here a second time, line by line, as nginx,
Envoy, HAProxy and Caddy read such heads (``docs/reference/compatibility.md``): what has one meaning
is written anew in strict form and parsed again; what has none is refused in words.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.core.errors import UpstreamBroken

_LENGTH: Final = b"content-length"
_read_status_line: Final = re.compile(
    rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t]+(.*))?", re.DOTALL
).fullmatch
_is_name: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_has_control: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_find_head_end: Final = re.compile(rb"\n\r?\n").search


def head_end(data: bytes | bytearray, start: int = 0) -> int:
    """Return the offset just after the empty line that ends a head; 0 if it has not come.

    A line ends in LF, with or without CR (RFC 9112 section 2.2). The search begins at ``start``.
    """
    found = _find_head_end(data, start)
    return 0 if found is None else found.end()


def repair_head(raw: bytes) -> bytes:
    """Return a whole response head in strict form. Raises ``UpstreamBroken`` if it has none.

    Lines may end in LF alone, fields be folded (each fold becomes a space: RFC 9112 section 5.2),
    names be followed by white space (removed: section 5.1), and one length be said twice (RFC 9110
    section 8.6).
    """
    lines = raw.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    fields: list[tuple[bytes, list[bytes]]] = []
    for line in lines[1:]:
        _check_characters(line)
        if line[:1] not in (b" ", b"\t"):
            fields.append(_read_field(line))
        elif fields:
            fields[-1][1].append(line.strip(b" \t"))
        else:
            raise UpstreamBroken("white space before the response's first field name")
    strict = [_repair_status_line(lines[0])]
    length = b""
    for name, parts in fields:
        value = b" ".join(parts).strip()
        if name.lower() == _LENGTH:
            values = {one.strip(b" \t") for one in value.split(b",")}
            if len(values) > 1 or (length and values != {length}):
                raise UpstreamBroken("the response has several lengths")
            if length:
                continue
            length = value = values.pop()
        strict.append(name + b": " + value)
    return b"\r\n".join([*strict, b"", b""])


def _read_field(line: bytes) -> tuple[bytes, list[bytes]]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise UpstreamBroken("a line of the response's head has no colon")
    name = name.rstrip(b" \t")
    if _is_name(name) is None:
        raise UpstreamBroken(
            "a field name in the response is empty, or holds what no name may hold"
        )
    return name, [value.strip(b" \t")]


def _check_characters(line: bytes) -> None:
    if b"\r" in line:
        raise UpstreamBroken("a field in the response holds a bare CR")
    if _has_control(line) is not None:
        raise UpstreamBroken("a field in the response holds a control character")


def _repair_status_line(line: bytes) -> bytes:
    """Return the status line with single spaces, as HTTP/1.0 or HTTP/1.1 (RFC 9110 section 2.5)."""
    found = _read_status_line(line)
    if found is None:
        if not line.startswith(b"HTTP/1."):
            raise UpstreamBroken("the response's version is not one of HTTP/1.1")
        raise UpstreamBroken("the response's status line has no status of three digits")
    minor, status, reason = found.groups()
    if b"\r" in (reason or b""):
        raise UpstreamBroken("the response's status line holds a bare CR")
    version = b"HTTP/1.0 " if minor == b"0" else b"HTTP/1.1 "
    return version + status + b" " + clean_reason(reason or b"")


def clean_reason(reason: bytes) -> bytes:
    """Return a reason phrase without control characters (RFC 9112 section 4)."""
    if _has_control(reason) is None:
        return reason
    return b"".join(reason[i : i + 1] for i in range(len(reason)) if _is_printable(reason[i]))


def _is_printable(byte: int) -> bool:
    return byte == 0x09 or (byte >= 0x20 and byte != 0x7F)
