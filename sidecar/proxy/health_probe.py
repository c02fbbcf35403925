"""Health probes on the traffic's port, ``listen.health_path``, for balancers that can ask no other.

A probe needs no credential, is never forwarded, and goes before all routes. It is answered 200 or
503, like ``/readyz`` of the operations listener, for the worker that happens to accept it. It is
neither logged nor counted: balancers ask every few seconds, and nobody called.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.model import Denial
from sidecar.proxy.answers import http_date

ALLOWED: Final = ("GET", "HEAD")
BAD_METHOD: Final = Denial("method_not_allowed", "A health probe is GET or HEAD.", allow=ALLOWED)

_BODY: Final = b'{"ready": true}'
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    b"Content-Length: %d\r\nDate: %%b\r\n%%b\r\n" % len(_BODY)
)


def is_probe(target: str, path: str) -> bool:
    """Tell whether a request's target is ``path``, with or without a query; an empty one is off."""
    if not path or not target.startswith(path):
        return False
    return len(target) == len(path) or target[len(path)] == "?"


def render_ready(connection: bytes, *, is_head_request: bool) -> bytes:
    """Return the whole response that says yes; ``connection`` is its ``Connection`` line."""
    return _HEAD % (http_date(), connection) + (b"" if is_head_request else _BODY)
