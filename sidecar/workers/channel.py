"""The messages between the supervisor and a worker, and their frames.

A message is a tuple: its name, then its values. A frame is the length of the message in four bytes
and the message as ``marshal`` writes it. During an upgrade, the other end may be the version before
or after this one: both ignore names that they do not know, and the format never changes.

====================  =========================================================================
worker to supervisor
``ready``             it accepts connections
``failed`` text       it can't start, for this reason
``beat`` counts       it is alive; what it has counted so far, or nothing
``ask`` number        it wants the status of all workers
``report`` number …   its status: counts and gauges, why it is not ready, its configuration
``closed``            it no longer accepts connections
``reloaded``          it has read the configuration again
supervisor to worker
``ask`` number        report
``told`` number …     the status of all workers
``slots`` numbers     accept the connections of these slots, which have no worker, as well
``reload``, ``reopen``  do what SIGHUP and SIGUSR1 ask for
``retire``            another worker has taken over: accept nothing more, finish, and end
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
    """Assembles messages from a stream of bytes. ``rest`` holds the incomplete frame at its end."""

    def __init__(self, rest: bytes = b"") -> None:
        self.rest = rest

    def receive(self, data: bytes) -> list[Message]:
        """Return the messages that ``data`` completes. Raises ``ValueError`` for a bad frame."""
        self.rest += data
        messages = []
        while (end := self._end()) and len(self.rest) >= end:
            # Only the other end of the socketpair can have sent it, and that is a worker of ours.
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
    """The supervisor's end of a socketpair; it never blocks.

    ``rest`` and ``unsent`` continue the channel of the program before, on the same socket.
    """

    def __init__(self, sock: socket.socket, rest: bytes = b"", unsent: bytes = b"") -> None:
        sock.setblocking(False)
        self.sock = sock
        self.unsent = unsent
        self.frames = Frames(rest)
        self.is_open = True

    def send(self, *message: object) -> None:
        """Send a message, or queue what the socket does not take now."""
        self.unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send as much of the queued data as the socket takes."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return
        except OSError:  # ``receive`` notices that the other end is closed
            self.unsent = b""

    def receive(self) -> list[Message]:
        """Return the messages that have arrived; clear ``is_open`` at the end of the stream."""
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
