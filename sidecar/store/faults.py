"""Where the errors of Redis, redis-py and the network become ``StoreUnavailable``.

An error's own text is not passed on: Redis repeats the arguments of a command that it does not
know, and those of ``AUTH`` and ``HELLO`` are passwords. What is passed on is the error's code
(``LOADING``, ``WRONGPASS``, ...) with its meaning for an admin, or the error's class.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import hiredis
from redis import exceptions

from sidecar.core.errors import StoreUnavailable
from sidecar.store.budgets import limit

FAULTS = (
    exceptions.RedisError,
    exceptions.RedisClusterException,
    hiredis.HiredisError,
    hiredis.ReplyError,
    OSError,
    EOFError,
    TimeoutError,
)
"""All that a call to Redis raises when Redis, the network or a setting is at fault."""

_MEANINGS: Final = {
    "NOAUTH": "Redis wants a user or a password, and store.url has none",
    "WRONGPASS": "Redis does not accept the user or the password in store.url",
    "NOPERM": "Redis denies its user a command; docs/reference/redis.md lists what it needs",
    "LOADING": "Redis is loading its data",
    "READONLY": "the Redis that answers is a replica, not a master",
    "MASTERDOWN": "the Redis that answers is a replica, and its master is away",
    "CLUSTERDOWN": "the Cluster has no majority, or nobody serves some of its slots",
    "OOM": "Redis is out of memory: it answers, and takes no writes until maxmemory is raised",
    "MISCONF": "Redis can't write its data to disk, and takes no writes until it can",
    "NOREPLICAS": "Redis takes no writes, as fewer replicas are in sync than it shall have",
    "DENIED": "Redis is in protected mode, and talks to its own machine alone",
}
_CODES: Final = {
    exceptions.NoPermissionError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.OutOfMemoryError: "OOM",
}
_CLOSED: Final = (ConnectionResetError, BrokenPipeError)
_leading_code = re.compile(r"-?([A-Z]{3,20})(?= |$)").match
_forbidden = re.compile(r"to run the '([a-z|_-]{1,40})'").search


def describe(error: BaseException) -> str:
    """Describe an error without any argument of a command."""
    if isinstance(error, StoreUnavailable):
        return str(error)
    code = _code_of(error)
    if code is not None:
        meaning = _MEANINGS.get(code, "Redis answered an error")
        command = _forbidden(str(error)) if code == "NOPERM" else None
        return f"{meaning} ({code}{f' for {command[1]}' if command else ''})"
    cause = error.__cause__ or error.__context__
    if isinstance(error, exceptions.ConnectionError) and isinstance(cause, OSError):
        error = cause  # redis-py's error wraps this one
    return _describe_connection(error)


def _code_of(error: BaseException) -> str | None:
    """Return the code that an error reply begins with; redis-py removes some of them."""
    if isinstance(error, exceptions.AuthenticationError):
        return "NOAUTH" if "required" in str(error) else "WRONGPASS"
    if type(error) in _CODES:
        return _CODES[type(error)]
    if isinstance(error, hiredis.ReplyError | exceptions.ResponseError):
        found = _leading_code(str(error))
        return found[1] if found else "ERR"
    return None


def _describe_connection(error: BaseException) -> str:
    """Describe an error of the connection."""
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "Redis did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of Redis is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS with Redis fails ({error.reason}): does it speak TLS there, and which?"
    if isinstance(error, OSError) and error.errno and not isinstance(error, _CLOSED):
        return f"Redis can't be reached: {os.strerror(error.errno)}"
    if isinstance(error, ConnectionAbortedError):
        return "the connection to Redis was given up"
    if isinstance(error, (*_CLOSED, EOFError, exceptions.ConnectionError)):
        return "Redis closed the connection; does it want TLS (rediss://), or our certificate?"
    return f"Redis or the way to it failed: {type(error).__name__}"


@asynccontextmanager
async def budget(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the body (``budgets``); raise all of ``FAULTS`` as ``StoreUnavailable``."""
    try:
        async with limit(seconds):
            yield
    except FAULTS as error:
        raise StoreUnavailable(describe(error)) from None
