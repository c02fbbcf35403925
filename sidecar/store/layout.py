"""The keys of a token's record and last use in Redis, and how long they live.

``{prefix}token:<digest>``      the record (``sidecar.store.record``), with the token's TTL
``{prefix}used:<half digest>``  the last use; not under ``token:``, so that recording a use neither
                                rewrites a record nor invalidates caches
"""

from __future__ import annotations

import math
from typing import Final

from sidecar.core.model import LastUse, TokenRecord
from sidecar.store.commands import Command

USE_KEPT_SECONDS: Final = 400 * 86400
"""How long the last use of an unlimited token is kept: a little over a year."""

_MOST_CLIENT_CHARS: Final = 45  # an IPv6 address with an IPv4 tail


class Layout:
    """The keys under one prefix, and the commands that write to them."""

    def __init__(self, prefix: bytes) -> None:
        self.tokens_start = prefix + b"token:"
        self._used_start = prefix + b"used:"

    def token_key(self, digest: str) -> bytes:
        """Return the key of a record."""
        return self.tokens_start + digest.encode()

    def used_key(self, digest: str) -> bytes:
        """Return the key of a last use: half the digest saves memory and is unique enough."""
        return self._used_start + digest[:32].encode()

    def set_record(self, record: TokenRecord, value: bytes, condition: str, now: float) -> Command:
        """Return the command that writes an encoded record if ``condition`` (NX, XX) holds."""
        command: Command = ("SET", self.token_key(record.digest), value, condition)
        if record.expires_at is None:
            return command
        milliseconds = math.floor((record.expires_at - now) * 1000)
        return (*command, "PX", max(1, milliseconds))

    def set_use(self, digest: str, use: LastUse, ttl: int) -> Command:
        """Return the command that records a use for ``ttl`` milliseconds; below 1: unlimited."""
        milliseconds = ttl if ttl > 0 else USE_KEPT_SECONDS * 1000
        return ("SET", self.used_key(digest), encode_use(use), "PX", milliseconds)


def encode_use(use: LastUse) -> str:
    """Return a use as it is stored: the time in whole seconds and the client's address."""
    return f"{int(use.at)} {use.client[:_MOST_CLIENT_CHARS]}"


def decode_use(value: bytes) -> LastUse | None:
    """Return the use, or ``None`` for any other value."""
    at, _, client = value.decode("ascii", "replace").partition(" ")
    is_readable = at.isdigit() and len(at) < 12 and client.isprintable()
    return LastUse(float(at), client[:_MOST_CLIENT_CHARS]) if is_readable else None
