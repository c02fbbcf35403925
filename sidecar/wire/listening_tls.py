"""TLS of a listening socket whose certificate changes while it listens.

A socket takes one context for its life. This one hands each handshake to the context of the day: a
new connection sees the new certificate and the new authorities, wholly, and an old one keeps what
it agreed on. Session tickets are the inner context's, so that none outlives its authorities.
"""

from __future__ import annotations

import ssl
from typing import Self


class ListeningTls(ssl.SSLContext):
    """A context that lends out another, ``current``; replace that to change what is served."""

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Self:
        """Make the shell around ``current``."""
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
        """Begin a handshake; asyncio and uvloop call this for every new connection."""
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
