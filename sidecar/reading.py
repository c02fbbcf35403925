"""What a header section says under one configuration: read once, however often it is sent.

A caller on a kept connection sends the same header section again and again; only the request line
changes. All that follows from the section alone is worked out at its first sight and kept with it
(``wire.requests.Fields``), for as long as the configuration stays.
"""

from __future__ import annotations

from typing import Final

from sidecar.core.headers import Headers, Scan
from sidecar.core.model import Credential, Denial, TokenCredential
from sidecar.core.request_heads import RequestHeads
from sidecar.core.targets import is_valid_host
from sidecar.core.tokens import digest
from sidecar.rules import Rules

BAD_HOST: Final = Denial("bad_request", "The request needs one valid Host.")
BAD_EXPECT: Final = Denial("bad_request", "The only expectation known here is 100-continue.")


class Reading:
    """A header section, read by ``rules``."""

    __slots__ = ("_digest", "_kept", "credential", "denial", "headers", "rules", "scan")

    def __init__(self, rules: Rules, headers: Headers) -> None:
        scan = rules.headers.scan(headers)
        self.rules = rules
        self.headers = headers
        self.scan: Scan = scan
        self.denial = _judge(scan)
        """Why no request with these headers is served, whatever its line says."""
        self.credential: Credential | Denial | None = rules.credentials.extract(scan, None)[0]
        """What the headers carry; a query may add to it."""
        self._digest: str | None = None
        self._kept: dict[tuple[RequestHeads, bool], bytes] = {}

    def digest_of(self, credential: TokenCredential) -> str:
        """Return the digest that the store knows a token by."""
        if credential is not self.credential:
            return digest(credential.secret)
        if self._digest is None:
            self._digest = digest(credential.secret)
        return self._digest

    def kept_lines(self, heads: RequestHeads, is_trusted: bool) -> bytes:
        """Return the lines that go upstream unchanged, for a request whose ``Host`` stands."""
        key = (heads, is_trusted)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = heads.keep(self.headers, self.scan, is_trusted=is_trusted)
        return kept


def _judge(scan: Scan) -> Denial | None:
    if scan.host and not is_valid_host(scan.host[0].decode("latin-1")):
        return BAD_HOST
    if scan.expect and any(value.lower() != b"100-continue" for value in scan.expect):
        return BAD_EXPECT
    return None
