"""TLS for a listening socket whose certificate can change while it listens.

A socket keeps one context for its lifetime. This one delegates each handshake to the current
context: a new connection sees the new certificate and authorities as a whole, and an established
one keeps what it negotiated. Session tickets belong to the inner context, so none outlives its
authorities.
"""

from __future__ import annotations

import ssl
from typing import Self


class ListeningTls(ssl.SSLContext):
    """A context that delegates to another, ``current``; replace that to change the certificate."""

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Self:
        """Return a context that wraps ``current``."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self.current = current
        return self

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Start a handshake; asyncio and uvloop call this for every new connection."""
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
