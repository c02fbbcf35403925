"""A time limit is up only after the loop has looked at its sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import uvloop

from sidecar.timeouts import DueCall, timeout

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
NewLoop = Callable[[], asyncio.AbstractEventLoop]


def run(new_loop: NewLoop, main: Callable[[socket.socket, socket.socket], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner, _pair() as (ours, theirs):

        async def call() -> None:
            await main(ours, theirs)

        runner.run(call())


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_arrived_while_the_loop_was_busy_is_no_time_out(new_loop: NewLoop) -> None:
    async def main(ours: socket.socket, theirs: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=ours)

        async def read() -> bytes:
            async with timeout(0.02):
                return await reader.read(10)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        theirs.send(b"an answer")
        time.sleep(0.1)  # the loop is busy, far beyond the limit
        assert await reading == b"an answer"
        writer.close()

    run(new_loop, main)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_does_not_arrive_is_a_time_out(new_loop: NewLoop) -> None:
    async def main(ours: socket.socket, theirs: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        with pytest.raises(TimeoutError):
            async with timeout(0.02):
                await reader.read(10)
        writer.close()

    run(new_loop, main)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_cancelled_call_never_comes(new_loop: NewLoop) -> None:
    async def main(ours: socket.socket, theirs: socket.socket) -> None:
        calls: list[str] = []
        loop = asyncio.get_running_loop()
        kept = DueCall(loop, 0.0, lambda: calls.append("kept"))
        for steps in range(3):  # wherever it is on its way
            call = DueCall(loop, 0.0, lambda: calls.append("cancelled"))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
        await asyncio.sleep(0.01)
        assert calls == ["kept"]
        kept.cancel()

    run(new_loop, main)
