"""Limits store look-ups of unknown tokens that come from banned clients.

A flood of made-up tokens must not cost one look-up each. Yet a good token from the same address (an
office, a proxy that is not trusted) must still get through. At first sight nothing tells the two
apart, so each banned network may cause ``RATE`` look-ups a second, whatever it sends. A token over
the limit is deferred: the answer is a cheap 503 ("I don't know"), never "no".

Deferred tokens are remembered. A token that comes back draws on a second limit of the same size.
Tokens made up on the spot never come back and spend none of it, so a caller that retries after
``Retry-After`` passes at the second attempt, or at the third under the fastest floods.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

RATE: Final = 50.0
BURST: Final = 50
MOST_NETWORKS: Final = 10_000

_INTERVAL_SECONDS: Final = 1 / RATE
_WINDOW_SECONDS: Final = BURST / RATE
_ROUNDING_SECONDS: Final = 1e-3
_SLOTS: Final = 1 << 18  # deferred tokens: ten seconds of a fast flood, in 1 MiB
_SLOT_BITS: Final = 18
_FINGERPRINT_MASK: Final = (1 << 32) - 1


class LookupRateLimit:
    """How many look-ups banned networks may cause. ``now`` returns seconds, on any clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._spent: dict[str, float] = {}  # GCRA: the theoretical arrival time of each network
        self._spent_again: dict[str, float] = {}
        self._deferred: array[int] | None = None

    def may_look_up(self, network: str, digest: str) -> bool:
        """Tell whether the token may be looked up now; if so, the look-up counts."""
        now = self._now()
        if _draw(self._spent, network, now):
            return True
        return self._was_deferred(digest) and _draw(self._spent_again, network, now)

    def _was_deferred(self, digest: str) -> bool:
        """Tell whether a token was deferred lately, and remember that it was."""
        if self._deferred is None:
            self._deferred = array("I", bytes(4 * _SLOTS))
        key = hash(digest)  # keyed anew in each process: nobody can aim at another token's slot
        slot, fingerprint = key & _SLOTS - 1, key >> _SLOT_BITS & _FINGERPRINT_MASK
        if self._deferred[slot] == fingerprint:
            return True
        self._deferred[slot] = fingerprint
        return False


def _draw(spent: dict[str, float], network: str, now: float) -> bool:
    """Take one look-up from a network's allowance, if any is left."""
    until = spent.get(network, 0.0)
    if not now <= until <= now + _WINDOW_SECONDS + _ROUNDING_SECONDS:
        # Nothing is spent, or the clock was set back.
        if network not in spent and len(spent) >= MOST_NETWORKS:
            del spent[next(iter(spent))]
        until = now
    if until + _INTERVAL_SECONDS - now > _WINDOW_SECONDS + _ROUNDING_SECONDS:
        return False
    spent[network] = until + _INTERVAL_SECONDS
    return True
