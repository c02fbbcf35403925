"""Look-ups of good tokens all the time, and what came of them while something was done to Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle

from sidecar.core.errors import StoreUnavailable
from sidecar.core.model import TokenRecord

LookUp = Callable[[str], Awaitable[TokenRecord | None]]


class Load:
    """Look-ups of records in turn, so many at a time, for as long as the block lasts.

    ``outcomes`` counts ``good``, ``unavailable`` and ``WRONG`` (no record, or another's).
    """

    def __init__(
        self, look_up: LookUp, records: Sequence[TokenRecord], concurrency: int = 64
    ) -> None:
        self._look_up = look_up
        self._records = cycle(records)
        self._concurrency = concurrency
        self._failing_since: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.slowest_seconds = 0.0
        self.longest_outage_seconds = 0.0
        """From a token's first refusal to its next good answer."""

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(self._concurrency)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            record = next(self._records)
            try:
                found = await self._look_up(record.digest)
            except StoreUnavailable:
                self.outcomes["unavailable"] += 1
                self._failing_since.setdefault(record.digest, started)
            else:
                self.outcomes["good" if found == record else "WRONG"] += 1
                began = self._failing_since.pop(record.digest, started)
                outage = loop.time() - began if began < started else 0.0
                self.longest_outage_seconds = max(self.longest_outage_seconds, outage)
            self.slowest_seconds = max(self.slowest_seconds, loop.time() - started)
            await asyncio.sleep(0.005)
