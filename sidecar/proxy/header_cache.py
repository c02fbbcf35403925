"""Header sections that were seen before, and what was read of them.

Callers send the same header section again and again, and many callers differ in their token alone.
So a section is parsed once, and what follows from it is worked out once. Four things are cached:

=======================  ==============================  ==========================  ==============
what                     keyed by                        belongs to                  where
=======================  ==============================  ==========================  ==============
the head sent last       all its bytes but the secret    one connection              ConnectionHeads
header sections          all their bytes but the secret  one set of limits           HeaderCache
request lines            all their bytes                 one set of limits           HeaderCache
``ParsedHeaders``        its section                     one ``Rules``               CachedSection
=======================  ==============================  ==========================  ==============

The secret itself is the key of a fifth cache, ``auth.credential_cache``, which tells what
credential it is. The five meet in ``read_headers``: the section says what everything but the secret
means and in which place the secret stands, the credential cache says what the secret means there.

**What is the secret?** The one run of at least ``SECRET_BYTES`` visible characters that ends a line
which is ``Authorization`` with a scheme that is read or with none, one of the configured token
headers, or the field of a password. It is cut out of the key, and NUL stands in its place. A second
credential stays in the key, and the section's ``slot`` is ``None``: each of its requests is then
read by its own headers. A user name beside a password stays in the key, too.

**Why can't two requests be taken for one another?**

- A section's key holds every byte of the section but the secret's. A section that passed the parser
  contains no NUL, so the NUL in a key shows exactly where the secret stood. A section that itself
  contains NUL matches no key. Hence two sections with one key differ in the secret alone.
- Any other secret in that place would pass the parser likewise, because it consists of visible
  characters and touches neither the framing nor another line. A section's meaning doesn't depend on
  the request line for the methods and the version that are cached (HTTP/1.1). Sections with a
  ``Transfer-Encoding`` or an upgrade are never cached.
- The secret travels with its request (``CachedRequest``) and is never part of a shared entry. If
  these rules don't read the place it was cut from as the request's only credential,
  ``ParsedHeaders.slot`` is ``None`` and the request's own headers, secret included, are read.
- The head sent last is compared in full. A secret of another length, or one with a character that
  isn't visible, isn't a match.
- ``ParsedHeaders`` name the ``Rules`` that read them; other rules read the section again. Other
  limits, or other token headers, get a new ``HeaderCache``.
- Nothing here is a verdict. Whether a request may pass is judged each time, by its own credential.

``HeaderCache`` holds two kinds of credential only: the second one of a request that carries two,
and a password or a ``Basic`` value that can't be cut out, as it is short or not all visible ASCII.
``ConnectionHeads`` holds the credential that its connection sent last, for as long as that is open.

Everything is bounded in number and size. Sections of refused requests have a small space of their
own, so that junk evicts nothing but junk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from aiohttp.http import HttpVersion11

from sidecar.auth.credential_cache import CachedCredential, CredentialSlot
from sidecar.core.cors import CorsFields, read_cors_fields
from sidecar.core.headers import HeaderClass, Headers, Scan, read_expectations
from sidecar.core.model import Denial
from sidecar.core.request_heads import RequestHeads
from sidecar.core.targets import is_valid_host
from sidecar.proxy.rules import Rules
from sidecar.wire.requests import HeadCache, HeaderSection, Request, RequestLimits

BAD_HOST: Final = Denial("bad_request", "The request needs one valid Host.")
BAD_EXPECT: Final = Denial(
    "bad_request", "The only expectation known here is 100-continue.", status=417
)
_EXPECTATIONS: Final = frozenset({b"100-continue"})

SECRET_BYTES: Final = 16
"""A shorter value isn't cut out: no token is shorter, and short passwords are rare."""

CUT: Final = b"\0"
"""Stands in the place of a secret that was cut out."""

_KEY_BYTES: Final = 2048  # a longer section, or head, isn't cached
_MOST_SECTIONS: Final = 1024
_MOST_LINES: Final = 4096
_LINE_BYTES: Final = 512
_PREFIX_BYTES: Final = 16
_END: Final = b"\r\n\r\n"
_AUTHORIZATION: Final = int(HeaderClass.AUTHORIZATION)  # ints: looking an enumeration up costs time
_CREDENTIAL: Final = int(HeaderClass.CREDENTIAL)
_PASSWORD: Final = int(HeaderClass.PASSWORD)

