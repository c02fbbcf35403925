"""TCP ports for the programs that tests start.

A port that the system chooses may be given to somebody's outgoing connection before the program
listens on it. So ports come from below the range of those (``ip_local_port_range``), and each is
reserved for a while among all processes that run tests: by a unix socket without a file
(unix(7), "abstract"), which vanishes with its process.
"""

from __future__ import annotations

import random
import socket
from collections import deque

_FIRST, _LAST = 10_000, 19_999  # a node of a Cluster listens on a port 10,000 above too
_MOST_RESERVED = 256

_reserved: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a TCP port that nobody listens on, and that no other test is given meanwhile."""
    while True:
        port = random.randint(_FIRST, _LAST)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0sidecar tests {port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        _reserved.append(mark)
        if len(_reserved) > _MOST_RESERVED:
            _reserved.popleft().close()
        return port
