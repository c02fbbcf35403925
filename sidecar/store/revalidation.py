"""Look up the tokens remembered for an outage again as soon as the store is back.

Changes made during an outage were never reported, so a token that is not read again keeps the end
that the outage gave it (``outage_memory``). Reading it here gives it a whole ``outage_grace`` in
the next outage, whether a caller uses it in between or not, and forgets it at once if it is gone.
Tokens that are not reached in time keep their old end.

Callers come first. At most ``_AT_ONCE`` look-ups are under way. Before each such batch, this waits
until no caller waits for the store, but not for long, so that a flood of look-ups cannot prevent
it. After each batch it rests at least as long as the batch took, so a busy store is asked less. The
latest tokens are read first. It ends when the watch is lost, or when the cache is full: it never
evicts a caller's token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Protocol

from sidecar.core.errors import Fault

_AT_ONCE: Final = 64
_REST_SECONDS: Final = 0.002
_MOST_RESTS: Final = 25
"""How many rests a batch gives way to callers for: 50 ms in all."""
_RETRY_SECONDS: Final = 0.1
_MOST_FAILURES: Final = 10


class Remembering(Protocol):
    """The part of ``store.cache.TokenCache`` that is needed here."""

    @property
    def is_asked(self) -> bool:
        """Whether a look-up is under way."""

    @property
    def may_confirm(self) -> bool:
        """Whether ``confirm`` is of use."""

    def remembered(self) -> list[str]:
        """Return the tokens remembered for an outage, the latest last."""

    async def confirm(self, digest: str) -> None:
        """Ask the store about a token and cache the answer; raise a ``Fault`` without one."""


class Revalidation:
    """Confirms what a cache remembers of outages, while ``run`` runs."""

    def __init__(
        self,
        cache: Remembering,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._cache = cache
        self._sleep = sleep
        self._clock = clock
        self._left: list[str] = []  # the next one last
        self._is_due = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Revalidation left={len(self._left)}>"

    def begin(self) -> None:
        """Start with the tokens remembered now. Call it just before the cache's ``on_watching``,
        which drops those that are too old.
        """
        self._left = self._cache.remembered()
        self._is_due.set()

    async def run(self) -> None:
        """Look up the remembered tokens each time the store is back, until cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            await self._confirm_all()
            self._left = []

    async def _confirm_all(self) -> None:
        failures = 0
        while self._left and failures < _MOST_FAILURES:
            await self._give_way()
            if not self._cache.may_confirm:
                break
            batch = self._left[-_AT_ONCE:]
            del self._left[-_AT_ONCE:]
            began_at = self._clock()
            failed = await self._confirm(batch)
            if failed:
                failures += 1
                known = {*self._left}  # another return may have begun meanwhile
                self._left[:0] = [digest for digest in failed if digest not in known]
            rest_seconds = _RETRY_SECONDS if failed else _REST_SECONDS
            await self._sleep(max(rest_seconds, self._clock() - began_at))

    async def _give_way(self) -> None:
        """Wait while callers wait for the store, at most ``_MOST_RESTS`` times."""
        for _ in range(_MOST_RESTS):
            if not self._cache.is_asked:
                break
            await self._sleep(_REST_SECONDS)

    async def _confirm(self, digests: list[str]) -> list[str]:
        """Confirm these tokens; return those that the store did not answer."""
        answered = await asyncio.gather(*map(self._is_answered, digests))
        return [digest for digest, is_ok in zip(digests, answered, strict=True) if not is_ok]

    async def _is_answered(self, digest: str) -> bool:
        try:
            await self._cache.confirm(digest)
        except Fault:
            return False
        return True
