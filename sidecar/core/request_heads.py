"""Builds the request head for the upstream: *strip*, then *inject*.

Headers that stay keep their order, case and duplicates, byte for byte. The sidecar's own headers
follow them, the identity last and exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from sidecar.core.forwarded import UNIX, as_node, host_of, proto_of
from sidecar.core.headers import WEBSOCKET, HeaderClass, HeaderRules, Headers, Scan, canonical
from sidecar.core.memo import BoundedMemo
from sidecar.core.model import Form
from sidecar.core.policy import Principal
from sidecar.core.trace_context import is_tracestate, is_within
from sidecar.core.trusted_proxies import TrustedProxies

_UNKNOWN: Final = b"unknown"  # RFC 7239 section 6.2; a hop without an address
_VIA: Final = b"Via: 1.1 sidecar\r\n", b"Via: 1.0 sidecar\r\n"
_NO_VIA: Final = b"", b""
_PLAIN_IN_NAMES: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_HOST: Final = int(HeaderClass.HOST)  # ints, as enumeration look-ups cost time
_TRANSFER_ENCODING: Final = int(HeaderClass.TRANSFER_ENCODING)
_REFERER: Final = int(HeaderClass.REFERER)
_TRACEPARENT: Final = int(HeaderClass.TRACEPARENT)
_TRACESTATE: Final = int(HeaderClass.TRACESTATE)
_USER_NAME: Final = int(HeaderClass.USER_NAME)
_join: Final = b": ".join

_KEPT: Final = 0
_REWRITTEN: Final = 1
_DROPPED: Final = 2


class Downstream:
    """What the upstream learns about the client's connection; built once per connection.

    ``peer`` is the peer's address (``unix:`` on a unix socket, which has none), and ``scheme`` is
    ``http`` or ``https``. ``proxies`` are given if the peer is one of them, so that its statements
    about earlier hops are believed and extended.
    """

    __slots__ = ("_fixed", "_node", "_peer", "_proxies", "_scheme", "is_trusted")

    def __init__(self, peer: str, scheme: bytes, proxies: TrustedProxies | None = None) -> None:
        self.is_trusted: Final = proxies is not None
        self._proxies = proxies
        self._peer = b"" if peer == UNIX else peer.encode("ascii", "replace")
        self._node = as_node(peer)
        self._scheme = scheme
        self._fixed = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: " % (
            self._peer or _UNKNOWN,
            scheme,
        )

    def lines(self, scan: Scan, host: bytes) -> bytes:
        """Return the ``X-Forwarded-*`` lines; those of a trusted peer are extended.

        Where a trusted peer has sent ``Forwarded`` alone, they say the same as that (RFC 7239
        section 7.4), and ``Forwarded`` is extended as well.
        """
        if self._proxies is None:
            return self._fixed + host + b"\r\n"
        hops = [value.strip(b" \t,") for value in scan.forwarded_for]
        proto = b", ".join(scan.forwarded_proto)
        asked_host = b", ".join(scan.forwarded_host)
        own = b""
        if scan.forwarded:
            own = b"Forwarded: for=%b;proto=%b\r\n" % (self._node, self._scheme)
            if not any(hops):
                walked = self._proxies.walk((), scan.forwarded)
                hops = [hop.address.encode() or _UNKNOWN for hop in reversed(walked)]
                proto = proto or proto_of(walked)
                asked_host = asked_host or host_of(walked)
        hops.append(self._peer)
        return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n%b" % (
            b", ".join([hop for hop in hops if hop]) or _UNKNOWN,
            proto or self._scheme,
            asked_host or host,
            own,
        )


class RequestHeads:
    """Writes request heads for one upstream; built once.

    ``authority`` replaces the value of ``Host`` (``None``: the client's is kept).
    ``redact_referer`` takes credentials out of an address (``referers.RefererRules.redact``).
    With ``keeps_credentials`` the upstream receives all credentials. Without ``adds_via`` it isn't
    told of the sidecar (RFC 9110 section 7.6.3); what earlier hops said in ``Via`` stays.
    """

    __slots__ = ("_authority", "_classes", "_fates", "_redact_referer", "_via")

    def __init__(
        self,
        rules: HeaderRules,
        redact_referer: Callable[[str], str],
        *,
        authority: bytes | None = None,
        keeps_credentials: bool = False,
        adds_via: bool = True,
    ) -> None:
        self._authority = authority
        self._classes = rules.classes
        self._redact_referer = redact_referer
        self._via = _VIA if adds_via else _NO_VIA
        self._fates = [_decide_fates(is_trusted, keeps_credentials) for is_trusted in (False, True)]

    def keep(
        self,
        headers: Headers,
        scan: Scan,
        *,
        is_trusted: bool,
        host: bytes = b"",
        request_id: bytes = b"",
        traceparent: bytes = b"",
    ) -> bytes:
        """Return the lines of a request's headers that go upstream, in their order.

        ``host`` replaces the value of ``Host`` (with the authority of an absolute form); if empty,
        the value stays. The client's ``X-Request-Id`` stays if it equals ``request_id``, its
        ``traceparent`` if it equals ``traceparent``, and its ``tracestate`` if its trace continues.
        Framing stays as it came: ``Content-Length`` in its place, any ``Transfer-Encoding`` as
        ``chunked``.
        """
        classes, fates = self._classes, self._fates[is_trusted]
        if scan.options.named:
            headers = [h for h in headers if canonical(h[0]) not in scan.options.named]
        lines = []
        for header in headers:
            kind = classes[header[0]]
            fate = fates[kind]
            if fate == _KEPT:
                lines.append(_join(header))
            elif kind == _HOST:
                lines.append(header[0] + b": " + (self._authority or host or header[1]))
            elif fate == _REWRITTEN:
                lines += self._rewrite(kind, header, scan, request_id, traceparent)
        lines.append(b"")
        return b"\r\n".join(lines)

    def build(  # noqa: PLR0913 - an object to hold them would be made for each request, and dropped
        self,
        method: bytes,
        target: bytes,
        kept: bytes,
        scan: Scan,
        *,
        downstream: Downstream,
        host: bytes,
        request_id: bytes,
        traceparent: bytes = b"",
        identity: bytes,
        is_http_10: bool = False,
        is_websocket: bool = False,
    ) -> bytes:
        """Return the whole head, the empty line included.

        ``kept`` are the lines that ``keep`` returned. ``host`` is the authority that the client
        asked for: of the target's absolute form, else of ``Host``. ``request_id`` is the client's
        if that is sane. An empty ``traceparent`` is not sent. ``identity`` comes from
        ``identity_lines``.
        """
        return b"%b %b HTTP/1.1\r\n%b%b%b%b%b%b%b%b\r\n" % (
            method,
            target,
            b"" if scan.host else b"Host: %b\r\n" % (self._authority or host),
            kept,
            b"" if scan.request_id == (request_id,) else b"X-Request-Id: %b\r\n" % request_id,
            b""
            if not traceparent or scan.traceparent == (traceparent,)
            else b"traceparent: %b\r\n" % traceparent,
            downstream.lines(scan, host),
            self._via[is_http_10],
            WEBSOCKET if is_websocket else b"",
            identity,
        )

    def _rewrite(
        self,
        kind: int,
        header: tuple[bytes, bytes],
        scan: Scan,
        request_id: bytes,
        traceparent: bytes,
    ) -> list[bytes]:
        """Return the line that replaces this one, if any."""
        name, value = header
        if kind == _TRANSFER_ENCODING:
            return [name + b": chunked"]
        if kind == _REFERER:
            kept = self._redact_referer(value.decode("latin-1"))
            return [name + b": " + kept.encode("latin-1")]
        if kind == _USER_NAME:
            return [] if scan.passwords else [_join(header)]
        if kind == _TRACEPARENT:
            return [_join(header)] if scan.traceparent == (traceparent,) else []
        if kind == _TRACESTATE:
            goes_on = is_within(traceparent, scan.traceparent) and is_tracestate(scan.tracestate)
            return [_join(header)] if goes_on else []
        return [_join(header)] if scan.request_id == (request_id,) else []


def _decide_fates(is_trusted: bool, keeps_credentials: bool) -> list[int]:
    """Return for each class of header what happens to it."""
    kept = {HeaderClass.OTHER, HeaderClass.CONTENT_LENGTH, HeaderClass.EXPECT}
    rewritten = {HeaderClass.HOST, HeaderClass.TRANSFER_ENCODING, HeaderClass.REQUEST_ID}
    rewritten |= {HeaderClass.TRACEPARENT, HeaderClass.TRACESTATE}
    if is_trusted:
        kept |= {HeaderClass.FORWARDING, HeaderClass.FORWARDED}
    if keeps_credentials:
        kept |= {HeaderClass.AUTHORIZATION, HeaderClass.CREDENTIAL, HeaderClass.REFERER}
        kept |= {HeaderClass.USER_NAME, HeaderClass.PASSWORD}
    else:
        rewritten |= {HeaderClass.REFERER, HeaderClass.USER_NAME}
    return [_KEPT if c in kept else _REWRITTEN if c in rewritten else _DROPPED for c in HeaderClass]


def identity_lines(values: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the header lines of an identity; made once for each caller, not for each request.

    Raises ``ValueError`` for a value that is empty or has anything but visible ASCII and spaces, as
    a service could misread it.
    """
    lines = []
    for name, value in values:
        if not value.strip() or value.translate(None, _PRINTABLE):
            raise ValueError(f"the value for {name.decode('latin-1')} can't stand in a header")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


def encode_token_name(name: str) -> bytes:
    """Encode a token's name as a header value.

    Everything but inner spaces and visible ASCII other than ``%`` is percent-encoded as UTF-8;
    decoding the value as a URL component gives the name back.
    """
    encoded = quote(name, safe=_PLAIN_IN_NAMES, errors="replace")
    inner = encoded.strip(" ")
    start = len(encoded) - len(encoded.lstrip(" "))
    return ("%20" * start + inner + "%20" * (len(encoded) - start - len(inner))).encode()


_CALLERS_REMEMBERED: Final = 10_000

_Identity = tuple[str, Form, str, str]
"""All that identity lines are made of: an account, a form, a token's id and its name."""


class IdentityLines:
    """The header lines that tell an upstream who is calling, written once per caller.

    ``headers`` maps header names to what each carries: ``account``, ``method``, ``token_id`` or
    ``token_name``. The cache is keyed by all the values that go into the lines. A token's id would
    not be enough: a foreign JWT's id is its ``jti``, and two issuers may use the same one.
    """

    def __init__(self, headers: Mapping[str, str], most: int = _CALLERS_REMEMBERED) -> None:
        self._headers = [(name.encode(), attribute) for name, attribute in headers.items()]
        self._per_token = any(attribute.startswith("token_") for attribute in headers.values())
        self._known: BoundedMemo[_Identity, bytes] = BoundedMemo(most)

    def lines(self, principal: Principal) -> bytes:
        """Return the lines for a caller, without those that it has no value for.

        Raises ``ValueError`` for a value that no header can hold.
        """
        record = principal.record
        if record is None or not self._per_token:
            key = (principal.account, principal.form, "", "")
        else:
            key = (principal.account, principal.form, record.id, record.name)
        known = self._known.get(key)
        if known is None:
            known = identity_lines(self._values(principal))
            self._known.put(key, known)
        return known

    def _values(self, principal: Principal) -> Iterator[tuple[bytes, bytes]]:
        record = principal.record
        for name, attribute in self._headers:
            if attribute == "account":
                yield name, principal.account.encode()
            elif attribute == "method":
                yield name, principal.form.encode()
            elif record is not None and attribute == "token_id":
                yield name, record.id.encode()
            elif record is not None:
                yield name, encode_token_name(record.name)
