"""What an error of the operating system means, in words without numbers, addresses or file names.

``str`` of one is ``[Errno 111] Connect call failed ('127.0.0.1', 1)``, ``[Errno 2] No such file or
directory: '…'`` or ``Multiple exceptions: …``, depending on who raised it.
"""

from __future__ import annotations

import os
import re
from typing import Final

_NO_NAME: Final = frozenset({-2, -5})  # EAI_NONAME, EAI_NODATA: see gai_strerror(3)
_AGAIN: Final = -3
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}
)
"""What OpenSSL says of an answer that is no TLS at all."""
_number_in: Final = re.compile(r"\[Errno (-?[0-9]+)\]").search


def reason_of(error: OSError) -> str:
    """Return the reason in a few words, such as ``Connection refused``; never empty."""
    tls = getattr(error, "reason", None)
    if isinstance(tls, str):
        return _reason_of_tls(tls, getattr(error, "verify_message", ""))
    number = error.errno
    if number is None and (found := _number_in(str(error))) is not None:
        number = int(found[1])  # of several attempts, the first
    if number is not None and number < 0:
        return _reason_of_look_up(number, error)
    if number:
        return os.strerror(number)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionError):
        return "the connection was closed"
    return error.strerror or type(error).__name__


def is_unknown_host(error: OSError) -> bool:
    """Tell whether a host name could not be turned into an address."""
    return error.errno is not None and error.errno < 0


def is_without_tls(error: OSError) -> bool:
    """Tell whether the answer to a TLS handshake was no TLS."""
    return getattr(error, "reason", None) in _NOT_TLS


def _reason_of_tls(reason: str, verify_message: str) -> str:
    if verify_message:
        return f"its certificate is not valid ({verify_message.rstrip('.')})"
    if reason in _NOT_TLS:
        return "it does not speak TLS on this port"
    return f"TLS failed ({reason})"


def _reason_of_look_up(number: int, error: OSError) -> str:
    """The errors of ``getaddrinfo`` have negative numbers, and ``os.strerror`` knows none."""
    if number in _NO_NAME:
        return "there is no host of this name"
    if number == _AGAIN:
        return "the name server does not answer"
    return error.strerror or "the host name can't be looked up"
