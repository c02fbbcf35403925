"""Parses the authority of a URL: an optional user, and one or more hosts.

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
_match_name: Final = re.compile(
    r"(?=.{1,254}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?"
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


def is_host(name: str) -> bool:
    """Tell whether a host is an IP address, or a name that could be looked up: in ASCII.

    Digits and dots alone are an address or nothing: 10.0.0.256 is no name.
    """
    if ":" not in name and re.fullmatch(r"[0-9.]+", name) is None:
        return _match_name(name) is not None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_web_url(url: str) -> None:
    """Raise ``ValueError`` unless ``url`` is an http or https URL of one host, without a user."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("its URL must consist of visible ASCII characters")
    parts = split_url(url)
    if parts.scheme not in ("https", "http") or not parts.netloc:
        raise ValueError("it needs an http or https URL with a host")
    if "@" in parts.netloc:
        raise ValueError("its URL must not hold a user or password")
    try:
        hosts = read_hosts(parts.netloc)
    except ValueError:
        raise ValueError("its URL has a host or port that can't be read") from None
    if len(hosts) > 1 or not is_host(hosts[0].name) or hosts[0].port == 0:
        raise ValueError("its URL has a host or port that can't be read")
