"""The times in a JWT (NumericDate, RFC 7519 section 2): seconds since 1970, perhaps a fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from sidecar.core.jws import JwtRefused

LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z: RFC 3339 has no later times


def read_time(claims: Mapping[str, object], name: str) -> int | float:
    """Return the time that a claim holds; always finite. Raises ``JwtRefused``."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise JwtRefused(f"The token's {name} is not a number.")
    if value < 0:
        raise JwtRefused(f"The token's {name} is before 1970.")
    return value


def read_end(claims: Mapping[str, object], leeway_seconds: float, now: float) -> float:
    """Return when a token with this ``exp`` stops being accepted. Raises ``JwtRefused`` after that.

    A fraction is rounded down, so that no rounding lengthens the token's life.
    """
    value = read_time(claims, "exp")
    if value > LAST_SECOND:
        raise JwtRefused("The token's exp is after the year 9999.")
    end = math.floor(value) + leeway_seconds
    if end <= now:
        raise JwtRefused("The token has expired.")
    return min(end, LAST_SECOND)
