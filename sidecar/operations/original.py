"""Which request a proxy in front asks about: its method and target, given exactly once.

The proxy in front gives them in one of three ways:

- ``X-Original-Method`` with ``X-Original-URI`` (nginx, HAProxy);
- ``X-Forwarded-Method`` with ``X-Forwarded-Uri`` (Caddy, Traefik);
- the question itself, whose target follows ``/auth`` (Envoy).

If a question uses several of them they must agree, since the caller could have added one. They
count in whatever form the question's own target came: ``http://sidecar/auth/x`` is ``/auth/x``, and
a target that only a router reads as ``/auth`` (``/%61uth/x``) is refused.

Our own proxy's parser reads the method and target as a request line, so that no request is judged
here that the proxy would not even read.

Only the proxy in front can remove a header field from the request. So this module refuses every
field that our own proxy would remove because a service could mistake it for something else: an
identity in any spelling, or an alias of a credential's name.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple

from sidecar.core.headers import HOP_BY_HOP, HeaderClass, HeaderRules, Headers, canonical
from sidecar.core.model import Denial
from sidecar.wire.requests import RequestLimits, RequestReader, RequestRefused

PATH: Final = "/auth"

MISSING: Final = Denial(
    "bad_request", "The proxy in front must send the original method and URI, each exactly once."
)
CONTRADICTORY: Final = Denial(
    "bad_request", "The original method and URI are given twice, and differ."
)
BAD_QUESTION: Final = Denial(
    "bad_request", "The question's own target must be /auth, or begin with /auth/."
)
BAD_METHOD: Final = Denial("bad_request", "The original method is not one that HTTP allows.")
BAD_LINE: Final = Denial("bad_request", "The original method and URI do not form a request line.")

_LINE_BYTES: Final = 64 * 1024
_LIMITS: Final = RequestLimits(8, _LINE_BYTES, _LINE_BYTES, 0)

_PAIRS: Final = (
    (b"x-original-method", b"x-original-uri"),
    (b"x-forwarded-method", b"x-forwarded-uri"),
)
# Fields that proxies in front set or pass on; any other field of the stripped class is refused.
_TOLERATED: Final = (
    HOP_BY_HOP
    | {name.decode() for pair in _PAIRS for name in pair}
    | {"x-original-url"}  # ingress-nginx sets it
)
_FORWARDED: Final = "x-forwarded-"
_BEHIND_PATH: Final = ("", "/", "?")
_parse_absolute: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*(.*)", re.DOTALL).fullmatch
_is_method = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}").fullmatch


class Original(NamedTuple):
    """The request that the question is about. Its target is unchanged."""

    method: str
    target: str


def own_target(raw_target: str) -> str:
    """Return the target of the question itself in origin form (RFC 9112 section 3.2)."""
    absolute = _parse_absolute(raw_target)
    return raw_target if absolute is None else absolute[1]


def find_original(method: str, raw_target: str, headers: Headers) -> Original | Denial:
    """Return the request that the question is about, or why it is not clear.

    ``method``, ``raw_target`` and ``headers`` are those of the question itself.
    """
    given: set[tuple[bytes, bytes]] = set()
    for names in _PAIRS:
        methods, targets = (_values(headers, name) for name in names)
        if not methods and not targets:
            continue
        if len(methods) != 1 or len(targets) != 1:
            return MISSING
        given.add((methods[0], targets[0]))
    question = own_target(raw_target)
    behind = question.removeprefix(PATH)
    if behind == question or behind[:1] not in _BEHIND_PATH:
        return BAD_QUESTION
    if behind.startswith("/"):
        given.add((method.encode(), behind.encode("latin-1", "replace")))
    if len(given) != 1:
        return CONTRADICTORY if given else MISSING
    original_method, target = given.pop()
    if not _is_method(original_method):
        return BAD_METHOD
    return Original(original_method.decode("ascii"), target.decode("latin-1"))


def check_line(original: Original, loop: asyncio.AbstractEventLoop) -> Denial | None:
    """Return why our own proxy could not read the request line; ``None`` if it could."""
    reader = RequestReader(loop, _LIMITS)
    line = f"{original.method} {original.target} HTTP/1.1\r\nHost: a\r\n\r\n"
    reader.receive(line.encode("latin-1"))
    try:
        request = reader.next_request()
    except RequestRefused as refusal:
        return refusal.denial
    if request is None or (request.method, request.target) != original:
        return BAD_LINE
    return None


def find_misleading(rules: HeaderRules, headers: Headers) -> Denial | None:
    """Return why a header field could mislead the service; ``None`` if no field could."""
    for name, _ in headers:
        spelled = name.lower().decode("latin-1")
        if rules.classes[name] == HeaderClass.STRIPPED and spelled not in _TOLERATED:
            return Denial("bad_request", f"The field {_shown(name)} must not reach the service.")
    return None


def _shown(name: bytes) -> str:
    """Return the name that a misleading field imitates, ``X-Forwarded-`` names as a group."""
    imitated = canonical(name)
    return f"{_FORWARDED}*" if imitated.startswith(_FORWARDED) else imitated


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name.lower() == wanted]
