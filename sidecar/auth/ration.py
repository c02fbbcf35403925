"""How often the store is asked for tokens that nobody here knows and that a banned client sends.

A flood of made-up tokens must not cost a question each, and the holder of a good token behind the
same address (an office, a proxy that is not trusted) must get through all the same. At first sight
nothing tells the two apart, so each network has ``RATE`` questions a second, whatever it sends.
What is beyond that is put off: the answer is "I don't know" (503), never "no", and is cheap.

A token that was put off is noted, and when it comes again it draws on a second ration, as large.
Tokens made up on the spot never come again, so none of that is spent on them: a holder that tries
again after ``Retry-After`` passes at the second try, or the third under the fastest floods.
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
_PLACES: Final = 1 << 18  # tokens put off: ten seconds of a fast flood, in 1 MiB
_PLACE_BITS: Final = 18
_SIGN_MASK: Final = (1 << 32) - 1


class Ration:
    """Questions that banned networks may have put. ``now`` gives seconds, of any clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._spent: dict[str, float] = {}  # up to when, if each had taken its interval (GCRA)
        self._spent_again: dict[str, float] = {}
        self._put_off: array[int] | None = None

    def may_ask(self, network: str, digest: str) -> bool:
        """Tell whether the store may be asked for a token now, and count the question."""
        now = self._now()
        if _draw(self._spent, network, now):
            return True
        return self._comes_again(digest) and _draw(self._spent_again, network, now)

    def _comes_again(self, digest: str) -> bool:
        """Tell whether a token was put off lately, and note that it was."""
        if self._put_off is None:
            self._put_off = array("I", bytes(4 * _PLACES))
        key = hash(digest)  # keyed anew in each process: nobody can aim at another's place
        place, sign = key & _PLACES - 1, key >> _PLACE_BITS & _SIGN_MASK
        if self._put_off[place] == sign:
            return True
        self._put_off[place] = sign
        return False


def _draw(spent: dict[str, float], network: str, now: float) -> bool:
    """Take one question from a network's ration, if any is left of it."""
    until = spent.get(network, 0.0)
    if (
        not now <= until <= now + _WINDOW_SECONDS + _ROUNDING_SECONDS
    ):  # nothing spent, or the clock was set back
        if network not in spent and len(spent) >= MOST_NETWORKS:
            del spent[next(iter(spent))]
        until = now
    if until + _INTERVAL_SECONDS - now > _WINDOW_SECONDS + _ROUNDING_SECONDS:
        return False
    spent[network] = until + _INTERVAL_SECONDS
    return True
