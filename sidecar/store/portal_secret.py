"""The key of the portal's session cookies, made by the first process and shared by all.

``{prefix}portal:secret``  32 random bytes, without a TTL

It is in Redis so that every worker and replica can read a cookie that another has set. Deleting it
signs everybody out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final, TypeGuard

from sidecar.core.errors import StoreUnavailable
from sidecar.store.commands import CommandRunner
from sidecar.store.faults import budget
from sidecar.store.store_url import parse_store_url
from sidecar.store.topology import RedisConnector

SECRET_BYTES: Final = 32


def connect_secret(url: str, *, prefix: str, budget_seconds: float = 0.25) -> RedisPortalSecret:
    """Return the secret in the Redis at ``url`` (as ``sidecar.store.redis.connect`` has it)."""
    connector = RedisConnector(parse_store_url(url), budget_seconds, f"{prefix}probe".encode())
    return RedisPortalSecret(connector, f"{prefix}portal:secret".encode(), budget_seconds)


class RedisPortalSecret:
    """``sidecar.portal.context.SharedSecret`` is its ``read``."""

    def __init__(self, connector: RedisConnector, key: bytes, budget_seconds: float) -> None:
        self._connector = connector
        self._key = key
        self._budget_seconds = budget_seconds
        self._commands = CommandRunner(connector.channel, budget_seconds)

    async def read(self) -> bytes:
        """Return the secret; make one if there is none. Raises ``StoreUnavailable``."""
        async with budget(self._budget_seconds):
            (found,) = await self._commands.get([self._key])
            if _is_secret(found):
                return found
            made = os.urandom(SECRET_BYTES)
            # Replace a foreign value, which would keep everybody out for ever.
            condition = () if found is not None else ("NX",)
            await self._commands.run(("SET", self._key, made, *condition))
            (found,) = await self._commands.get([self._key])
        if not _is_secret(found):
            raise StoreUnavailable("the portal's secret cannot be kept in Redis")
        return found

    async def close(self) -> None:
        """Release connections; idempotent."""
        with suppress(StoreUnavailable):
            async with budget(self._budget_seconds):
                await self._connector.close()


def _is_secret(value: bytes | None) -> TypeGuard[bytes]:
    return value is not None and len(value) == SECRET_BYTES
