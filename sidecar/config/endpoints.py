"""Addresses to listen on and URLs of upstreams: a host and a port, or the path of a unix socket."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from sidecar.config.diagnostics import Rejected

_UNIX_PATH_BYTES = 107  # sun_path of unix(7), less its final NUL
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\.?")
_HOST_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\[\]:@/]*)):(?P<port>[0-9]{1,5})"
)

_WRITE_ADDRESS = "write host:port, [::1]:port or unix:/path/to/socket"
_WRITE_URL = "write http://host:port, https://host:port or unix:/path/to/socket"

ADDRESS_PATTERN = r"^(unix:/.+|(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5})$"
URL_PATTERN = r"^(unix:/.+|https?://[^/?#@]+/?)$"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """A host and a port, or (``path`` set, ``host`` empty) a unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """An upstream's URL: a scheme and an address. A unix socket always speaks plain HTTP."""

    scheme: Literal["http", "https"]
    address: SocketAddress

    @property
    def is_tls(self) -> bool:
        """Tell whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Return the value of ``Host`` for this upstream (RFC 9110 section 7.2)."""
        if self.address.path is not None:
            return "localhost"
        default = 443 if self.is_tls else 80
        text = str(self.address)
        return text.removesuffix(f":{default}") if self.address.port == default else text

    def __str__(self) -> str:
        return (
            str(self.address)
            if self.address.path is not None
            else f"{self.scheme}://{self.authority}"
        )


def parse_address(value: object) -> SocketAddress:
    """Parse ``host:port``, ``[v6]:port`` or ``unix:/path``; raise ``Rejected``."""
    if isinstance(value, SocketAddress):
        return value
    if not isinstance(value, str):
        raise Rejected("is not an address", _WRITE_ADDRESS, value)
    if value.startswith("unix:"):
        return _parse_unix(value)
    match = _HOST_PORT.fullmatch(value)
    if match is None or not (match["v6"] or _NAME.fullmatch(match["host"])):
        raise Rejected("is not an address", _WRITE_ADDRESS, value)
    if int(match["port"]) > 65535:
        raise Rejected("has a port above 65535", "write a port from 0 to 65535", value)
    return SocketAddress(_checked_host(match, value), int(match["port"]))


def _checked_host(match: re.Match[str], value: str) -> str:
    host = match["v6"] or match["host"]
    if not match["v6"] and not re.fullmatch(r"[0-9.]+", host):
        return host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise Rejected("has a host that is not an IP address", _WRITE_ADDRESS, value) from None
    return host


def parse_upstream_url(value: object) -> UpstreamUrl:
    """Parse ``http://host[:port]``, ``https://...`` or ``unix:/path``.

    Raises ``Rejected`` for anything else; as requests keep their paths, an upstream's URL has none.
    The rejection never holds the value, as a URL may contain a password.
    """
    if isinstance(value, UpstreamUrl):
        return value
    if not isinstance(value, str):
        raise Rejected("is not a URL", _WRITE_URL)
    if value.startswith("unix:"):
        return UpstreamUrl("http", _parse_unix(value))
    scheme, separator, authority = value.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise Rejected("is not the URL of an upstream", _WRITE_URL)
    if "@" in authority:
        raise Rejected("is a URL with a user or password", "remove the part before the @")
    authority = authority.removesuffix("/")
    if re.search(r"[/?#]", authority):
        raise Rejected(
            "is a URL with a path or query", "end it after the port: requests keep their own"
        )
    return UpstreamUrl(
        "https" if scheme == "https" else "http", _parse_authority(authority, scheme)
    )


def _parse_authority(authority: str, scheme: str) -> SocketAddress:
    has_port = re.search(r":[0-9]+\Z", authority) is not None
    text = authority if has_port else f"{authority}:{443 if scheme == 'https' else 80}"
    try:
        address = parse_address(text)
    except Rejected as rejected:
        raise Rejected(rejected.why, _WRITE_URL) from None
    if address.port == 0:
        raise Rejected("is a URL with port 0", "name the port that the upstream listens on")
    return address


def _parse_unix(value: str) -> SocketAddress:
    path = value.removeprefix("unix:")
    path = "/" + path.lstrip("/") if path.startswith("//") else path
    if not path.startswith("/") or path == "/" or "\0" in path:
        raise Rejected("is not an absolute path", "write unix:/path/to/socket", value)
    if len(path.encode()) > _UNIX_PATH_BYTES:
        raise Rejected(f"is longer than {_UNIX_PATH_BYTES} bytes", "choose a shorter path", value)
    return SocketAddress(path=path)
