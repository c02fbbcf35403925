"""CORS: which pages of other origins may call a route, and what tells their browser so.

A browser asks before it sends what a form could not (the Fetch standard, "CORS-preflight request"):
``OPTIONS`` with one ``Origin`` and one ``Access-Control-Request-Method``. It carries no credential,
so it is answered, or passed on, without one. What decides is the route of the method that it asks
about. A page of an origin that the route does not name gets no answer of this kind: its preflight
is a plain ``OPTIONS``, which is judged like any other.

On all other answers the fields below let the page read them, refusals included. A service that
answers for itself (``Access-Control-Allow-Origin``) has the last word on its own answers.

Nothing here lets a request pass. An origin is what a browser says of a page; any other client can
say anything.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sidecar.core.headers import Headers

_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_PREFIX: Final = b"access-control-"
_VARY: Final = b"Vary: Origin\r\n"
_PREFLIGHT_VARY: Final = (
    b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
)
_is_method: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}").fullmatch
_is_list_of_names: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,2048}").fullmatch


class CorsFields(NamedTuple):
    """What a request says of itself to this end."""

    origin: bytes
    """Empty if the request names none, or several."""
    method: str
    """The method that a preflight asks about; empty if this can be none."""
    headers: bytes
    """The fields that a preflight asks about, if that is a plain list."""


def read_cors_fields(headers: Headers) -> CorsFields:
    """Return what the headers of a request say. A field that is there twice says nothing."""
    origins, methods, names = [], [], []
    for name, value in headers:
        folded = name.lower()
        if folded == b"origin":
            origins.append(value)
        elif folded == b"access-control-request-method":
            methods.append(value)
        elif folded == b"access-control-request-headers":
            names.append(value)
    origin = origins[0] if len(origins) == 1 else b""
    is_asking = len(methods) == 1 and _is_method(methods[0]) is not None
    asked = b",".join(names)
    return CorsFields(
        origin,
        methods[0].decode("ascii") if origin and is_asking else "",
        asked if _is_list_of_names(asked) else b"",
    )


class CorsPolicy:
    """What pages of other origins may do on one route; built once.

    ``origins`` are in lower case and as browsers write them, ``null`` included: without a default
    port, ``*`` for any, ``https://*.shop.example`` for any host below. ``methods`` and ``headers``
    are those that a page may use; ``None``: whatever it asks for. ``exposed`` are the fields that
    it may read. ``has_credentials``: it may send cookies; then ``origins`` must not be ``*``.
    ``answers``: preflights are answered here, and not by the service.
    """

    __slots__ = ("_any", "_headers", "_is_origin", "_methods", "_names", "_tail", "answers")

    def __init__(
        self,
        origins: tuple[str, ...],
        *,
        methods: tuple[str, ...] | None = None,
        headers: tuple[str, ...] | None = None,
        exposed: tuple[str, ...] = (),
        has_credentials: bool = False,
        max_age_seconds: float = 0.0,
        answers: bool = True,
    ) -> None:
        self.answers: Final = answers
        self._any: Final = "*" in origins
        self._is_origin = re.compile("|".join(map(_origin_regex, origins)).encode()).fullmatch
        self._methods: Final = None if methods is None else ", ".join(methods).encode()
        self._names: Final = None if headers is None else ", ".join(headers).encode()
        allowed = [b"Access-Control-Allow-Credentials: true\r\n"] if has_credentials else []
        self._headers: Final = list(allowed)
        if exposed:
            listed = ", ".join(exposed).encode()
            self._headers.append(b"Access-Control-Expose-Headers: %b\r\n" % listed)
        self._tail: Final = b"".join(
            [*allowed, b"Access-Control-Max-Age: %d\r\n" % max_age_seconds]
        )

    def allows(self, origin: bytes) -> bool:
        """Tell whether pages of an origin may call the route."""
        return bool(origin) and (self._any or self._is_origin(origin) is not None)

    def preflight_lines(self, asked: CorsFields) -> bytes:
        """Return the lines that answer a preflight of an allowed origin.

        If it asks for more than a page may use, the lines name what that may: the browser sees the
        difference, and says so to whoever develops the page.
        """
        methods = asked.method.encode() if self._methods is None else self._methods
        names = asked.headers if self._names is None else self._names
        return b"%bAccess-Control-Allow-Methods: %b\r\n%b%b%b" % (
            self._allow_origin(asked.origin),
            methods,
            b"Access-Control-Allow-Headers: %b\r\n" % names if names else b"",
            self._tail,
            _PREFLIGHT_VARY,
        )

    def lines(self, origin: bytes) -> bytes:
        """Return the lines of an answer of our own. ``origin`` may be any, or empty."""
        return self.lines_beside(origin, ())

    def lines_beside(self, origin: bytes, headers: Headers) -> bytes:
        """Return the lines to add to an answer of the service, which has these fields.

        None that the service has set itself is added, and none at all if it allows an origin.
        """
        named = [name.lower() for name, _ in headers]
        own = {name for name in named if name.startswith(_PREFIX)}
        if _ALLOW_ORIGIN in own:
            return b""
        vary = b"" if self._any or _varies_by_origin(headers) else _VARY
        if not self.allows(origin):
            return vary
        kept = [line for line in self._headers if line.partition(b":")[0].lower() not in own]
        return b"".join([self._allow_origin(origin), *kept, vary])

    def _allow_origin(self, origin: bytes) -> bytes:
        return b"Access-Control-Allow-Origin: %b\r\n" % (b"*" if self._any else origin)


def _origin_regex(origin: str) -> str:
    """Return what matches an origin, or those of all hosts below one."""
    before, star, after = origin.partition("://*.")
    if not star:
        return re.escape(origin)
    return rf"{re.escape(before)}://(?:[a-z0-9_-]{{1,63}}\.){{1,16}}{re.escape(after)}"


def _varies_by_origin(headers: Headers) -> bool:
    """Tell whether an answer says already that it may differ from origin to origin."""
    return any(name.lower() == b"vary" and b"origin" in value.lower() for name, value in headers)
