"""What the portal's handlers work with, and what the portal expects of each part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from sidecar.auth.password_auth import PasswordAuth
from sidecar.core.policy import Account
from sidecar.core.trusted_proxies import TrustedProxies
from sidecar.observability.audit import AuditLog
from sidecar.tokens.lifecycle import Lifecycle

SharedSecret = Callable[[], Awaitable[bytes]]
"""Returns the 32 bytes that session cookies are encrypted with: the same in every worker and
replica, for as long as the store keeps them. May raise ``StoreUnavailable``."""


@dataclass(frozen=True, slots=True)
class PortalConfig:
    """What the configuration says now. Made once for each configuration, not for each request."""

    accounts: Mapping[str, Account]
    lifecycle: Lifecycle
    can_issue_jwt: bool
    expiry_notice_seconds: float
    """How long before its end a token is marked as about to expire."""
    trusted_proxies: TrustedProxies


@dataclass(frozen=True, slots=True)
class PortalContext:
    """What every handler works with."""

    config: Callable[[], PortalConfig]
    password_auth: PasswordAuth
    audit: AuditLog
    secret: SharedSecret
    now: Callable[[], float]


CONTEXT = web.AppKey("context", PortalContext)
