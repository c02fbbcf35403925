"""Tokens remembered for an outage are looked up again as soon as the store is back.

Changes made while the store was away were never told, so a token that is not read again keeps the
end that the outage gave it (``outage_memory``). Reading it here gives it a whole ``outage_grace``
in the next outage, whether a caller uses it in between or not, and forgets it at once if it is
gone. What is not reached in time keeps its old end.

Callers come first. At most ``_AT_ONCE`` look-ups are under way; before each such batch it waits
until no caller is waiting for the store, though not for long, so that a flood of look-ups can't
prevent it; after each batch it rests at least as long as the batch took, so a store that has much
to do is asked less. The tokens kept last are asked for first. It ends when the watch is lost, or
when the cache is full: callers' tokens are never displaced.
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
"""So often a batch gives way to callers, a rest each time: 50 ms."""
_RETRY_SECONDS: Final = 0.1
_MOST_FAILURES: Final = 10


class Remembering(Protocol):
    """What is asked of a ``store.cache.TokenCache``, which says more of each."""

    @property
    def is_asked(self) -> bool:
        """Tell whether anyone waits for the store."""

    @property
    def may_confirm(self) -> bool:
        """Tell whether ``confirm`` is of use."""

    def remembered(self) -> list[str]:
        """Return the tokens that are remembered for an outage, those kept last at the end."""

    async def confirm(self, digest: str) -> None:
        """Ask the store about a token and keep its answer; raises a ``Fault`` without one."""


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
        """Start with all that is remembered now; call it just before the cache's ``on_watching``,
        which drops what is too old to serve.
        """
        self._left = self._cache.remembered()
        self._is_due.set()

    async def run(self) -> None:
        """Look up what is remembered each time the store is back, until cancelled."""
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
        """Wait while callers wait for the store, within reason."""
        for _ in range(_MOST_RESTS):
            if not self._cache.is_asked:
                break
            await self._sleep(_REST_SECONDS)

    async def _confirm(self, digests: list[str]) -> list[str]:
        """Have the cache ask for these; return those that the store gave no answer to."""
        answered = await asyncio.gather(*map(self._is_answered, digests))
        return [digest for digest, is_ok in zip(digests, answered, strict=True) if not is_ok]

    async def _is_answered(self, digest: str) -> bool:
        try:
            await self._cache.confirm(digest)
        except Fault:
            return False
        return True
