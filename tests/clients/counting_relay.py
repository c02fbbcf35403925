"""A port in front of the sidecar that passes bytes on and counts the connections made to it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from tests.threaded_listener import accept_in_threads, close_listener

_PIECE_BYTES: Final = 64 * 1024


class CountingRelay:
    """Tells by ``connections`` how many a client needed, which the sidecar's answers do not."""

    def __init__(self, target_port: int) -> None:
        self.connections = 0
        self._lock = threading.Lock()
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        accept_in_threads(self._listener, self._serve)

    def close(self) -> None:
        close_listener(self._listener)

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self.connections += 1
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
