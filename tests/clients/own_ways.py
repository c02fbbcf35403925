"""What a client does in its own way, whatever stands at the other end: each with its reason.

A row here is a finding: the suite fails when it is no longer true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OwnWay:
    """Why a client's outcome is not the one that the table of behaviours describes."""

    reason: str
    transports: tuple[str, ...] = ("plain", "TLS")


_CONNECTION_EACH: Final = OwnWay("makes a connection for each request")
_ASCII_ONLY: Final = OwnWay("takes no URL that is not ASCII: its callers percent-encode")
_RAW: Final = OwnWay(
    "sends `ü` and `ß` as raw bytes, which no URL may hold (RFC 3986): 400 `bad_request`"
)

OWN_WAYS: Final[dict[tuple[str, str], OwnWay]] = {
    ("curl", "letters"): _RAW,
    ("python-urllib", "challenge"): _CONNECTION_EACH,
    ("python-urllib", "keep-alive"): _CONNECTION_EACH,
    ("python-urllib", "followed-body"): OwnWay(
        "does not repeat a POST after 307: its caller gets the redirect"
    ),
    ("python-urllib", "letters"): _ASCII_ONLY,
    ("java-url", "challenge"): OwnWay("makes a new connection to answer a challenge"),
    ("java-url", "letters"): _RAW,
    ("java-net", "expect-refused"): OwnWay(
        "waits for ever for 100 (Continue), whatever other answer it gets (JDK-8286171)"
    ),
    ("php-curl", "letters"): _RAW,
    ("php-streams", "challenge"): _CONNECTION_EACH,
    ("php-streams", "keep-alive"): _CONNECTION_EACH,
    ("php-streams", "letters"): _RAW,
    ("ruby", "letters"): _ASCII_ONLY,
    ("go", "letters"): _RAW,
}
