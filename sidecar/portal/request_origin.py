"""Where a request comes from: which client, over TLS or not, a page of which site and path."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from sidecar.core.forwarded import Hop, host_of, peer_address, proto_of
from sidecar.core.trusted_proxies import TrustedProxies
from sidecar.observability.audit import Actor
from sidecar.portal.context import CONTEXT

_OWN_SITE: Final = frozenset({"same-origin", "none"})  # none: typed, or restored by the browser
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_OPAQUE: Final = "null"
_is_prefix: Final = re.compile(
    r"(?=.{1,200}\Z)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+/?"
).fullmatch


def client_of(request: web.Request) -> str:
    """Return the client's address; ``unix:`` for a client on a Unix socket of this machine."""
    peer = peer_address(request.remote)
    trusted_proxies = _trusted_proxies(request)
    if not trusted_proxies.is_trusted(peer):
        return peer
    return trusted_proxies.caller_of(
        peer, _lines(request, "X-Forwarded-For"), _lines(request, "Forwarded")
    )


def actor_of(request: web.Request) -> Actor:
    """Return how the audit log names what the request came through: the API or the page."""
    return Actor.API if request.path.startswith("/api/") else Actor.PORTAL


def is_secure(request: web.Request) -> bool:
    """Tell whether the browser speaks TLS, to us or to a trusted proxy before us."""
    proto = _forwarded(request, "X-Forwarded-Proto") or proto_of(_forwarded_hops(request)).decode()
    return request.secure or proto.lower() == "https"


def prefix_of(request: web.Request) -> str:
    """Return the path below which the browser sees the portal, such as ``/keys``; mostly empty.

    A trusted proxy that has taken it off the path says so in ``X-Forwarded-Prefix``. Anything but
    one plain path counts as none: it goes into links, redirects and the cookie's path.
    """
    if not _trusted_proxies(request).is_trusted(peer_address(request.remote)):
        return ""
    sent = request.headers.getall("X-Forwarded-Prefix", [])
    if len(sent) != 1 or _is_prefix(sent[0]) is None:
        return ""
    return sent[0].removesuffix("/")


def is_cross_site(request: web.Request) -> bool:
    """Tell whether a page of another site sent this (Fetch Metadata, else ``Origin``; RFC 6454).

    Over plain HTTP a browser sends no Fetch Metadata, and ``Origin: null`` under our own
    ``Referrer-Policy``. That says nothing, so the CSRF token must decide. See ``is_opaque_origin``.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in _OWN_SITE
    origin = request.headers.get("Origin", _OPAQUE)
    if origin == _OPAQUE:
        return False
    theirs = _authority(origin)
    return theirs is None or theirs != _own_authority(request, origin)


def is_opaque_origin(request: web.Request) -> bool:
    """Tell whether a page with an opaque origin sent this, such as one in a sandboxed frame.

    The API refuses these, as it has no CSRF tokens: programs send no ``Origin``, and our own page
    does not call the API.
    """
    return request.headers.get("Origin") == _OPAQUE


def _own_authority(request: web.Request, origin: str) -> str | None:
    host = (
        _forwarded(request, "X-Forwarded-Host")
        or host_of(_forwarded_hops(request)).decode("latin-1")
        or request.headers.get("Host", "")
    )
    return _authority(f"{origin.partition('://')[0]}://{host}")


def _authority(url: str) -> str | None:
    """Return host and port, less the scheme's default port; ``None`` if that is no origin."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.path or parts.query or parts.username is not None:
        return None
    is_default = port is None or port == _DEFAULT_PORTS.get(parts.scheme)
    return parts.hostname if is_default else f"{parts.hostname}:{port}"


def _forwarded(request: web.Request, name: str) -> str:
    """Return what the nearest trusted proxy says; empty without such a proxy."""
    if not _trusted_proxies(request).is_trusted(peer_address(request.remote)):
        return ""
    return request.headers.get(name, "").rpartition(",")[2].strip()


def _forwarded_hops(request: web.Request) -> list[Hop]:
    """Return the hops to the caller by ``Forwarded``; none where another field says who calls."""
    proxies = _trusted_proxies(request)
    if not proxies.is_trusted(peer_address(request.remote)):
        return []
    if any(line.strip(b" \t,") for line in _lines(request, "X-Forwarded-For")):
        return []
    return proxies.walk((), _lines(request, "Forwarded"))


def _lines(request: web.Request, name: str) -> tuple[bytes, ...]:
    lines = request.headers.getall(name, [])
    return tuple(line.encode("utf-8", "surrogateescape") for line in lines)


def _trusted_proxies(request: web.Request) -> TrustedProxies:
    return request.app[CONTEXT].config().trusted_proxies
