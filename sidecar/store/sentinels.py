"""Which Redis is the master, according to the Sentinels, and how to leave a former master.

All Sentinels are asked at once. The answer of the one that knows the latest fail-over (by its
*configuration epoch*) counts: a Sentinel that was cut off would send us to a former master. A
majority of answers suffices, as some member of any majority took part in the latest fail-over; the
other Sentinels get half a budget.

A former master that was suspended and wakes up acts as a master for some seconds, until the
Sentinels demote it. So the Sentinels are asked again once a link is up, and twice a second from
then on: when they name another master, all connections to the former one are closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from sidecar.core.errors import StoreUnavailable
from sidecar.store.budgets import limit
from sidecar.store.commands import PipelineChannel
from sidecar.store.endpoints import Endpoint
from sidecar.store.faults import FAULTS, describe
from sidecar.store.redis_link import RedisLink

_log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 0.5
_QUESTIONS: Final = ("GET-MASTER-ADDR-BY-NAME", "MASTER")


class Sentinels(Sentinel):
    """redis-py's Sentinels, which its connections ask for the master, with our way of asking."""

    def __init__(self, clients: Sequence[Redis], service: str, budget_seconds: float) -> None:
        """Each of ``clients`` is connected to one Sentinel."""
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = [*clients]
        self._service = service
        self._budget_seconds = budget_seconds
        self._watching: asyncio.Task[None] | None = None

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the master's host and port; ``StoreUnavailable`` if no Sentinel names one."""
        master = await self.find_master()
        return master.host, master.port

    async def find_master(self) -> Endpoint:
        """Return where the master is; ``StoreUnavailable`` if no Sentinel names one."""
        asked = {asyncio.ensure_future(self._ask(client)) for client in self.sentinels}
        late, named, reasons = asked, list[tuple[int, Endpoint]](), set[str]()
        with suppress(TimeoutError):
            async with limit(self._budget_seconds / 2):
                while late and len(named) <= len(asked) // 2:
                    done, late = await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
                    for answer in (task.result() for task in done):
                        named.append(answer) if isinstance(answer, tuple) else reasons.add(answer)
        for task in late:
            task.cancel()
        if named:
            return max(named, key=lambda answer: answer[0])[1]
        told = "; ".join(sorted(reasons)) or "none answers in time"
        raise StoreUnavailable(f"no Sentinel names the master: {told}")

    async def _ask(self, client: Redis) -> tuple[int, Endpoint] | str:
        """Return the configuration epoch and the master, or a description of the error."""
        channel = PipelineChannel(client)
        questions = [("SENTINEL", what, self._service) for what in _QUESTIONS]
        try:
            address, flat = await channel.exchange(questions)
            for reply in (address, flat):
                if isinstance(reply, Exception):
                    raise reply
            if address is None:
                return f"they know no master named {self._service}"
            state = dict(zip(flat[::2], flat[1::2], strict=True))
            return int(state[b"config-epoch"]), Endpoint(address[0].decode(), int(address[1]))
        except FAULTS as error:
            if "No such master" in str(error):
                return f"they know no master named {self._service}"
            return describe(error)
        except (TypeError, ValueError, KeyError):
            return "what answers is no Sentinel"

    async def confirm(self, master: Endpoint) -> None:
        """Raise ``StoreUnavailable`` if the Sentinels now name another master."""
        if await self.find_master() != master:
            raise StoreUnavailable("the Sentinels have just named another master")

    def stay_at(
        self, master: Endpoint, link: RedisLink, leave: Callable[[], Awaitable[None]]
    ) -> None:
        """Close a link when the Sentinels name another master; call ``leave`` once it is closed.

        While no Sentinel answers, the link stays open.
        """
        if self._watching is not None:
            self._watching.cancel()
        watch = self._watch(master, link, leave)
        self._watching = asyncio.get_running_loop().create_task(watch)

    async def _watch(
        self, master: Endpoint, link: RedisLink, leave: Callable[[], Awaitable[None]]
    ) -> None:
        while not link.is_closed:
            await asyncio.sleep(WATCH_SECONDS)
            with suppress(StoreUnavailable):
                named = await self.find_master()
                if named != master:
                    link.abort()
                    _log.warning("the Sentinels name another master: %s:%d", named.host, named.port)
        await leave()

    async def close(self) -> None:
        """Close the connections to the Sentinels. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for client in self.sentinels:
            await client.aclose()
