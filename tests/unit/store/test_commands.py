"""What the library and the loop raise of their own is told as Redis being away."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from sidecar.core.errors import StoreUnavailable
from sidecar.store.commands import CommandRunner, PipelineChannel


class ClosedPipeline:
    """One whose connection was closed as it was about to write, as uvloop puts it."""

    def execute_command(self, *_: object) -> None:
        """Take a command."""

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")


class ClosedClient:
    """A client whose connections are all closed."""

    def pipeline(self, *, transaction: bool) -> ClosedPipeline:
        assert not transaction
        return ClosedPipeline()


async def test_a_connection_closed_under_the_library_is_redis_being_away() -> None:
    commands = CommandRunner(PipelineChannel(cast(Redis, ClosedClient())), 1.0)
    with pytest.raises(StoreUnavailable, match="closed the connection"):
        await commands.run(("GET", "a"))
    with pytest.raises(StoreUnavailable, match="closed the connection"):
        await commands.get([b"a"])
