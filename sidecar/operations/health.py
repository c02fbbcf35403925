"""Whether this process is ready for requests, and if not, why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sidecar.core.errors import Fault

DRAINING = "draining: the process finishes what runs and takes nothing new"


class Health:
    """Answers readiness probes by the state of the store and of the process.

    ``ping`` returns if the store works, and raises ``StoreUnavailable`` otherwise. It is called at
    most once every ``max_age_seconds``, however many probes there are.
    """

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        is_draining: Callable[[], bool],
        *,
        max_age_seconds: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ping = ping
        self._is_draining = is_draining
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._lock = asyncio.Lock()
        self._store_fault: str | None = None
        self._valid_until = float("-inf")

    async def store_ready(self) -> bool:
        """Return whether the store answered the last ping."""
        return await self._find_store_fault() is None

    async def reasons(self) -> list[str]:
        """Return why the process is not ready, in words for admins; empty if it is ready."""
        reasons = [DRAINING] if self._is_draining() else []
        store_fault = await self._find_store_fault()
        return reasons if store_fault is None else [*reasons, store_fault]

    async def why_not_ready(self) -> str | None:
        """Return the code of what keeps the process from serving; ``None`` if it is ready."""
        if self._is_draining():
            return "draining"
        return None if await self.store_ready() else "store_unavailable"

    async def _find_store_fault(self) -> str | None:
        async with self._lock:
            if self._clock() >= self._valid_until:
                self._store_fault = await self._ask_store()
                self._valid_until = self._clock() + self._max_age_seconds
            return self._store_fault

    async def _ask_store(self) -> str | None:
        try:
            await self._ping()
        except Fault as fault:
            return f"store_unavailable: {fault}"
        return None