_parse_line: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[\x21-\x7e]*) HTTP/1\.1"
).fullmatch
_is_secret: Final = re.compile(rb"[\x21-\x7e]{%d,}" % SECRET_BYTES).fullmatch


class CachedSection(HeaderSection):
    """A header section that requests share.

    ``cut`` is the index in ``headers`` of the value that ends in ``CUT``; -1 if nothing was cut
    out. ``parsed`` is what the latest rules read in it.
    """

    __slots__ = ("cut", "parsed")

    def __init__(
        self, headers: tuple[tuple[bytes, bytes], ...], length: int | None, keeps_alive: bool
    ) -> None:
        super().__init__(headers, length, keeps_alive)
        self.cut = -1
        self.parsed: ParsedHeaders | None = None


class CachedRequest(Request):
    """A request whose header section was cached; ``secret`` was cut out of it, or is empty."""

    __slots__ = ("cached", "secret")

    def __init__(
        self, method: str, target: str, cached: CachedSection, secret: bytes, head_bytes: int
    ) -> None:
        Request.__init__(self, method, target, HttpVersion11, cached)  # cheaper than super()
        self.cached = cached
        self.secret = secret
        self.head_bytes = head_bytes

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header fields as sent, the secret in its place."""
        headers, cut = self.cached.headers, self.cached.cut
        if cut < 0:
            return headers
        name, value = headers[cut]
        whole = (name, value.removesuffix(CUT) + self.secret)
        return (*headers[:cut], whole, *headers[cut + 1 :])


class HeaderCache:
    """Header sections and request lines that were seen before, for all connections of a server.

    ``names`` are the headers that hold a secret besides ``Authorization``, and ``schemes`` those of
    ``Authorization`` that precede one besides Basic. At most ``most`` sections of requests that
    passed are cached, and an eighth as many of requests that were refused.
    """

    def __init__(
        self,
        limits: RequestLimits,
        names: Iterable[str] = (),
        schemes: Iterable[str] = ("Bearer",),
        most: int = _MOST_SECTIONS,
    ) -> None:
        self._header_bytes = limits.header_bytes
        self._url_bytes = limits.url_bytes
        self._most_passed = most
        self._most_refused = max(1, most // 8)
        self._passed: dict[bytes, CachedSection] = {}
        self._refused: dict[bytes, CachedSection] = {}
        self._lines: dict[bytes, tuple[str, str]] = {}
        named = b"".join(rb"|(?i:%b): " % re.escape(name.encode()) for name in names)
        before = b"|".join(re.escape(scheme.encode()) for scheme in ("Basic", *schemes) if scheme)
        self._find_secret = re.compile(
            rb"\r\n(?:(?i:authorization): (?:(?i:%b)[ \t]+)?%b)([\x21-\x7e]{%d,})(?:\r\n|\Z)"
            % (before, named, SECRET_BYTES)
        ).search

    def __len__(self) -> int:
        return len(self._passed) + len(self._refused)

    def for_connection(self) -> HeadCache:
        """Return the view of this cache that one connection reads its requests through."""
        return ConnectionHeads(self)

    def find(self, data: bytes, start: int) -> tuple[CachedRequest, int] | None:
        """Return the request at ``start`` if its section is cached, and its secret's offset."""
        end = data.find(_END, start)
        line_end = data.find(b"\r\n", start)
        if not start < line_end < end <= line_end + self._header_bytes:
            return None
        found = self.get(data[line_end:end])
        if found is None:
            return None
        line = self._get_line(data[start:line_end])
        if line is None or len(line[1]) > self._url_bytes:
            return None
        section, secret, offset = found
        request = CachedRequest(line[0], line[1], section, secret, end + len(_END) - start)
        return request, line_end + offset

    def get(self, section: bytes) -> tuple[CachedSection, bytes, int] | None:
        """Return the cached section with these bytes, the secret cut out of them, and its offset.

        ``section`` begins with the CR LF of the request line and ends before that of the last line.
        """
        found = self._find_secret(section)
        start = 0
        if found is None:
            key, secret = section, b""
            if CUT in section:
                return None
        else:
            start, end = found.span(1)
            key, secret = section[:start] + CUT + section[end:], section[start:end]
        cached = self._passed.get(key) or self._refused.get(key)
        return None if cached is None else (cached, secret, start)

    def put(self, head: bytes, request: Request, *, has_passed: bool) -> None:
        """Cache the section of a request with this head; the oldest is evicted if there's no room.

        Nothing happens if the request line isn't one that the parser and this cache read alike.
        """
        line_end = head.find(b"\r\n")
        line = _parse_line(head, 0, line_end)
        if line is None or line[2].decode() != request.target:
            return
        section = head[line_end : -len(_END)]
        key, kept = section, request.section
        cached = CachedSection(kept.headers, kept.length, kept.keeps_alive)
        found = self._find_secret(section)
        if found is not None:
            start, end = found.span(1)
            key = section[:start] + CUT + section[end:]
            if not _cut_out(cached, found[1], section.count(b"\r\n", 0, found.start())):
                return
        if len(key) > _KEY_BYTES:
            return
        sections, most = self._passed, self._most_passed
        if not has_passed:
            sections, most = self._refused, self._most_refused
        if len(sections) >= most:
            del sections[next(iter(sections))]
        sections[key] = cached

    def _get_line(self, line: bytes) -> tuple[str, str] | None:
        """Return a request line's method and target; ``None`` unless it's a plain one."""
        known = self._lines.get(line)
        if known is None:
            parsed = _parse_line(line)
            if parsed is None:
                return None
            known = parsed[1].decode(), parsed[2].decode()
            if len(line) <= _LINE_BYTES and b"?" not in line:  # a query may hold a credential
                if len(self._lines) >= _MOST_LINES:
                    self._lines.clear()
                self._lines[line] = known
        return known


