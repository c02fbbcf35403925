"""What proxies say about the hops before them: ``X-Forwarded-For`` and ``Forwarded`` (RFC 7239).

``X-Forwarded-For`` has no specification, and proxies write more than addresses into it: a port
(Azure Application Gateway, IIS), brackets, quotes, a zone, ``unknown`` (Squid), ``unix:`` (nginx).
``Forwarded`` counts only where no ``X-Forwarded-For`` says anything, because a proxy that writes
the older field usually passes the newer one on as its client sent it.

Both are read from the right, where the nearest proxy wrote, and one element at a time: whatever a
client put on the left, such as an opening quote or ten thousand commas, can't change what the right
says, and isn't even looked at once an address is found that nobody vouches for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from sidecar.core.targets import is_valid_host

UNIX: Final = "unix:"
"""Stands for a peer on a unix socket, as nginx writes it too."""

MOST_ELEMENT_BYTES: Final = 512
"""Of one element; a longer one says nothing that can be read."""

_MAPPED: Final = "::ffff:"
_COMMA: Final = 0x2C
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C

_parse_node: Final = re.compile(
    r"""(?: (?P<v4>[0-9.]{7,15})
          | \[ (?P<bracketed>[0-9A-Fa-f:.]{2,45}) (?:%[A-Za-z0-9._~%-]{1,64})? \]
          | (?P<full>(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}) (?=:[0-9])
        ) (?: :(?:[0-9]{0,5}|_[A-Za-z0-9._-]{1,64}) )?
      | (?P<bare>[0-9A-Fa-f:.]{2,45}) (?:%[A-Za-z0-9._~%-]{1,64})?""",
    re.VERBOSE,
).fullmatch
_match_pair: Final = re.compile(
    rb"""[ \t]* ([!\#$%&'*+.^_`|~0-9A-Za-z-]+) [ \t]* = [ \t]*
         (?: "((?:[^"\\]|\\.)*)" | ([^",;\\ \t]*) ) [ \t]* (?: ; | \Z )""",
    re.VERBOSE | re.DOTALL,
).match
_unescape: Final = re.compile(rb"\\(.)", re.DOTALL).sub


class Hop(NamedTuple):
    """What a proxy says about its own peer.

    ``address`` is an IP address without port or zone, IPv4 if it is one in IPv6's clothes, or
    ``unix:``. It is empty if the proxy doesn't say, or not so that it can be read. ``proto`` and
    ``host`` are what the peer used, if ``Forwarded`` says so; empty otherwise.
    """

    address: str
    proto: bytes = b""
    host: bytes = b""


def hops_of(forwarded_for: tuple[bytes, ...], forwarded: tuple[bytes, ...]) -> Iterator[Hop]:
    """Yield the hops before the peer, the nearest first; from ``Forwarded`` if it is all there is.

    The arguments are the values of the fields, in order.
    """
    is_silent = True
    for line in reversed(forwarded_for):
        for element in _elements(line):
            is_silent = False
            yield Hop(_read_element(element))
    if is_silent:
        for line in reversed(forwarded):
            end = len(line)
            while end > 0:
                start = _start_of_last(line, end)
                element = line[start:end].strip(b" \t,")
                end = start - 1
                if element:
                    yield _read_hop(element)


@lru_cache(maxsize=4096)
def read_node(text: str) -> str:
    """Return the address that a node is (RFC 7239 section 6), and what ``Hop`` says of it."""
    if text == UNIX:
        return text
    match = _parse_node(text)
    if match is None:
        return ""
    try:
        address = ip_address(match["v4"] or match["bracketed"] or match["full"] or match["bare"])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def peer_address(host: str | None) -> str:
    """Return the address of a peer as the sidecar knows it: ``unix:`` if there is none, and an IPv4
    address as such although a socket of both families has accepted it.
    """
    if not host:
        return UNIX
    is_mapped = host.startswith(_MAPPED) and "." in host
    return host[len(_MAPPED) :] if is_mapped else host


def as_node(address: str) -> bytes:
    """Return an address as the ``for`` of a ``Forwarded`` element that we write."""
    node = read_node(address.partition("%")[0])
    if ":" not in node:
        return node.encode() or b"unknown"
    return b"unknown" if node == UNIX else b'"[%b]"' % node.encode()


def proto_of(hops: Sequence[Hop]) -> bytes:
    """Return ``http`` or ``https`` if the caller, the last of ``hops``, is said to have used it."""
    proto = hops[-1].proto if hops else b""
    return proto if proto in (b"http", b"https") else b""


def host_of(hops: Sequence[Hop]) -> bytes:
    """Return the ``Host`` that the caller, the last of ``hops``, is said to have sent, if valid."""
    host = hops[-1].host if hops else b""
    return host if host and is_valid_host(host.decode("latin-1")) else b""


def _elements(line: bytes) -> Iterator[bytes]:
    """Yield the elements of a list from the right, without the empty ones (RFC 9110 5.6.1)."""
    rest = line.rstrip(b" \t,")
    while rest:
        comma = rest.rfind(b",")
        yield rest[comma + 1 :].lstrip(b" \t")
        rest = rest[: comma + 1].rstrip(b" \t,")


def _read_element(element: bytes) -> str:
    if len(element) > MOST_ELEMENT_BYTES:
        return ""
    if len(element) > 1 and element[0] == _QUOTE == element[-1]:
        element = element[1:-1].strip(b" \t")
    return read_node(element.decode("latin-1"))


def _start_of_last(line: bytes, end: int) -> int:
    """Return where the last element before ``end`` starts: after a comma outside of quotes.

    If there is no such comma within reach, everything before ``end`` counts as one element, which
    is too long to be read.
    """
    is_quoted = False
    index = end - 1
    least = max(0, end - MOST_ELEMENT_BYTES - 1)
    while index >= least:
        byte = line[index]
        if byte == _QUOTE and not _is_escaped(line, index, least):
            is_quoted = not is_quoted
        elif byte == _COMMA and not is_quoted:
            return index + 1
        index -= 1
    return 0


def _is_escaped(line: bytes, index: int, least: int) -> bool:
    """Return whether an odd number of backslashes precedes ``index``, looking back to ``least``."""
    first = index
    while first > least and line[first - 1] == _BACKSLASH:
        first -= 1
    return (index - first) % 2 == 1


def _read_hop(element: bytes) -> Hop:
    """Return what one element of ``Forwarded`` says; nothing if it isn't well-formed."""
    if len(element) > MOST_ELEMENT_BYTES:
        return Hop("")
    pairs: dict[bytes, bytes] = {}
    position = 0
    while position < len(element):
        match = _match_pair(element, position)
        if match is None:
            return Hop("")
        name = match[1].lower()
        if name in pairs:  # RFC 7239 section 4: at most once in an element
            return Hop("")
        quoted = match[2]
        pairs[name] = match[3] if quoted is None else _unescape(rb"\1", quoted)
        position = match.end()
    node = pairs.get(b"for", b"").decode("latin-1")
    return Hop(read_node(node), pairs.get(b"proto", b"").lower(), pairs.get(b"host", b""))
