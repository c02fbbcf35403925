"""The PROXY protocol, versions 1 and 2: who a balancer says is at the other end of a connection.

The header precedes everything else on a connection, TLS included, and comes once. Version 1 is a
line of text of at most 107 bytes, version 2 is binary and has a length (HAProxy's specification,
``doc/proxy-protocol.txt``). Ports, protocols and TLVs are read over.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from sidecar.core.trusted_proxies import UNKNOWN

MOST_BYTES: Final = 4096
"""Of a header of version 2. Balancers send a few hundred bytes of TLVs at most."""

_MOST_LINE_BYTES: Final = 107  # section 2.1, CR LF included
_TEXT: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED: Final = struct.Struct(">12sBBH")
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_ADDRESS_BYTES: Final = {0: 0, 1: 12, 2: 36, 3: 216}  # by family: none, IPv4, IPv6, unix
_PROTOCOLS: Final = frozenset({0, 1, 2})  # none, stream, datagram

_parse_line: Final = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) "
    rb"(0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})|UNKNOWN(?: [\x20-\x7e]*)?)\r\n"
).fullmatch


class MalformedHeader(Exception):
    """What a connection begins with isn't a header of either version."""


class ProxyHeader(NamedTuple):
    """A header of ``size`` bytes. ``client`` is an IP address, or ``UNKNOWN`` if the sender doesn't
    give one; it is empty if the sender speaks for itself (``LOCAL``: a health check).
    """

    size: int
    client: str


def read_header(begun: bytes) -> ProxyHeader | int:
    """Return the header that a connection begins with, or how many bytes it takes at least to know
    more. Raises ``MalformedHeader`` as soon as it can't be one.
    """
    if not begun:
        return 1
    if begun[: len(_SIGNATURE)] == _SIGNATURE[: len(begun)]:
        return _read_binary(begun)
    if begun[: len(_TEXT)] == _TEXT[: len(begun)]:
        return _read_line(begun)
    raise MalformedHeader


def _read_line(begun: bytes) -> ProxyHeader | int:
    end = begun.find(b"\r\n", 0, _MOST_LINE_BYTES)
    if end < 0:
        if len(begun) >= _MOST_LINE_BYTES:
            raise MalformedHeader
        return len(begun) + 1
    match = _parse_line(begun, 0, end + 2)
    if match is None:
        raise MalformedHeader
    if match[1] is None:
        return ProxyHeader(end + 2, UNKNOWN)
    try:
        client, _ = (_address(match[1], match[number]) for number in (2, 3))
    except ValueError:
        raise MalformedHeader from None
    if int(match[4]) > 0xFFFF or int(match[5]) > 0xFFFF:
        raise MalformedHeader
    return ProxyHeader(end + 2, client)


def _address(family: bytes, text: bytes) -> str:
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    return _plain(kind(text.decode("ascii")))


def _plain(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _read_binary(begun: bytes) -> ProxyHeader | int:
    if len(begun) < _FIXED.size:
        return _FIXED.size
    _, command, kind, length = _FIXED.unpack_from(begun)
    least = _ADDRESS_BYTES.get(kind >> 4)
    is_known = command in (_LOCAL, _PROXY) and least is not None and (kind & 0xF) in _PROTOCOLS
    size = _FIXED.size + int(length)
    if not is_known or size > MOST_BYTES:
        raise MalformedHeader
    if command == _PROXY and length < (least or 0):
        raise MalformedHeader
    if len(begun) < size:
        return size
    if command == _LOCAL:
        return ProxyHeader(size, "")
    return ProxyHeader(size, _read_client(kind, begun))


def _read_client(kind: int, header: bytes) -> str:
    """Return the source address; TCP alone comes from one that counts here."""
    start = _FIXED.size
    if kind == _TCP4:
        return str(IPv4Address(header[start : start + 4]))
    if kind == _TCP6:
        return _plain(IPv6Address(header[start : start + 16]))
    return UNKNOWN
