"""One hostile case as one value: what is sent, what must come back, what the upstream may see.

``{token}`` and its like stand for secrets that exist only at run time; ``stage.Stage.secrets``
lists them. Everything else in a request is sent as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from tests.upstream_recorder import Script

if TYPE_CHECKING:
    from tests.conformance.oracle import Observation

LISTENER = b"/v1/dynamic/listener/a1"
BEARER = b"Authorization: Bearer {token}"


class Do(Enum):
    """What a client may do besides sending bytes and waiting (a ``float``, seconds)."""

    READ = "read one answer before going on"
    HALF_CLOSE = "close the sending side"
    CLOSE = "leave"


Send = tuple[bytes | float | Do, ...]
Status = int | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An entry of the tables."""

    name: str
    """The item of the list, a space, and what is special: ``S3 content-length: +5``."""
    send: Send
    answers: tuple[Status, ...]
    """The final answers in order, each one status or any of several."""
    weight: int = 3
    code: str | tuple[str, ...] | None = None
    """The ``code`` of the last answer's problem document."""
    closes: bool | None = None
    """Whether the connection ends after the last answer; ``None``: either way."""
    seen: tuple[bytes, ...] = ()
    """The targets of the requests that the upstream gets whole, in order; it gets no other."""
    may_begin: bool = False
    """Whether a request may reach the upstream in part, if it is broken off there."""
    account: bytes | None = b"acme"
    """The one identity that each request seen carries, or ``None`` for no identity at all."""
    present: Mapping[str, list[bytes]] = field(default_factory=dict)
    """Headers (names folded) and their values in the last request seen."""
    absent: tuple[str, ...] = ()
    """Headers (names folded) that the last request seen lacks."""
    body: bytes | None = None
    """The body of the last request seen."""
    answer_has: Mapping[str, list[str]] = field(default_factory=dict)
    answer_lacks: tuple[str, ...] = ()
    answer_body: bytes | None = None
    scripts: tuple[Script, ...] = ()
    """What the upstream plays, one script a request."""
    proxy: str = "plain"
    method: bytes = b"GET"
    """The method as far as the framing of the answers goes (``HEAD`` has no body)."""
    secrets: tuple[bytes, ...] = ()
    """More strings that may show up nowhere."""
    shows: tuple[str, ...] = ()
    """Secrets, by name, that this case lets through to the upstream."""
    asks_store: bool | None = None
    """False: no token is looked up in Redis."""
    check: Callable[[Observation], None] | None = None
    """What this one case alone must show."""

    @property
    def group(self) -> str:
        return self.name[0]


def request(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = LISTENER,
    body: bytes = b"",
    host: bool = True,
) -> bytes:
    """Assemble a request from header lines; only the request line and ``Host`` are added."""
    start = b"%s %s HTTP/1.1" % (method, target)
    return b"\r\n".join([start, *([b"Host: shop.example"] if host else []), *lines, b"", body])


def authorized(
    *lines: bytes, method: bytes = b"GET", target: bytes = LISTENER, body: bytes = b""
) -> bytes:
    """Assemble a request that carries a valid token."""
    return request(BEARER, *lines, method=method, target=target, body=body)
