"""An address that drops packets: a socket that listens, never accepts, and whose queue is full."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def silent_address(host: str, port: int = 0) -> Iterator[int]:
    """Hold such an address while the block runs; yield its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        address: tuple[Any, ...] = listener.getsockname()
        while not _is_full(address, family, stack):
            pass
        yield int(address[1])


def _is_full(
    address: tuple[Any, ...], family: socket.AddressFamily, stack: contextlib.ExitStack
) -> bool:
    """Put one more connection into the queue, and keep it; tell whether it had no room."""
    filler = stack.enter_context(socket.socket(family))
    filler.settimeout(0.2)
    try:
        filler.connect(address)
    except TimeoutError:
        return True
    return False
