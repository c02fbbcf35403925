"""Header fields of a request: what each name means to the sidecar, and which ones are stripped.

Each name is checked in two ways. Its exact spelling (ignoring case) decides whether it is *read*:
``Host``, ``Authorization``, the configured credential headers and so on. Its *canonical form*, in
which every character but letters and digits becomes ``-``, decides whether it is *stripped*: many
upstreams see ``X_Account`` and ``X.Account`` as ``X-Account``, so these are stripped if that one
is. An alias of a name that is read is stripped and never read.

Stripped from every request, on every route:

- identity headers, which only the sidecar may set;
- credentials in all forms, unless an upstream is configured to receive them; the field of a user
  name is part of one only beside that of a password, and an ordinary field otherwise;
- hop-by-hop fields and those that ``Connection`` names (RFC 9110 section 7.6.1);
- headers that services are known to take for the caller or the URL (``Remote-User``,
  ``X-Original-URL``, ``Proxy`` and the like);
- ``Forwarded``, ``X-Real-IP`` and ``X-Forwarded-*`` from an untrusted peer.

The class of each name is cached, so a header costs one look-up in a ``dict``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

Headers = Sequence[tuple[bytes, bytes]]

CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
WEBSOCKET: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"

_FOLDED: Final = bytes(
    ord(chr(byte).lower()) if byte < 0x80 and chr(byte).isalnum() else ord("-")
    for byte in range(256)
)
_is_sane_id: Final = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}").fullmatch
_MAX_NAMES_REMEMBERED: Final = 4096
_MAX_NAME_BYTES_REMEMBERED: Final = 64


class HeaderClass(IntEnum):
    """What a header name means. All but ``OTHER`` are indices into a ``Scan``."""

    OTHER = 0
    CONTENT_LENGTH = 1
    EXPECT = 2
    HOST = 3
    TRANSFER_ENCODING = 4
    REQUEST_ID = 5
    REFERER = 6
    FORWARDED_FOR = 7
    FORWARDED_PROTO = 8
    FORWARDED_HOST = 9
    FORWARDING = 10
    """Other statements about earlier hops: ``X-Real-IP``, ``X-Forwarded-Port``…"""
    AUTHORIZATION = 11
    CREDENTIAL = 12
    CONNECTION = 13
    UPGRADE = 14
    TRACEPARENT = 15
    TRACESTATE = 16
    USER_NAME = 17
    """Of the pair of user name and password: a credential only beside a password."""
    PASSWORD = 18
    STRIPPED = 19
    """Neither read nor sent upstream."""
    FORWARDED = 20


_READ: Final = {
    "content-length": HeaderClass.CONTENT_LENGTH,
    "expect": HeaderClass.EXPECT,
    "host": HeaderClass.HOST,
    "transfer-encoding": HeaderClass.TRANSFER_ENCODING,
    "x-request-id": HeaderClass.REQUEST_ID,
    "referer": HeaderClass.REFERER,
    "x-forwarded-for": HeaderClass.FORWARDED_FOR,
    "x-forwarded-proto": HeaderClass.FORWARDED_PROTO,
    "x-forwarded-host": HeaderClass.FORWARDED_HOST,
    "forwarded": HeaderClass.FORWARDED,
    "x-real-ip": HeaderClass.FORWARDING,
    "authorization": HeaderClass.AUTHORIZATION,
    "connection": HeaderClass.CONNECTION,
    "upgrade": HeaderClass.UPGRADE,
    "traceparent": HeaderClass.TRACEPARENT,
    "tracestate": HeaderClass.TRACESTATE,
}
HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
        *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
        "http2-settings",
    }
)
SPOOFABLE: Final = frozenset(
    {
        *("proxy", "remote-user", "x-remote-user", "script-name", "path-info"),
        *("x-original-url", "x-rewrite-url", "x-original-method", "x-original-uri"),
        *("x-forwarded-method", "x-forwarded-uri"),  # of decision endpoints; may hold a token
    }
)
# Connection can't remove these fields, as the message would change its meaning without them.
_ESSENTIAL: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "expect", "x-request-id"),
        *("traceparent", "tracestate"),
    }
)
_OPTIONS: Final = frozenset({"close", "keep-alive", "upgrade"})


class ConnectionOptions(NamedTuple):
    """The options in the ``Connection`` fields of a message (RFC 9110 section 7.6.1)."""

    close: bool
    keep_alive: bool
    upgrade: bool
    named: frozenset[str]
    """Canonical names of the fields that are for this connection alone."""


class Scan(NamedTuple):
    """What one pass over a request's headers found: the values of each class, in order."""

    options: ConnectionOptions
    content_length: tuple[bytes, ...]
    expect: tuple[bytes, ...]
    host: tuple[bytes, ...]
    transfer_encoding: tuple[bytes, ...]
    request_id: tuple[bytes, ...]
    referer: tuple[bytes, ...]
    forwarded_for: tuple[bytes, ...]
    forwarded_proto: tuple[bytes, ...]
    forwarded_host: tuple[bytes, ...]
    forwarding: tuple[bytes, ...]
    authorization: tuple[bytes, ...]
    credentials: tuple[bytes, ...]
    """Values of all credential headers: a token's shape counts, not the header it came in."""
    connection: tuple[bytes, ...]
    upgrade: tuple[bytes, ...]
    traceparent: tuple[bytes, ...]
    tracestate: tuple[bytes, ...]
    user_names: tuple[bytes, ...]
    passwords: tuple[bytes, ...]
    stripped: tuple[bytes, ...]
    forwarded: tuple[bytes, ...]

    def __repr__(self) -> str:
        """Show which classes were found, and never a value."""
        found = [name for name in self._fields[1:] if getattr(self, name)]
        return f"Scan({', '.join(found)})"