def _cut_out(section: CachedSection, secret: bytes, index: int) -> bool:
    """Cut a secret out of a section's header at ``index``, if it ends that header's value."""
    headers = section.headers
    name, value = headers[index]
    if not value.endswith(secret):
        return False
    stem = (name, value[: len(value) - len(secret)] + CUT)
    section.headers = (*headers[:index], stem, *headers[index + 1 :])
    section.cut = index
    return True


class ConnectionHeads(HeadCache):
    """What one connection's requests are read through: the head it sent last, then the cache.

    A head that repeats the last one, but for a secret of the same length, isn't even split into
    lines. ``_before`` and ``_after`` are what surrounds the secret. ``_prefix`` is how the secret
    begins, up to an underscore: tokens of one issuer share it.
    """

    __slots__ = (
        "_after",
        "_before",
        "_cache",
        "_head",
        "_method",
        "_prefix",
        "_secret",
        "_section",
        "_target",
    )

    def __init__(self, cache: HeaderCache) -> None:
        self._cache = cache
        self._section: CachedSection | None = None
        self._head = b""
        self._method = ""
        self._target = ""
        self._secret = b""
        self._prefix = b""
        self._before = b""
        self._after = b""

    def get(self, data: bytes, start: int) -> Request | None:
        """See ``HeadCache``."""
        section = self._section
        if section is not None and start == 0 and (data == self._head or self._is_as_last(data)):
            return CachedRequest(self._method, self._target, section, self._secret, len(data))
        found = self._cache.find(data, start)
        if found is None:
            return None
        request, offset = found
        if start == 0 and request.head_bytes == len(data) <= _KEY_BYTES + len(_END):
            self._note(data, request, offset)
        return request

    def put(self, request: Request, *, has_passed: bool) -> None:
        """See ``HeadCache``."""
        if request.head is not None:
            self._cache.put(request.head, request, has_passed=has_passed)

    def _note(self, head: bytes, request: CachedRequest, offset: int) -> None:
        """Remember a head as the one that was sent last; its secret begins at ``offset``."""
        secret = request.secret
        self._section = request.cached
        self._head = head
        self._method, self._target, self._secret = request.method, request.target, secret
        self._prefix = secret[: secret.rfind(b"_", 0, _PREFIX_BYTES) + 1]
        self._before = head[:offset] if secret else b""
        self._after = head[offset + len(secret) :]

    def _is_as_last(self, data: bytes) -> bool:
        """Return whether these bytes are the last head with another secret of the same length.

        That secret is the last one from then on.
        """
        before, after = self._before, self._after
        if not before or len(data) != len(self._head):
            return False
        if not (data.startswith(before) and data.endswith(after)):
            return False
        secret = data[len(before) : len(data) - len(after)]
        prefix = self._prefix
        is_plain = secret.startswith(prefix) and secret[len(prefix) :].isalnum()
        if not (is_plain or _is_secret(secret)):  # the first test is cheaper
            return False
        self._head, self._secret = data, secret
        return True


