"""What one configuration means: everything that a request is judged and forwarded by.

``Rules`` are computed once and frozen. The gateway reads them once per request, so a new
configuration takes effect between two requests and never within one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.auth.assertion import AssertionSigner, AssertionSubject
from sidecar.auth.authenticator import AuthRules
from sidecar.auth.credential_cache import CachedCredentials
from sidecar.core.credentials import CredentialRules
from sidecar.core.headers import HeaderRules
from sidecar.core.policy import Principal
from sidecar.core.request_heads import IdentityLines, RequestHeads
from sidecar.core.routes import RouteTable
from sidecar.core.trusted_proxies import TrustedProxies
from sidecar.proxy.answers import Challenges
from sidecar.proxy.tracing import Traces
from sidecar.wire.pool import Pool
from sidecar.wire.relay import Timeouts


@dataclass(frozen=True, slots=True)
class UpstreamHandle:
    """Everything it takes to forward requests to one upstream."""

    pool: Pool
    heads: RequestHeads
    authority: bytes
    """The ``Host`` of requests that came without one (HTTP/1.0)."""
    timeouts: Timeouts
    forwards_credentials: bool


class AssertionLines:
    """The header line with a signed assertion of who is calling (``auth.assertion``)."""

    def __init__(self, header: str, signer: AssertionSigner) -> None:
        self._header = header.encode()
        self._signer = signer

    def line(self, principal: Principal, upstream: str, now: float) -> bytes:
        """Return the line for a caller and an upstream at ``now`` (Unix seconds)."""
        record = principal.record
        subject = AssertionSubject(
            principal.account,
            principal.form.value,
            None if record is None else record.id,
            None if record is None else record.name,
        )
        token = self._signer.assertion(subject, upstream, now)
        return b"%b: %b\r\n" % (self._header, token.encode())


@dataclass(frozen=True, slots=True)
class Rules(AuthRules):
    """One configuration, ready for judging and forwarding requests."""

    routes: RouteTable
    credentials: CredentialRules
    """Where credentials are looked for, unless the route says otherwise."""
    all_credentials: CredentialRules
    """The same with the names of all routes: what may be a credential anywhere."""
    headers: HeaderRules
    upstreams: Mapping[str, UpstreamHandle]
    challenges: Challenges
    identity: IdentityLines
    assertion: AssertionLines | None
    traces: Traces
    expiry_notice_seconds: float
    trusted_proxies: TrustedProxies
    health_path: str
    """Answered as a health probe; empty: none is."""
    seen: CachedCredentials = field(default_factory=CachedCredentials)
    """What the bytes of credentials were read as, by these rules."""