def canonical(name: bytes) -> str:
    """Return a name in lower case, with a hyphen for every character but letters and digits."""
    return name.translate(_FOLDED).decode("ascii")


def is_sane_request_id(value: bytes) -> bool:
    """Tell whether a client's ``X-Request-Id`` may be kept: 1 to 128 safe characters."""
    return _is_sane_id(value) is not None


@lru_cache(maxsize=256)
def read_connection(values: tuple[bytes, ...]) -> ConnectionOptions:
    """Parse ``Connection`` values: one case-insensitive list, maybe spread over several fields."""
    tokens = {token.strip(b" \t").lower() for token in b",".join(values).split(b",")}
    names = frozenset(canonical(token) for token in tokens if token)
    return ConnectionOptions(
        close=b"close" in tokens,
        keep_alive=b"keep-alive" in tokens,
        upgrade=b"upgrade" in tokens,
        named=names - _OPTIONS - _ESSENTIAL,
    )


def read_expectations(values: tuple[bytes, ...]) -> frozenset[bytes]:
    """Parse ``Expect`` values (RFC 9110 section 10.1.1): one list, maybe spread over several
    fields. An empty member counts for nothing.
    """
    members = {member.strip(b" \t").lower() for member in b",".join(values).split(b",")}
    return frozenset(members - {b""})


NO_OPTIONS: Final = read_connection(())
_CONNECTION: Final = int(HeaderClass.CONNECTION)  # an int, as enumeration look-ups cost time
_NOTHING_FOUND: Final[list[Any]] = [NO_OPTIONS] + [()] * (len(HeaderClass) - 1)


class NameTable(dict[bytes, int]):
    """The class of each raw header name, computed when first seen; a bounded cache."""

    __slots__ = ("_classify",)

    def __init__(self, classify: Callable[[bytes], int]) -> None:
        self._classify = classify

    def __missing__(self, name: bytes) -> int:
        meaning = int(self._classify(name))
        if len(name) <= _MAX_NAME_BYTES_REMEMBERED:
            if len(self) >= _MAX_NAMES_REMEMBERED:
                self.clear()
            self[name] = meaning
        return meaning


class PasswordFields(NamedTuple):
    """The names of the two header fields that hold a user name and a password."""

    account: str
    password: str


class HeaderRules:
    """The class of every header name under one configuration; built once, shared by all requests.

    ``identity`` are the names that the sidecar sets, ``credentials`` those that tokens are read
    from, ``pair`` those of user name and password; all are case-insensitive.
    """

    __slots__ = ("_credentials", "_identity", "_stripped", "classes")

    def __init__(
        self,
        identity: Iterable[str],
        credentials: Iterable[str],
        pair: PasswordFields | None = None,
    ) -> None:
        self._identity = frozenset(canonical(name.encode()) for name in identity)
        self._credentials = {name.lower(): HeaderClass.CREDENTIAL for name in credentials}
        if pair is not None:
            self._credentials[pair.account.lower()] = HeaderClass.USER_NAME
            self._credentials[pair.password.lower()] = HeaderClass.PASSWORD
        aliases = frozenset(canonical(name.encode()) for name in self._credentials)
        self._stripped = aliases | HOP_BY_HOP | SPOOFABLE
        self.classes: Final = NameTable(self._classify)

    def scan(self, headers: Headers) -> Scan:
        """Collect in one pass all that the gateway needs to know about a request's headers."""
        found = _NOTHING_FOUND.copy()
        classes = self.classes
        for name, value in headers:
            kind = classes[name]
            if kind:
                found[kind] += (value,)
        if found[_CONNECTION]:
            found[0] = read_connection(found[_CONNECTION])
        return Scan._make(found)

    def _classify(self, raw_name: bytes) -> HeaderClass:
        name, folded = raw_name.lower().decode("latin-1"), canonical(raw_name)
        if folded in self._identity:
            return HeaderClass.STRIPPED
        if name in self._credentials:
            return self._credentials[name]
        if name in _READ:
            return _READ[name]
        if folded in self._stripped or folded in _READ:
            return HeaderClass.STRIPPED
        if folded.startswith("x-forwarded-"):
            return HeaderClass.FORWARDING if name == folded else HeaderClass.STRIPPED
        return HeaderClass.OTHER