class ParsedHeaders:
    """A header section as ``rules`` read it.

    ``cut`` is that of a ``CachedSection``. If ``slot`` isn't ``None``, these may be the headers of
    many requests: each request's secret is its only credential, and stands there. Otherwise they
    are those of one request, or of requests that are the same to the byte.
    """

    __slots__ = ("_cors", "_forwarded", "cached", "denial", "headers", "rules", "scan", "slot")

    def __init__(self, rules: Rules, headers: Headers, cut: int = -1) -> None:
        scan = rules.headers.scan(headers)
        self.rules = rules
        self.headers = headers
        self.scan: Scan = scan
        self.denial = _check(scan)
        """Why a request with these headers is refused, whatever its request line says."""
        self.slot = self._find_slot(cut) if cut >= 0 else None
        self.cached = CachedCredential(
            None if cut >= 0 else rules.credentials.extract(scan, None)[0]
        )
        """The credential in the headers, if nothing was cut out; a query may add another."""
        self._forwarded: dict[tuple[RequestHeads, bool], bytes] = {}
        self._cors: CorsFields | None = None

    @property
    def cors(self) -> CorsFields:
        """What the headers say of the page that a request comes from; read at its first use."""
        fields = self._cors
        if fields is None:
            fields = self._cors = read_cors_fields(self.headers)
        return fields

    def forwarded_lines(self, heads: RequestHeads, is_trusted: bool) -> bytes:
        """Return the lines that go upstream unchanged, for a request that keeps its ``Host``."""
        key = (heads, is_trusted)
        lines = self._forwarded.get(key)
        if lines is None:
            lines = heads.keep(self.headers, self.scan, is_trusted=is_trusted)
            self._forwarded[key] = lines
        return lines

    def _find_slot(self, cut: int) -> CredentialSlot | None:
        """Return the slot that a secret was cut from, if it's the request's only credential."""
        name, value = self.headers[cut]
        scan, rules = self.scan, self.rules.credentials
        if len(scan.authorization) + len(scan.credentials) + len(scan.passwords) != 1:
            return None
        kind, stem = self.rules.headers.classes[name], value.removesuffix(CUT)
        if kind == _AUTHORIZATION:
            return CredentialSlot.in_authorization(rules, stem)
        if kind == _CREDENTIAL:
            return CredentialSlot.in_token_header(rules)
        if kind == _PASSWORD and len(scan.user_names) == 1:
            return CredentialSlot.beside(rules, scan.user_names[0])
        return None


def read_headers(rules: Rules, request: Request) -> tuple[ParsedHeaders, CachedCredential]:
    """Return a request's headers and the credential in them, from the caches where they have it.

    A credential in the query is not looked at, except that it keeps the request from sharing
    headers with others, whichever route's it is: which route it will be isn't known yet.
    """
    if not isinstance(request, CachedRequest):
        parsed = ParsedHeaders(rules, request.headers)
        return parsed, parsed.cached
    cached = request.cached
    known = cached.parsed
    if known is None or known.rules is not rules:
        known = cached.parsed = ParsedHeaders(rules, cached.headers, cached.cut)
    slot, target = known.slot, request.target
    if cached.cut < 0:
        return known, known.cached
    if slot is not None and not ("?" in target and rules.all_credentials.are_in_query_of(target)):
        return known, rules.seen.get(slot, request.secret)
    parsed = ParsedHeaders(rules, request.headers)
    return parsed, parsed.cached


def _check(scan: Scan) -> Denial | None:
    if scan.host and not is_valid_host(scan.host[0].decode("latin-1")):
        return BAD_HOST
    if scan.expect and read_expectations(scan.expect) - _EXPECTATIONS:
        return BAD_EXPECT
    return None
