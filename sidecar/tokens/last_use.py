"""Records when and from where each token was last used: noted in memory, written in batches.

A token is noted once a minute; its further requests in that minute cost one look-up in a set. It is
acceptable to lose last uses: nothing is retried for long, and nothing grows beyond its bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import time
from typing import Final

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import LastUse, Uses

MOST_TOKENS: Final = 100_000
_NOTED_ONCE_SECONDS: Final = 60.0
_MOST_IN_GROUP: Final = 256

_log = logging.getLogger("sidecar")


class LastUses:
    """Gathers last uses and hands them to ``record_use`` every ``interval_seconds``.

    ``now`` gives Unix seconds. Belongs to one event loop.
    """

    def __init__(
        self,
        record_use: Callable[[Uses], Awaitable[None]],
        *,
        now: Callable[[], float] = time,
        interval_seconds: float = 5.0,
        most_tokens: int = MOST_TOKENS,
    ) -> None:
        self._record_use = record_use
        self._now = now
        self._interval_seconds = interval_seconds
        self._most_tokens = most_tokens
        self._noted: set[str] = set()
        self._noted_until = 0.0
        self._pending: list[_Group] = []
        self._pending_tokens = 0
        self._latest: dict[str, _Group] = {}  # by client, since the last flush
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<LastUses noted={len(self._noted)} pending={self._pending_tokens}>"

    def note(self, digest: str, client: str) -> None:
        """Note that a client at this address was let through with the token of this digest."""
        if digest not in self._noted:
            self._note_first(digest, client)

    def _note_first(self, digest: str, client: str) -> None:
        if len(self._noted) >= self._most_tokens:
            self._noted.clear()
        self._noted.add(digest)
        now, group = self._now(), self._latest.get(client)
        if group is None or not group.takes(now):
            group = self._latest[client] = _Group(int(now), client)
            self._pending.append(group)
        group.digests.append(digest)
        self._pending_tokens += 1
        if self._pending_tokens > self._most_tokens:
            self._drop_oldest()

    async def run(self) -> None:
        """Write the noted uses at each interval, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Write the pending uses; keep those that can't be written now, as far as there is room."""
        now = self._now()
        if now >= self._noted_until:
            self._noted.clear()
            self._noted_until = now + _NOTED_ONCE_SECONDS
        if not self._pending:
            return
        batch, self._pending = self._pending, []
        written, self._pending_tokens = self._pending_tokens, 0
        self._latest = {}
        try:
            await self._record_use([(LastUse(g.at, g.client), g.digests) for g in batch])
            self._is_failing = False
        except StoreUnavailable as fault:
            self._log_failure(fault)
            self._pending = batch + self._pending
            self._pending_tokens += written
            self._drop_oldest()

    async def close(self) -> None:
        """Write the pending uses a last time."""
        await self.flush()

    def _drop_oldest(self) -> None:
        """Drop the oldest uses, a group at a time, until there is room."""
        dropped = 0
        while self._pending_tokens > self._most_tokens:
            self._pending_tokens -= len(self._pending[dropped].digests)
            dropped += 1
        for group in self._pending[:dropped]:
            if self._latest.get(group.client) is group:
                del self._latest[group.client]
        del self._pending[:dropped]

    def _log_failure(self, fault: StoreUnavailable) -> None:
        """Log the first of several failures in a row."""
        if not self._is_failing:
            _log.warning("last uses can't be written yet: %s", fault)
        self._is_failing = True


class _Group:
    """The tokens that one client used in the same second, the precision that is stored."""

    __slots__ = ("at", "client", "digests")

    def __init__(self, at: int, client: str) -> None:
        self.at = at
        self.client = client
        self.digests: list[str] = []

    def takes(self, now: float) -> bool:
        """Tell whether a token that is used now belongs to this group, and fits."""
        return int(now) == self.at and len(self.digests) < _MOST_IN_GROUP
