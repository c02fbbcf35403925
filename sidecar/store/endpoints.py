"""Where a Redis listens, and as whom a connection signs in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sidecar.store.resp import pack

HELLO: Final = (b"HELLO", b"3")
"""Switches to RESP3 and asks for the server's role."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a Redis listens: a host and a port, or (``path`` set) a unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """As whom a link signs in. ``repr`` never shows the password."""

    username: str = "default"
    password: str | None = field(default=None, repr=False)
    database: int = 0

    def hello(self) -> tuple[bytes, ...]:
        """Return the ``HELLO`` that switches to RESP3, signs in and asks for the server's role."""
        if self.password is None:
            return HELLO
        return (*HELLO, b"AUTH", self.username.encode(), self.password.encode())

    def greeting(self) -> list[bytes]:
        """Return the packed commands that open a connection; the first one is ``hello``."""
        commands = [pack(self.hello())]
        if self.database:
            commands.append(pack((b"SELECT", b"%d" % self.database)))
        return commands
