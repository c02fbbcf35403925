"""What answers at an address where something went wrong: TLS, Redis, or something else."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

_SECONDS: Final = 1.0
_MOST_BYTES: Final = 512
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake: RFC 8446 section 5.1


async def speaks_tls(host: str, port: int) -> bool:
    """Tell whether a TLS handshake succeeds or is refused in TLS; certificates are not verified."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def answers_ping(host: str, port: int) -> bool:
    """Tell whether a Redis answers there, without TLS: with a greeting or with an error."""
    answer = await _answer(host, port, b"PING\r\n")
    return answer is not None and answer[:1] in (b"+", b"-")


async def wants_tls(host: str, port: int) -> bool:
    """Tell whether a server of HTTPS answers there; asks it in plain HTTP first.

    Servers say so in several ways: in TLS, in plain HTTP (nginx, Go), or by closing the connection.
    One that answers in HTTP, or not yet, is not asked again.
    """
    question = b"OPTIONS * HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host.encode()
    answer = await _answer(host, port, question)
    if answer is None or (answer and b"HTTPS" not in answer and answer[:2] not in _TLS_RECORDS):
        return False
    return await speaks_tls(host, port)


async def _answer(host: str, port: int, question: bytes) -> bytes | None:
    """Return the first bytes of an answer, none at the end; ``None`` if nothing comes in time."""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            with contextlib.closing(writer):
                writer.write(question)
                return await reader.read(_MOST_BYTES)
    except ConnectionError:
        return b""
    except (OSError, TimeoutError):
        return None
