"""What goes wrong with Redis is told with what to do about it, and never with an argument."""

from __future__ import annotations

import socket

import hiredis
import pytest
from redis import exceptions

from sidecar.store.faults import describe

SECRET = "s3cr3t-passw0rd"

# What Redis or the network says, and a part of what the admin reads.
CASES: list[tuple[BaseException, str]] = [
    *(
        (kind(text), told)
        for kind in (hiredis.ReplyError, exceptions.ResponseError)
        for text, told in (
            (
                f"ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `{SECRET}`, ",
                "older than version 6, or a proxy stands before it",
            ),
            ("ERR unknown command 'HELLO'", "older than version 6"),
            ("NOPROTO unsupported protocol version", "older than version 6"),
            ("ERR unknown command 'MGET'", "does not know a command that the sidecar needs"),
            ("ERR DB index is out of range", "no database of the number in store.url"),
            ("ERR SELECT is not allowed in cluster mode", "use redis+cluster://"),
            ("ERR This instance has cluster support disabled", "write redis:// instead"),
            ("ERR AUTH <password> called without any password configured", "has none set"),
            ("ERR Client sent AUTH, but no password is set", "has none set"),
            ("ERR max number of clients reached", "maxclients"),
            ("ERR unknown command 'SENTINEL', with args", "what answers is no Sentinel"),
            (f"ERR something about {SECRET}", "Redis answered an error (ERR)"),
            ("MOVED 1234 10.0.0.1:6379", "use redis+cluster:// in store.url (MOVED)"),
            ("WRONGTYPE Operation against a key", "choose another store.prefix (WRONGTYPE)"),
            ("BUSY Redis is busy running a script", "SCRIPT KILL"),
        )
    ),
    *(
        (kind(f'Protocol error, got "{byte}" as reply type byte'), told)
        for kind in (hiredis.ProtocolError, exceptions.InvalidResponse)
        for byte, told in (
            ("H", "what answers is not Redis, but perhaps an HTTP server"),
            ("<", "what answers is not Redis, but perhaps an HTTP server"),
            ("S", "what answers is not Redis, but perhaps an SSH server"),
            (r"\x15", "what answers speaks TLS: write rediss://"),
            ("Z", "what answers is not Redis, and another program: correct the host and port"),
        )
    ),
    (socket.gaierror(-2, "Name or service not known"), "the host name in store.url can't be"),
    (socket.gaierror(-3, "Temporary failure"), "the name server does not answer"),
    (ConnectionRefusedError(111, "Connect call failed ('h', 1)"), "reached: Connection refused"),
    (FileNotFoundError(2, "No such file"), "reached: No such file or directory"),
    (ConnectionResetError(), "does it want TLS (rediss://)"),
    (TimeoutError(), "did not answer in time"),
]


@pytest.mark.parametrize(("error", "told"), CASES, ids=lambda value: str(value)[:50])
def test_a_fault_is_told_with_what_to_do(error: BaseException, told: str) -> None:
    sentence = describe(error)
    assert told in sentence
    assert SECRET not in sentence
    assert "Errno" not in sentence
    assert "Unknown error" not in sentence


def test_a_fault_that_the_library_wraps_is_told_too() -> None:
    wrapped = exceptions.ConnectionError("Error -2 connecting to h:6379.")
    wrapped.__cause__ = socket.gaierror(-2, "Name or service not known")
    assert "there is no host of this name" in describe(wrapped)
