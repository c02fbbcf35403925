"""Which request a proxy in front asks about: method and target, told once and without doubt.

They come in one of three ways, and where there are several they must agree, since one of them could
be the caller's own:

- ``X-Original-Method`` with ``X-Original-URI`` (nginx, HAProxy);
- ``X-Forwarded-Method`` with ``X-Forwarded-Uri`` (Caddy, Traefik);
- the request itself, its target following ``/auth`` (Envoy).

What is told is read as a request line by our own proxy's parser, so that nothing is judged here
that the proxy would not even read.

Nothing can be taken out of a request here: that is up to the proxy in front. So a field that the
sidecar's own proxy would take out because a service could take it for something that it is not (an
identity in any spelling, an alias of a credential's name) is refused.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple

from sidecar.core.headers import HOP_BY_HOP, HeaderClass, HeaderRules, Headers, canonical
from sidecar.core.model import Denial
from sidecar.wire.requests import RequestLimits, RequestReader, RequestRefused

PATH: Final = "/auth"

UNTOLD: Final = Denial(
    "bad_request", "The proxy in front must tell the original method and URI, each once."
)
IN_DOUBT: Final = Denial("bad_request", "The original method and URI are told in different ways.")
BAD_METHOD: Final = Denial("bad_request", "The original method is not one that HTTP allows.")
BAD_LINE: Final = Denial("bad_request", "The original method and URI make no request line.")

_LINE_BYTES: Final = 64 * 1024
_LIMITS: Final = RequestLimits(8, _LINE_BYTES, _LINE_BYTES, 0)

_PAIRS: Final = (
    (b"x-original-method", b"x-original-uri"),
    (b"x-forwarded-method", b"x-forwarded-uri"),
)
# What proxies in front set or leave as it comes; everything else that is stripped is refused.
_TOLERATED: Final = (
    HOP_BY_HOP
    | {name.decode() for pair in _PAIRS for name in pair}
    | {"x-original-url"}  # ingress-nginx sets it
)
_FORWARDED: Final = "x-forwarded-"
_is_method = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}").fullmatch


class Original(NamedTuple):
    """The request that is asked about, its target as it was sent."""

    method: str
    target: str


def find_original(method: str, raw_target: str, headers: Headers) -> Original | Denial:
    """Return the request that is asked about; ``method`` and ``raw_target`` are the question's."""
    told: set[tuple[bytes, bytes]] = set()
    for names in _PAIRS:
        methods, targets = (_values(headers, name) for name in names)
        if not methods and not targets:
            continue
        if len(methods) != 1 or len(targets) != 1:
            return UNTOLD
        told.add((methods[0], targets[0]))
    if raw_target.startswith(f"{PATH}/"):
        told.add((method.encode(), raw_target.removeprefix(PATH).encode("latin-1", "replace")))
    if len(told) != 1:
        return IN_DOUBT if told else UNTOLD
    asked, target = told.pop()
    if not _is_method(asked):
        return BAD_METHOD
    return Original(asked.decode("ascii"), target.decode("latin-1"))


def check_line(original: Original, loop: asyncio.AbstractEventLoop) -> Denial | None:
    """Refuse a request whose line our own proxy could not read, as the proxy does."""
    reader = RequestReader(loop, _LIMITS)
    line = f"{original.method} {original.target} HTTP/1.1\r\nHost: a\r\n\r\n"
    reader.receive(line.encode("latin-1"))
    try:
        request = reader.next_request()
    except RequestRefused as refusal:
        return Denial(refusal.code, refusal.detail)
    if request is None or (request.method, request.target) != original:
        return BAD_LINE
    return None


def find_misleading(rules: HeaderRules, headers: Headers) -> Denial | None:
    """Refuse a request with a field that a service could take for something that it is not."""
    for name, _ in headers:
        spelled = name.lower().decode("latin-1")
        if rules.classes[name] == HeaderClass.STRIPPED and spelled not in _TOLERATED:
            return Denial("bad_request", f"The field {_shown(name)} must not reach the service.")
    return None


def _shown(name: bytes) -> str:
    """Return a name that misleads as it is meant; one that anything may follow is cut off there."""
    meant = canonical(name)
    return f"{_FORWARDED}*" if meant.startswith(_FORWARDED) else meant


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name.lower() == wanted]
