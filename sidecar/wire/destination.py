"""Where an upstream listens, how to reach it, and how many connections it may be given."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Destination:
    """One upstream, as the pool and the dialer see it. ``unix_path`` takes precedence over ``host``
    and ``port``.

    ``host`` and ``port`` also become the ``Host`` field when the caller's is not preserved.
    """

    name: str
    host: str
    port: int
    unix_path: str | None = None
    tls: ssl.SSLContext | None = None
    connect_timeout_seconds: float = 3.0
    max_connections: int = 512
    max_age_seconds: float = 300.0
    """The age at which a connection is not reused any more, less up to a fifth; 0: no limit."""
    server_name: str | None = None
    """What TLS asks for (SNI) and verifies; ``None``: ``host``."""

    @property
    def tls_name(self) -> str | None:
        """The name for SNI and for the certificate's check; ``None`` without TLS.

        A final dot belongs to the DNS, and a zone to this machine: no certificate has either (RFC
        6066 section 3).
        """
        if self.tls is None:
            return None
        return self.server_name or self.host.partition("%")[0].removesuffix(".")

    @property
    def address(self) -> str:
        """The address as logs show it."""
        return f"unix:{self.unix_path}" if self.unix_path else f"{self.host}:{self.port}"
