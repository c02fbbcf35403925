"""Parses the authority of a store's URL: an optional user, and one or more hosts.

``urllib.parse`` can't: a list such as ``h1:1,[::2]:2`` is not an authority of RFC 3986, and whether
``urlsplit`` accepts brackets in one depends on the version of Python.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

_parse_host: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)(?:%[A-Za-z0-9_.-]+)?\]|([^\[\]:@]+))(?::([0-9]{0,5}))?"
).fullmatch
_find_end: Final = re.compile(r"[/?#]").search
_MAX_PORT: Final = 65535


class HostPort(NamedTuple):
    """A host in lower case and without brackets, and its port if there is one."""

    name: str
    port: int | None


def split_url(url: str) -> SplitResult:
    """Split a URL as ``urlsplit`` does, without validating its authority."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return urlsplit(url)
    end = _find_end(rest)
    at = len(rest) if end is None else end.start()
    return urlsplit(f"{scheme}://{rest[at:]}")._replace(netloc=rest[:at])


def read_hosts(authority: str) -> tuple[HostPort, ...]:
    """Return the hosts of an authority; a user before them is skipped.

    Raises ``ValueError`` for an invalid host or port.
    """
    return tuple(map(_read_host, authority.rpartition("@")[2].split(",")))


def _read_host(text: str) -> HostPort:
    found = _parse_host(text)
    if found is None or int(found[3] or 0) > _MAX_PORT:
        raise ValueError("this is neither a host nor a host and a port")
    if found[1]:
        ipaddress.IPv6Address(found[1])
    name = found[2] or text[1 : text.index("]")]
    return HostPort(name.lower(), int(found[3]) if found[3] else None)
