"""The edge where the errors of Redis, its library and the network become ``StoreUnavailable``.

An error's own text is not passed on: Redis repeats the arguments of a command that it does not
know, and those of ``AUTH`` and ``HELLO`` are passwords. What is kept is the code (``LOADING``,
``WRONGPASS``, ...) or the error's class, which is what an admin needs.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hiredis
from redis.exceptions import OutOfMemoryError, RedisClusterException, RedisError

from sidecar.core.errors import StoreUnavailable

FAULTS = (
    RedisError,
    RedisClusterException,
    hiredis.HiredisError,
    hiredis.ReplyError,
    OSError,
    EOFError,
    TimeoutError,
)
"""Everything that a call to Redis raises when Redis, the network or a setting is at fault."""

_leading_code = re.compile(r"[A-Z]{3,20}(?= |$)").match


def describe(error: BaseException) -> str:
    """Say what is wrong in words that hold no argument of any command."""
    if isinstance(error, StoreUnavailable):
        return str(error)
    if isinstance(error, OutOfMemoryError):
        return "Redis is out of memory: it answers, and takes no writes until maxmemory is raised"
    if isinstance(error, hiredis.ReplyError):
        code = _leading_code(str(error))
        return f"Redis answered {code[0] if code else 'an error'}"
    if isinstance(error, TimeoutError):
        return "Redis did not answer in time"
    if isinstance(error, OSError) and error.errno:
        return f"Redis can't be reached: {os.strerror(error.errno)}"
    return f"Redis or the way to it failed: {type(error).__name__}"


@asynccontextmanager
async def budget(seconds: float) -> AsyncIterator[None]:
    """Bound the time of what runs inside, and let no error of Redis or its library out."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except FAULTS as error:
        raise StoreUnavailable(describe(error)) from None
