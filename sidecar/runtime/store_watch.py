"""Says in the log when the store can't be used, what that means for callers, and when it can again.

Only one process of a sidecar watches: the others would say the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sidecar.core.errors import Overloaded, StoreUnavailable

_log = logging.getLogger("sidecar")

_WELL_SECONDS: Final = 5.0
_AWAY_SECONDS: Final = 1.0
_MOST_REASONS: Final = 8

Ping = Callable[[], Awaitable[None]]
"""Returns if the store works; raises ``StoreUnavailable`` otherwise, with Redis's own words."""
Sleep = Callable[[float], Awaitable[None]]


class StoreWatch:
    """Asks the store now and then, more often while it is away."""

    def __init__(
        self,
        ping: Ping,
        store: str,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """``store`` is the store as the log shows it, without a password.

        ``grace_seconds`` is how long tokens seen before are accepted without it.
        """
        self._ping = ping
        self._store = store
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._sleep = sleep
        self._away_since: float | None = None
        self._reasons: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            await self._sleep(_WELL_SECONDS if self._away_since is None else _AWAY_SECONDS)

    async def look(self) -> None:
        """Ask once, and log what has changed."""
        try:
            await self._ping()
        except Overloaded:
            pass  # the queue before the store is full, which says nothing of the store
        except StoreUnavailable as fault:
            self._note_away(str(fault))
        else:
            self._note_well()

    def _note_away(self, reason: str) -> None:
        """Log each reason once in an outage: Redis refuses connections, then loads its data."""
        if self._away_since is None:
            self._away_since = self._clock()
            _log.error(
                "the store (%s) can't be used: %s. Until it can, requests that need it are "
                "answered 503 (store_unavailable)%s, and no token can be made or revoked. Public "
                "routes, passwords and foreign JWTs without a jti do not need it",
                self._store,
                reason,
                self._but_for_known_tokens(),
            )
        elif reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            _log.error("the store (%s) still can't be used: %s", self._store, reason)
        self._reasons.add(reason)

    def _but_for_known_tokens(self) -> str:
        if not self._grace_seconds:
            return ""
        return f", but for {self._grace_seconds:g} s those with a token that was seen before"

    def _note_well(self) -> None:
        if self._away_since is None:
            return
        seconds = self._clock() - self._away_since
        _log.info("the store (%s) can be used again, after %.0f s", self._store, seconds)
        self._away_since = None
        self._reasons = set()
