"""Who sent a request, over what, and whether a page of another site made the browser do it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from sidecar.observability.audit import Actor
from sidecar.portal.context import PARTS, Hops

_OWN_SITE: Final = frozenset({"same-origin", "none"})  # none: typed, or restored by the browser
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NOTHING_SAID: Final = "null"


def client_of(request: web.Request) -> str:
    """Return the caller's address; ``unix:`` for who comes through a socket of this machine."""
    peer = request.remote or ""
    hops = _hops(request)
    if not hops.is_trusted(peer):
        return peer or "unix:"
    forwarded = request.headers.getall("X-Forwarded-For", [])
    lines = tuple(line.encode("utf-8", "surrogateescape") for line in forwarded)
    return hops.caller_of(peer, lines) if lines else peer


def actor_of(request: web.Request) -> Actor:
    """Return the door that a request came to."""
    return Actor.API if request.path.startswith("/api/") else Actor.PORTAL


def is_secure(request: web.Request) -> bool:
    """Tell whether the browser speaks TLS, to us or to a trusted proxy before us."""
    return request.secure or _forwarded(request, "X-Forwarded-Proto").lower() == "https"


def is_cross_site(request: web.Request) -> bool:
    """Tell whether another site's page sent this (Fetch Metadata, else ``Origin``; RFC 6454).

    Over plain HTTP a browser sends no Fetch Metadata, and ``Origin: null`` under our own
    ``Referrer-Policy``: that says nothing, and the form's token must tell. See ``is_hidden_site``.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in _OWN_SITE
    origin = request.headers.get("Origin", _NOTHING_SAID)
    if origin == _NOTHING_SAID:
        return False
    theirs = _authority(origin)
    return theirs is None or theirs != _own_authority(request, origin)


def is_hidden_site(request: web.Request) -> bool:
    """Tell whether a page that does not say whose it is sent this, one in a sandbox perhaps.

    Programs send no ``Origin``, and our own page does not call the API, which knows no form tokens.
    """
    return request.headers.get("Origin") == _NOTHING_SAID


def _own_authority(request: web.Request, origin: str) -> str | None:
    host = _forwarded(request, "X-Forwarded-Host") or request.headers.get("Host", "")
    return _authority(f"{origin.partition('://')[0]}://{host}")


def _authority(url: str) -> str | None:
    """Return host and port, the scheme's own left out; ``None`` for what is no origin."""
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
    """Return what the nearest trusted proxy says; empty if there is none."""
    if not _hops(request).is_trusted(request.remote or ""):
        return ""
    return request.headers.get(name, "").rpartition(",")[2].strip()


def _hops(request: web.Request) -> Hops:
    return request.app[PARTS].terms().hops
