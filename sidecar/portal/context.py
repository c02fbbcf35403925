"""What the portal is given, and what it expects of each part."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from sidecar.auth.password_auth import PasswordAuth
from sidecar.core.policy import Account
from sidecar.observability.audit import AuditLog
from sidecar.tokens.lifecycle import Lifecycle

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SharedSecret = Callable[[], Awaitable[bytes]]
"""Gives the 32 bytes that session cookies are encrypted with: the same in every worker and replica,
for as long as the store keeps them. May raise ``StoreUnavailable``."""

SECRET_BYTES = 32


class Hops(Protocol):
    """Who stands between the browser and us (``sidecar.proxy.rules.Rules`` is one)."""

    def is_trusted(self, peer: str) -> bool:
        """Tell whether what ``peer`` says of earlier hops is believed."""

    def caller_of(self, peer: str, forwarded_for: tuple[bytes, ...]) -> str:
        """Return the address of the caller behind a trusted peer."""


class NoHops:
    """Believes nobody: the peer is the caller."""

    def is_trusted(self, peer: str) -> bool:
        """See ``Hops``."""
        return False

    def caller_of(self, peer: str, forwarded_for: tuple[bytes, ...]) -> str:
        """See ``Hops``."""
        return peer


def secret_of_this_process() -> SharedSecret:
    """Return a secret that no other process shares and that ends with this one."""
    secret = os.urandom(SECRET_BYTES)

    async def read() -> bytes:
        return secret

    return read


_NO_HOPS: Final = NoHops()


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says now. Made once for each configuration, not for each request."""

    accounts: Mapping[str, Account]
    lifecycle: Lifecycle
    can_issue_jwt: bool = False
    expiry_notice_seconds: float = 14 * 86400.0
    """How long before its end a token is shown as about to expire."""
    hops: Hops = _NO_HOPS


@dataclass(frozen=True, slots=True)
class Parts:
    """All that the handlers work with."""

    terms: Callable[[], Terms]
    admission: PasswordAuth
    audit: AuditLog
    secret: SharedSecret
    now: Callable[[], float]


PARTS = web.AppKey("parts", Parts)
