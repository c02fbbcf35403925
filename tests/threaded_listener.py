"""Accepts connections for tests' own servers, one thread each."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable


def accept_in_threads(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Have ``serve`` take each connection in a thread of its own, until ``listener`` is closed."""

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def close_listener(listener: socket.socket) -> None:
    """Close a listener, also one that a thread waits in."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
