"""Where the errors of Redis, redis-py and the network become ``StoreUnavailable``.

An error's own text is not passed on: Redis repeats the arguments of a command that it does not
know, and those of ``AUTH`` and ``HELLO`` are passwords. What is passed on is the error's code
(``LOADING``, ``WRONGPASS``, ...) with its meaning for an admin, or the error's class.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import hiredis
from redis import exceptions

from sidecar.core.errors import StoreUnavailable
from sidecar.core.os_errors import is_unknown_host, is_without_tls, reason_of
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

_TOO_OLD: Final = (
    "Redis does not know HELLO 3: it is older than version 6, or a proxy stands before it; the "
    "sidecar needs Redis 6 or later, or Valkey, without a proxy"
)
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
    "MOVED": "the Redis that answers is one node of a Cluster: use redis+cluster:// in store.url",
    "NOPROTO": _TOO_OLD,
    "WRONGTYPE": "a key under store.prefix is not the sidecar's: choose another store.prefix",
    "BUSY": "Redis is busy with a script that somebody runs (SCRIPT KILL ends it)",
}
_ERRORS: Final = {
    "unknown command hello": _TOO_OLD,
    "unknown command sentinel": (
        "what answers is no Sentinel: name their addresses (port 26379) in store.url"
    ),
    "unknown command": (
        "Redis does not know a command that the sidecar needs: it is older than version 6, or has "
        "the command renamed, or a proxy stands before it"
    ),
    "db index is out of range": (
        "this Redis has no database of the number in store.url (see its setting `databases`)"
    ),
    "select is not allowed in cluster": (
        "this Redis is part of a Cluster, which has database 0 alone: use redis+cluster://"
    ),
    "cluster support disabled": (
        "this Redis is not part of a Cluster: write redis:// instead of redis+cluster://"
    ),
    "without any password configured": "store.url has a password, and this Redis has none set",
    "no password is set": "store.url has a password, and this Redis has none set",
    "max number of clients": "Redis has as many connections as its maxclients allows",
}
"""What the first of these texts in an error without a code of its own means. The rest of the error
may quote arguments."""
_UNKNOWN: Final = "Redis answered an error"
_WITHOUT_QUOTES: Final = str.maketrans("", "", "'`\"")
_CODES: Final = {
    exceptions.NoPermissionError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.OutOfMemoryError: "OOM",
}
_TLS: Final = "TLS"
_SPEAKERS: Final = {
    "H": "an HTTP server",
    "<": "an HTTP server",
    "S": "an SSH server",
    "E": "memcached or PostgreSQL",
    r"\x15": _TLS,
    r"\x16": _TLS,
}
_first_byte: Final = re.compile(r"got \"(.+?)\" as reply type|Error: b?'(\\\\x..|.)").search
_CLOSED: Final = (ConnectionResetError, BrokenPipeError)
_leading_code = re.compile(r"-?([A-Z]{3,20})(?= |$)").match
_forbidden = re.compile(r"to run the '([a-z|_-]{1,40})'").search


def describe(error: BaseException) -> str:
    """Describe an error without any argument of a command."""
    if isinstance(error, StoreUnavailable):
        return str(error)
    code = _code_of(error)
    if code is not None:
        meaning = _MEANINGS.get(code) or _meaning_of(str(error))
        command = _forbidden(str(error)) if code == "NOPERM" else None
        return f"{meaning} ({code}{f' for {command[1]}' if command else ''})"
    cause = error.__cause__ or error.__context__
    if isinstance(error, exceptions.ConnectionError) and isinstance(cause, OSError):
        error = cause  # redis-py's error wraps this one
    return _describe_connection(error)


def _meaning_of(text: str) -> str:
    """Return what an error without a code of its own means, without its arguments."""
    plain = text.lower().translate(_WITHOUT_QUOTES)
    return next((meaning for part, meaning in _ERRORS.items() if part in plain), _UNKNOWN)


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
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of Redis is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return _describe_tls(error)
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "Redis did not answer in time"
    if isinstance(error, hiredis.ProtocolError | exceptions.InvalidResponse):
        return _describe_protocol(str(error))
    if isinstance(error, OSError) and is_unknown_host(error):
        return f"the host name in store.url can't be looked up: {reason_of(error)}"
    if isinstance(error, OSError) and error.errno and not isinstance(error, _CLOSED):
        return f"Redis can't be reached: {reason_of(error)}"
    if isinstance(error, ConnectionAbortedError):
        return "the connection to Redis was given up"
    if isinstance(error, (*_CLOSED, EOFError, exceptions.ConnectionError)):
        return "Redis closed the connection; does it want TLS (rediss://), or our certificate?"
    return f"Redis or the way to it failed: {type(error).__name__}"


def _describe_tls(error: ssl.SSLError) -> str:
    if is_without_tls(error):
        return (
            "what answers speaks no TLS: write redis:// instead of rediss://, or correct the port "
            f"in store.url ({error.reason})"
        )
    return f"TLS with Redis fails ({error.reason}): does it speak TLS there, and which?"


def _describe_protocol(text: str) -> str:
    """Describe bytes that are no reply of Redis; the first one tells what they probably are."""
    found = _first_byte(text)
    speaker = _SPEAKERS.get(found[1], "") if found is not None else ""
    if speaker == _TLS:
        return "what answers speaks TLS: write rediss:// instead of redis:// in store.url"
    known = f"but perhaps {speaker}" if speaker else "and another program"
    return f"what answers is not Redis, {known}: correct the host and port in store.url"


@asynccontextmanager
async def budget(seconds: float) -> AsyncIterator[None]:
    """Limit the time of the body (``budgets``); raise all of ``FAULTS`` as ``StoreUnavailable``."""
    try:
        async with limit(seconds):
            yield
    except FAULTS as error:
        raise StoreUnavailable(describe(error)) from None
