"""The messages between the supervisor and a worker, and their frames.

A message is a tuple: its name, then its values. It is serialised with ``marshal``, which covers
plain values and tuples of them, and preceded by its length. The other end is always this program,
or the version before or after it: unknown names are ignored, and the format stays as it is.

====================  =========================================================================
worker to supervisor
``ready``             it accepts connections
``failed`` text       it can't start, and why
``beat`` counts       it is alive, and what it has counted so far
``ask`` number        it wants the status of all workers
``report`` number …   its status: counts and gauges, why it is not ready, its configuration
``closed``            it no longer accepts callers
``reloaded``          the configuration was read again
supervisor to worker
``ask`` number        it is to report
``told`` number …     the status of all workers
``slots`` numbers     slots without a worker of their own, whose connections it is to accept
``reload``, ``reopen``  as on SIGHUP and SIGUSR1
``retire``            another has taken its place: accept nothing more and finish what runs
====================  =========================================================================
"""

from __future__ import annotations

import marshal
import socket
from typing import Any, Final

Message = tuple[Any, ...]

_LENGTH_BYTES: Final = 4
_FORMAT: Final = 4  # every Python from 3.4 on reads it
_PIECE_BYTES: Final = 1 << 18
MOST_BYTES: Final = 1 << 28


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    body = marshal.dumps(message, _FORMAT)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class Frames:
    """Assembles messages from bytes as they come. ``rest`` holds an incomplete frame."""

    def __init__(self, rest: bytes = b"") -> None:
        self.rest = rest

    def receive(self, data: bytes) -> list[Message]:
        """Return the messages that ``data`` completes. Raises ``ValueError`` for anything else."""
        self.rest += data
        messages = []
        while (end := self._end()) and len(self.rest) >= end:
            # Only the other end of a socketpair that was never given a name can have sent it.
            message = marshal.loads(self.rest[_LENGTH_BYTES:end])  # noqa: S302
            self.rest = self.rest[end:]
            if not isinstance(message, tuple) or not message:
                raise ValueError("not a message")
            messages.append(message)
        return messages

    def _end(self) -> int:
        if len(self.rest) < _LENGTH_BYTES:
            return 0
        length = int.from_bytes(self.rest[:_LENGTH_BYTES], "big")
        if length > MOST_BYTES:
            raise ValueError("not a frame")
        return _LENGTH_BYTES + length


class WorkerChannel:
    """The supervisor's end, which never blocks. ``rest`` and ``unsent`` resume an earlier one."""

    def __init__(self, sock: socket.socket, rest: bytes = b"", unsent: bytes = b"") -> None:
        sock.setblocking(False)
        self.sock = sock
        self.unsent = unsent
        self.frames = Frames(rest)
        self.is_open = True

    def send(self, *message: object) -> None:
        """Send a message, or as much of it as can be sent now."""
        self.unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what is waiting, as far as possible."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return
        except OSError:  # ``receive`` finds out that the other end has gone
            self.unsent = b""

    def receive(self) -> list[Message]:
        """Return what has come; ``is_open`` is false once nothing more can."""
        messages: list[Message] = []
        try:
            while data := self.sock.recv(_PIECE_BYTES):
                messages += self.frames.receive(data)
            self.is_open = False
        except BlockingIOError:
            pass
        except (OSError, ValueError, EOFError, TypeError):
            self.is_open = False
        return messages

    def close(self) -> None:
        """Close the socket."""
        self.is_open = False
        self.sock.close()
